//! Zigzag varints, and a cursor that never reads past its bytes.

/// The most bytes that a varint of 64 bits takes.
const MAX_VARINT_BYTES: usize = 10;

/// Appends a zigzag varint.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that [`put`] appends, 1 to 10.
pub(super) fn encoded_len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// A place in bytes. Every read says what was missing instead of going past the end.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn u8(&mut self) -> Result<u8, &'static str> {
        let byte = *self.bytes.get(self.at).ok_or("it ends too early")?;
        self.at += 1;
        Ok(byte)
    }

    /// A zigzag varint of 64 bits.
    #[inline]
    pub(super) fn varlong(&mut self) -> Result<i64, &'static str> {
        let first = self.u8()?;
        let mut value = u64::from(first & 0x7f);
        let mut last = first;
        for place in 1..MAX_VARINT_BYTES {
            if last < 0x80 {
                break;
            }
            last = self.u8()?;
            value |= u64::from(last & 0x7f) << (7 * place);
        }
        if last >= 0x80 {
            return Err("a varint has more than ten bytes");
        }
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A zigzag varint of 32 bits.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<i32, &'static str> {
        self.varlong()?.try_into().map_err(|_| "a varint exceeds 32 bits")
    }

    /// A length and the range of so many bytes; `None` for a length of -1, which is a null.
    #[inline]
    pub(super) fn nullable(&mut self) -> Result<Option<std::ops::Range<usize>>, &'static str> {
        match self.varint()? {
            -1 => Ok(None),
            len => self.take(len).map(Some),
        }
    }

    /// The range of the next `len` bytes.
    #[inline]
    pub(super) fn take(&mut self, len: i32) -> Result<std::ops::Range<usize>, &'static str> {
        let len = usize::try_from(len).map_err(|_| "a length is negative")?;
        if len > self.remaining() {
            return Err("a length goes past the end");
        }
        let start = self.at;
        self.at += len;
        Ok(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varint_round_trips_in_the_announced_length(value in any::<i64>()) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), encoded_len(value));
            let mut cursor = Cursor::new(&out, 0);
            prop_assert_eq!(cursor.varlong(), Ok(value));
            prop_assert_eq!(cursor.remaining(), 0);
        }

        #[test]
        fn varint_cut_anywhere_is_an_error(value in any::<i64>()) {
            let mut out = Vec::new();
            put(&mut out, value);
            for len in 0..out.len() {
                prop_assert!(Cursor::new(&out[..len], 0).varlong().is_err());
            }
        }
    }

    #[test]
    fn varint_of_more_than_ten_bytes_is_refused() {
        assert!(Cursor::new(&[0x80; 11], 0).varlong().is_err());
    }

    #[test]
    fn varint_above_32_bits_is_no_length() {
        let mut out = Vec::new();
        put(&mut out, i64::from(i32::MAX) + 1);
        assert!(Cursor::new(&out, 0).varint().is_err());
    }
}
