//! Whole batches back to back, as a fetch brings them.

use bytes::Bytes;

use super::BatchError;
use super::header::{HEADER_BYTES, LENGTH_OVERHEAD};

/// The place of a batch's length field.
const LENGTH_AT: usize = 8;

/// Cuts bytes into the batches that lie in them back to back. Each item is a slice of as many bytes as its header
/// declares, for [`Batch::parse`](super::Batch::parse) to judge. Nothing is copied, and after an error nothing follows.
///
/// ```
/// use bytes::Bytes;
/// use stratalog_proto::batch::{Batch, BatchBuilder, Batches, Compression};
///
/// let batch = |value: &[u8]| {
///     let mut builder = BatchBuilder::new(Compression::None);
///     builder.push(0, None, Some(value), &[]);
///     builder.finish()
/// };
/// let two = Bytes::from([batch(b"a"), batch(b"b")].concat());
/// let whole = Batches::new(two).map(|bytes| Batch::parse(bytes?)).collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(whole.len(), 2);
/// # Ok::<(), stratalog_proto::batch::BatchError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// The batches in `bytes`; none if there are no bytes.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// Bytes of the first batch.
    fn first_len(&self) -> Result<usize, BatchError> {
        let have = self.rest.len();
        if have < HEADER_BYTES {
            return Err(BatchError::TooShort { have });
        }
        let length = self.rest[LENGTH_AT..LENGTH_OVERHEAD].try_into().expect("a length field has four bytes");
        let declared = i64::from(i32::from_be_bytes(length)) + LENGTH_OVERHEAD as i64;
        match usize::try_from(declared) {
            Ok(len) if (HEADER_BYTES..=have).contains(&len) => Ok(len),
            _ => Err(BatchError::Length { declared, have }),
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Bytes, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let first = self.first_len().map(|len| self.rest.split_to(len));
        if first.is_err() {
            self.rest.clear();
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{Batch, BatchBuilder, Compression};

    fn batch(value: &[u8]) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(0, None, Some(value), &[]);
        builder.finish()
    }

    #[test]
    fn batches_come_one_by_one_and_as_slices() {
        let each = [batch(b""), batch(&[7; 300]), batch(b"z")];
        let whole = Bytes::from(each.concat());
        let cut: Vec<Bytes> = Batches::new(whole.clone()).collect::<Result<_, _>>().unwrap();
        assert_eq!(cut, each);
        assert_eq!(cut[0].as_ptr(), whole.as_ptr());
        assert!(Batches::new(Bytes::new()).next().is_none());
    }

    #[test]
    fn a_length_that_lies_ends_it_with_an_error() {
        for length in [-1, i32::MIN, 0, HEADER_BYTES as i32 - LENGTH_OVERHEAD as i32 - 1, i32::MAX] {
            let mut bytes = [batch(b"a"), batch(b"b"), batch(b"c")].concat();
            let second = batch(b"a").len();
            bytes[second + LENGTH_AT..second + LENGTH_OVERHEAD].copy_from_slice(&length.to_be_bytes());
            let cut: Vec<_> = Batches::new(bytes.into()).collect();
            assert!(cut[0].is_ok() && matches!(cut[1], Err(BatchError::Length { .. })), "{length}");
            assert_eq!(cut.len(), 2);
        }
    }

    proptest! {
        #[test]
        fn x1_any_bytes_are_cut_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let total: usize = Batches::new(bytes.clone().into()).map_while(Result::ok).map(|cut| cut.len()).sum();
            prop_assert!(total <= bytes.len());
            for cut in Batches::new(bytes.into()).map_while(Result::ok) {
                let _ = Batch::parse(cut);
            }
        }
    }
}
