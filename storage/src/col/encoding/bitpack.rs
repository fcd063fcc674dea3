//! Bit-packing: `n` numbers of `width` bits each, one after the other, least significant bit first, in
//! `ceil(n * width / 8)` bytes.

use crate::container::{Cursor, Malformed};

/// Bits that `max` needs, 0 to 64.
pub(super) fn width_of(max: u64) -> u32 {
    u64::BITS - max.leading_zeros()
}

/// Bytes that `n` numbers take.
pub(super) fn packed_len(n: usize, width: u32) -> usize {
    (n * width as usize).div_ceil(8)
}

/// Appends `values`, each of which fits `width` bits.
pub(super) fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let (mut pending, mut bits) = (0_u64, 0_u32);
    for value in values {
        debug_assert!(width_of(value) <= width);
        pending |= value << bits;
        bits += width;
        if bits >= u64::BITS {
            out.extend_from_slice(&pending.to_le_bytes());
            bits -= u64::BITS;
            // The bits of `value` that did not fit; none are left if it ended with the word.
            pending = value.checked_shr(width - bits).unwrap_or(0);
        }
    }
    out.extend_from_slice(&pending.to_le_bytes()[..bits.div_ceil(8) as usize]);
}

/// Reads `n` numbers of `width` bits, each through `map`. `n` is the caller's to bound.
pub(super) fn unpack<T>(
    cursor: &mut Cursor<'_>,
    n: usize,
    width: u32,
    map: impl Fn(u64) -> T,
) -> Result<Vec<T>, Malformed> {
    if width > u64::BITS {
        return Err(Malformed("a bit width is over 64"));
    }
    let packed = cursor.take(packed_len(n, width))?;
    let mut out = Vec::with_capacity(n);
    match width {
        0 => out.extend((0..n).map(|_| map(0))),
        64 => out.extend(packed.as_chunks().0.iter().map(|word| map(u64::from_le_bytes(*word)))),
        1..=57 => unpack_words::<8, T>(packed, n, width, map, &mut out),
        _ => unpack_words::<16, T>(packed, n, width, map, &mut out),
    }
    Ok(out)
}

/// Reads a number from the `WORD` bytes that start at its first byte: 8 hold any of up to 57 bits, 16 hold all. The last
/// few, which have fewer bytes behind them, come one by one.
fn unpack_words<const WORD: usize, T>(packed: &[u8], n: usize, width: u32, map: impl Fn(u64) -> T, out: &mut Vec<T>) {
    let (mask, step) = (u64::MAX >> (u64::BITS - width), width as usize);
    let whole = (packed.len().saturating_sub(WORD) * 8 / step).min(n);
    out.extend((0..whole).map(|i| {
        let bit = i * step;
        let bytes: &[u8; WORD] = packed[bit / 8..].first_chunk().expect("a whole word is behind the number's start");
        map(shifted(bytes, bit % 8) & mask)
    }));
    out.extend((whole..n).map(|i| {
        let bit = i * step;
        let (rest, mut word) = (&packed[bit / 8..], [0; 16]);
        let len = rest.len().min(word.len());
        word[..len].copy_from_slice(&rest[..len]);
        map(shifted(&word, bit % 8) & mask)
    }));
}

/// The 64 bits that start at bit `by`.
fn shifted<const WORD: usize>(bytes: &[u8; WORD], by: usize) -> u64 {
    match bytes.first_chunk() {
        Some(wide) => (u128::from_le_bytes(*wide) >> by) as u64,
        None => u64::from_le_bytes(*bytes.first_chunk().expect("a word has 8 or 16 bytes")) >> by,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[u64], width: u32) {
        let mut packed = Vec::new();
        pack(values.iter().copied(), width, &mut packed);
        assert_eq!(packed.len(), packed_len(values.len(), width));
        let mut cursor = Cursor::new(&packed);
        assert_eq!(unpack(&mut cursor, values.len(), width, |v| v).unwrap(), values, "width {width}");
        assert_eq!(cursor.finish(), Ok(()));
    }

    #[test]
    fn every_width_and_many_lengths_round_trip() {
        for width in 0..=64 {
            for n in [0, 1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 200] {
                let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
                let values: Vec<u64> =
                    (0..n).map(|i: u64| i.wrapping_add(3).wrapping_mul(0x9E37_79B9_7F4A_7C15) & mask).collect();
                round_trip(&values, width);
                round_trip(&vec![mask; n as usize], width);
            }
        }
    }

    proptest! {
        #[test]
        fn x1_garbage_is_an_error_or_numbers(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), n in 0_usize..200, width in any::<u8>(),
        ) {
            let read = unpack(&mut Cursor::new(&bytes), n, u32::from(width), |v| v);
            prop_assert_eq!(read.is_ok(), width <= 64 && packed_len(n, width.into()) <= bytes.len());
        }
    }
}
