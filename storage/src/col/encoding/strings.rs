//! Text: the lengths apart from the bytes, so that either can be read and packed for what it is.

use std::borrow::Cow;

use arrow::array::{Array, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::{bytes, ints};
use crate::container::{Cursor, Malformed};

/// Appends the values; a null is an empty string here.
pub(super) fn encode(values: &StringArray, out: &mut Vec<u8>) {
    let lengths: Vec<i64> = match values.nulls() {
        None => values.offsets().lengths().map(|len| len as i64).collect(),
        Some(_) => values.iter().map(|value| value.map_or(0, |text| text.len() as i64)).collect(),
    };
    ints::encode(&lengths, out);
    bytes::encode(&text_of(values), out);
}

/// The bytes of all values, one after the other, without what lies behind nulls.
fn text_of(values: &StringArray) -> Cow<'_, [u8]> {
    let offsets = values.offsets();
    if values.null_count() == 0 {
        return Cow::Borrowed(&values.value_data()[offsets[0] as usize..offsets[values.len()] as usize]);
    }
    Cow::Owned(values.iter().flatten().collect::<String>().into_bytes())
}

/// Reads `n` values; `n` is the caller's to bound.
pub(super) fn decode(cursor: &mut Cursor<'_>, n: usize, nulls: Option<NullBuffer>) -> Result<StringArray, Malformed> {
    let offsets = offsets_of(&ints::decode(cursor, n)?)?;
    let text = bytes::decode(cursor, offsets[n] as usize)?;
    let text = match text {
        Cow::Borrowed(plain) => Buffer::from(plain),
        Cow::Owned(raw) => Buffer::from_vec(raw),
    };
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    StringArray::try_new(offsets, text, nulls).map_err(|_| Malformed("text is not UTF-8"))
}

/// The running sums of `lengths`, from 0.
fn offsets_of(lengths: &[i64]) -> Result<Vec<i32>, Malformed> {
    let mut offsets = Vec::with_capacity(lengths.len() + 1);
    offsets.push(0);
    let mut end = 0_i64;
    for &len in lengths {
        // Both are below 2^31, so that the sum cannot overflow.
        if !(0..=i64::from(i32::MAX)).contains(&len) || end + len > i64::from(i32::MAX) {
            return Err(Malformed("texts are longer than 2 GiB, or shorter than nothing"));
        }
        end += len;
        offsets.push(end as i32);
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &StringArray) {
        let mut out = Vec::new();
        encode(values, &mut out);
        let mut cursor = Cursor::new(&out);
        assert_eq!(&decode(&mut cursor, values.len(), values.nulls().cloned()).unwrap(), values);
        assert_eq!(cursor.finish(), Ok(()));
    }

    #[test]
    fn a_slice_is_written_without_what_surrounds_it() {
        let values = StringArray::from(vec![Some("before"), Some("ä"), None, Some(""), Some("b"), Some("after")]);
        round_trip(&values.slice(1, 4));
        round_trip(&values.slice(3, 2));
    }

    #[test]
    fn a_length_that_cuts_a_character_is_an_error() {
        let mut out = Vec::new();
        ints::encode(&[1, 1], &mut out);
        bytes::encode("ä".as_bytes(), &mut out);
        assert!(decode(&mut Cursor::new(&out), 2, None).is_err());
    }

    proptest! {
        #[test]
        fn any_texts_round_trip(values in proptest::collection::vec(proptest::option::of(".{0,12}"), 1..60)) {
            round_trip(&StringArray::from(values));
        }

        #[test]
        fn x1_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), n in 0_usize..200) {
            let _ = decode(&mut Cursor::new(&bytes), n, None);
        }

        #[test]
        fn x1_lengths_of_garbage_never_panic(lengths in proptest::collection::vec(any::<i64>(), 0..10)) {
            let mut out = Vec::new();
            ints::encode(&lengths, &mut out);
            bytes::encode(b"some text", &mut out);
            let _ = decode(&mut Cursor::new(&out), lengths.len(), None);
        }
    }
}
