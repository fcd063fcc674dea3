//! Protobuf messages that another node wrote.
//!
//! An empty message takes two bytes on the wire and some hundred in memory, so a head of 64 MiB could otherwise become
//! several GiB. What is decoded is counted while it is decoded, and memory is taken for no more than was allowed (X1).

use bytes::buf::Take;
use bytes::{Buf, Bytes};
use prost::Message;

/// Keys, lengths and values of a message that asks for something, at most. It takes some hundred bytes, or a few for each
/// partition of a topic.
pub const MAX_OF_REQUEST: usize = 1 << 18;
/// Those of a message that lists what a shard has, at most: twenty thousand segments of sixteen partitions each.
pub const MAX_OF_LIST: usize = 1 << 22;

/// The most bytes of a number on the wire.
const MAX_VARINT_BYTES: usize = 10;

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// They are not protobuf, or not of this message.
    #[error(transparent)]
    Malformed(#[from] prost::DecodeError),
    /// There is more in it than a message of its kind may have.
    #[error("it has more than {0} keys, lengths and values")]
    TooMany(usize),
}

/// Decodes a message with at most `most` keys, lengths and values in it, those of messages inside it included.
///
/// # Errors
/// [`Unreadable`]; by then memory was taken for at most `most` of them.
pub fn decode<M: Message + Default>(bytes: impl Buf, most: usize) -> Result<M, Unreadable> {
    let mut message = M::default();
    let mut counted = Counted { bytes: bytes.take(usize::MAX), left: Some(most) };
    let merged = message.merge(&mut counted);
    if counted.left.is_none() {
        return Err(Unreadable::TooMany(most));
    }
    Ok(merged.map(|()| message)?)
}

/// Counts what is read: prost advances once for each key, length and value.
struct Counted<B> {
    bytes: Take<B>,
    /// How many may still be read; none: more were read than allowed.
    left: Option<usize>,
}

impl<B: Buf> Counted<B> {
    fn count(&mut self) {
        self.left = self.left.and_then(|left| left.checked_sub(1));
        if self.left.is_none() {
            // The end is near. It is not here: a number that is read byte by byte was seen to be whole before.
            self.bytes.set_limit(self.bytes.limit().min(MAX_VARINT_BYTES));
        }
    }
}

impl<B: Buf> Buf for Counted<B> {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, bytes: usize) {
        self.bytes.advance(bytes);
        self.count();
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let copied = self.bytes.copy_to_bytes(len);
        self.count();
        copied
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stratalog_mutation::peak_of;

    use super::*;
    use crate::fuzzing::commands;
    use crate::internal::{FetchFrom, Propose, SegmentList, SegmentMeta};

    fn list(segments: usize) -> SegmentList {
        SegmentList { segments: vec![SegmentMeta { rows: 3, ..SegmentMeta::default() }; segments] }
    }

    #[test]
    fn each_key_length_and_value_counts() {
        let bytes = Bytes::from(list(5).encode_to_vec());
        // Each segment has a key and a length; the number of its rows a key and a value.
        assert_eq!(decode(bytes.clone(), 20), Ok(list(5)));
        assert_eq!(decode::<SegmentList>(bytes, 19), Err(Unreadable::TooMany(19)));
    }

    #[test]
    fn x1_memory_is_taken_for_no_more_messages_than_allowed() {
        // Eight million segments without anything in them.
        let bomb = Bytes::from([0x0a, 0].repeat(8 << 20));
        let (read, held) = peak_of(|| decode::<SegmentList>(bomb.clone(), MAX_OF_REQUEST));
        assert_eq!(read, Err(Unreadable::TooMany(MAX_OF_REQUEST)));
        let most = 4 * (MAX_OF_REQUEST / 2) * size_of::<SegmentMeta>();
        assert!(held < most, "{held} bytes were held, at most {most}");
    }

    #[test]
    fn bytes_of_a_message_are_not_copied() {
        let sent = Bytes::from(Propose { shard: 1, entry: vec![7; 1_000].into() }.encode_to_vec());
        let read: Propose = decode(sent.clone(), 9).unwrap();
        assert!(sent.as_ptr_range().contains(&read.entry.as_ptr()));
    }

    #[test]
    fn an_error_of_the_bytes_is_told_as_such() {
        assert!(matches!(decode::<FetchFrom>(&[0x08][..], 9), Err(Unreadable::Malformed(_))));
    }

    proptest! {
        #[test]
        fn x1_any_bytes_and_any_bound(bytes in prop::collection::vec(any::<u8>(), 0..300), most in 0..100_usize) {
            let whole = SegmentList::decode(&bytes[..]);
            prop_assert_eq!(decode::<SegmentList>(&bytes[..], usize::MAX).ok(), whole.clone().ok());
            if let Ok(read) = decode::<SegmentList>(&bytes[..], most) {
                prop_assert_eq!(Ok(read), whole);
            }
        }

        #[test]
        fn x1_samples_within_any_bound(most in 0..200_usize, cut in 0..400_usize) {
            let all = commands().into_iter().filter_map(|command| match command {
                crate::entry::Command::Seal(seal) => Some(Bytes::from(seal.encode_to_vec())),
                _ => None,
            });
            for bytes in all {
                let bytes = bytes.slice(..cut.min(bytes.len()));
                let whole = crate::internal::Seal::decode(bytes.clone());
                if let Ok(read) = decode(bytes, most) {
                    prop_assert_eq!(Ok::<crate::internal::Seal, _>(read), whole);
                }
            }
        }
    }
}
