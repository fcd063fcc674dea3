//! A run of bytes: one LZ4 block where that saves something, else as they are.

use std::borrow::Cow;

use crate::container::{Cursor, Malformed};

const PLAIN: u8 = 0;
const LZ4: u8 = 1;
/// LZ4 cannot expand a byte to more than this many.
const MAX_EXPANSION: usize = 255;

/// Appends `raw`.
///
/// # Panics
/// At 4 GiB; a column's text within a granule is at most 2 GiB.
pub(super) fn encode(raw: &[u8], out: &mut Vec<u8>) {
    let packed = lz4_flex::block::compress(raw);
    // Less than a sixteenth saved is not worth decompressing.
    let (codec, stored) = if packed.len() < raw.len() - raw.len() / 16 { (LZ4, &packed[..]) } else { (PLAIN, raw) };
    out.push(codec);
    out.extend_from_slice(&u32::try_from(raw.len()).expect("a run of bytes under 4 GiB").to_le_bytes());
    out.extend_from_slice(&u32::try_from(stored.len()).expect("a run of bytes under 4 GiB").to_le_bytes());
    out.extend_from_slice(stored);
}

/// Reads a run that has to have `expect` bytes. Takes no more memory than what is stored can hold.
pub(super) fn decode<'a>(cursor: &mut Cursor<'a>, expect: usize) -> Result<Cow<'a, [u8]>, Malformed> {
    let (codec, raw_len, stored_len) = (cursor.u8()?, cursor.u32()? as usize, cursor.u32()? as usize);
    let stored = cursor.take(stored_len)?;
    if raw_len != expect {
        return Err(Malformed("a run of bytes does not have the length that its values need"));
    }
    match codec {
        PLAIN if stored_len == raw_len => Ok(Cow::Borrowed(stored)),
        PLAIN => Err(Malformed("a plain run of bytes is not as long as it says")),
        LZ4 => decompress(stored, raw_len).map(Cow::Owned),
        _ => Err(Malformed("a run of bytes has a codec that version 1 does not know")),
    }
}

fn decompress(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, Malformed> {
    if raw_len > stored.len().saturating_mul(MAX_EXPANSION) {
        return Err(Malformed("an LZ4 block claims more bytes than it can hold"));
    }
    let raw =
        lz4_flex::block::decompress(stored, raw_len).map_err(|_| Malformed("an LZ4 block does not decompress"))?;
    if raw.len() == raw_len { Ok(raw) } else { Err(Malformed("an LZ4 block is shorter than it says")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(raw, &mut out);
        let mut cursor = Cursor::new(&out);
        assert_eq!(decode(&mut cursor, raw.len()).unwrap(), raw);
        assert_eq!(cursor.finish(), Ok(()));
        out
    }

    #[test]
    fn a_claim_beyond_what_lz4_can_hold_takes_no_memory() {
        let mut out = encoded(&[b'x'; 10_000]);
        out[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(decode(&mut Cursor::new(&out), u32::MAX as usize).is_err());
    }

    #[test]
    fn the_best_case_of_lz4_is_within_the_bound() {
        encoded(&vec![0; 4 << 20]);
    }

    proptest! {
        #[test]
        fn any_bytes_round_trip(raw in proptest::collection::vec(0_u8..4, 0..500)) {
            encoded(&raw);
        }

        #[test]
        fn x1_garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 9..100), n in 0_u32..5_000) {
            bytes[0] = LZ4;
            bytes[1..5].copy_from_slice(&n.to_le_bytes());
            let stored = bytes.len() as u32 - 9;
            bytes[5..9].copy_from_slice(&stored.to_le_bytes());
            let _ = decode(&mut Cursor::new(&bytes), n as usize);
        }
    }
}
