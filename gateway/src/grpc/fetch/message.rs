//! The bytes of an answer: a gRPC message of which the record batches are slices of the buffers that were read.
//!
//! A codec would want the whole message in a buffer of its own, which costs memory and a copy for every byte that is read.

use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use stratalog_broker::{FetchedBatches, FetchedPartition};
use stratalog_proto::v1;
use tonic::Code;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue};

/// Field numbers of `FetchResponse.partitions` and `FetchedPartition.batches`.
const PARTITIONS: u32 = 1;
const BATCHES: u32 = 6;
/// gRPC's prefix of a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Record batches below this are copied: that costs less than a piece of their own.
const COPY_BELOW_BYTES: usize = 4 << 10;
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// One `FetchResponse` with its prefix, in pieces.
#[derive(Clone, Debug)]
pub(super) struct FetchMessage(Vec<Bytes>);

impl FetchMessage {
    pub(super) fn new(fetched: Vec<FetchedPartition>) -> Self {
        let answers: Vec<Answer> = fetched.into_iter().map(Answer::from).collect();
        let len: usize = answers.iter().map(|answer| field_len(PARTITIONS, answer.encoded_len())).sum();
        let mut out = Pieces { pieces: Vec::new(), scratch: BytesMut::with_capacity(PREFIX_BYTES) };
        out.scratch.put_u8(0);
        out.scratch.put_u32(u32::try_from(len).expect("a fetch is bounded far below 4 GiB"));
        for answer in answers {
            encode_prefix(PARTITIONS, answer.encoded_len(), &mut out.scratch);
            answer.encode(&mut out);
        }
        Self(out.finish())
    }

    /// The body of an HTTP/2 response with this message.
    pub(super) fn into_body(self) -> StreamBody<impl Stream<Item = Result<Frame<Bytes>, Infallible>>> {
        let done = HeaderMap::from_iter([(STATUS, HeaderValue::from(Code::Ok as i32))]);
        let pieces = self.0.into_iter().map(Frame::data).chain([Frame::trailers(done)]);
        StreamBody::new(stream::iter(pieces).map(Ok))
    }
}

/// Bytes as they come: small ones are collected, large ones stay where they are.
struct Pieces {
    pieces: Vec<Bytes>,
    scratch: BytesMut,
}

impl Pieces {
    fn put(&mut self, bytes: Bytes) {
        if bytes.len() < COPY_BELOW_BYTES {
            self.scratch.extend_from_slice(&bytes);
            return;
        }
        self.end_scratch();
        self.pieces.push(bytes);
    }

    fn end_scratch(&mut self) {
        if !self.scratch.is_empty() {
            self.pieces.push(self.scratch.split().freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.end_scratch();
        self.pieces
    }
}

/// One `FetchedPartition` of the answer: `head` is all of it but the batches.
struct Answer {
    head: v1::FetchedPartition,
    batches: Vec<FetchedBatches>,
}

impl From<FetchedPartition> for Answer {
    fn from(fetched: FetchedPartition) -> Self {
        let mut head = v1::FetchedPartition {
            partition: fetched.partition.0,
            log_start: fetched.log_start.0,
            high_watermark: fetched.high_watermark.0,
            ..v1::FetchedPartition::default()
        };
        let batches = fetched.result.unwrap_or_else(|error| {
            (head.code, head.message) = (error.code as u32, error.message);
            Vec::new()
        });
        Self { head, batches }
    }
}

impl Answer {
    fn encoded_len(&self) -> usize {
        self.head.encoded_len() + self.batches.iter().map(|several| field_len(BATCHES, several.bytes())).sum::<usize>()
    }

    fn encode(self, out: &mut Pieces) {
        // The batches are the last field, so that what follows the head is all of them.
        self.head.encode(&mut out.scratch).expect("the buffer grows as needed");
        for several in self.batches {
            encode_prefix(BATCHES, several.bytes(), &mut out.scratch);
            out.put(several.head);
            out.put(several.body);
        }
    }
}

/// Bytes of a length-delimited field.
fn field_len(field: u32, len: usize) -> usize {
    key_len(field) + encoded_len_varint(len as u64) + len
}

fn encode_prefix(field: u32, len: usize, out: &mut impl BufMut) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

#[cfg(test)]
mod tests {
    use stratalog_proto::v1::FetchResponse;
    use stratalog_proto::{Code, Error, Offset, PartitionId};

    use super::*;

    fn fetched(partition: u32, result: Result<Vec<FetchedBatches>, Error>) -> FetchedPartition {
        let (log_start, high_watermark) = (Offset(1), Offset(300));
        FetchedPartition { partition: PartitionId(partition), log_start, high_watermark, result }
    }

    fn several(head: &'static [u8], body: Vec<u8>) -> FetchedBatches {
        FetchedBatches { head: Bytes::from_static(head), body: body.into() }
    }

    #[test]
    fn message_is_what_the_generated_one_reads() {
        let large = vec![7; 3 * COPY_BELOW_BYTES];
        let message = FetchMessage::new(vec![
            fetched(0, Ok(vec![several(b"", vec![7; 300]), several(b"head", large.clone()), several(b"h", vec![])])),
            fetched(1, Err(Error::new(Code::OffsetOutOfRange, "gone"))),
            fetched(2, Ok(vec![several(b"", large.clone())])),
            fetched(3, Ok(vec![])),
        ]);
        let bytes = message.0.concat();
        assert_eq!(bytes[0], 0);
        assert_eq!(bytes[1..PREFIX_BYTES], ((bytes.len() - PREFIX_BYTES) as u32).to_be_bytes());
        let read = FetchResponse::decode(&bytes[PREFIX_BYTES..]).unwrap().partitions;
        assert_eq!(read[0].batches, [vec![7; 300], [&b"head"[..], &large].concat(), b"h".to_vec()]);
        assert_eq!((read[0].partition, read[0].log_start, read[0].high_watermark), (0, 1, 300));
        assert_eq!((read[1].code, read[1].message.as_str()), (Code::OffsetOutOfRange as u32, "gone"));
        assert_eq!(read[2].batches, [large]);
        assert_eq!((read[3].partition, read[3].batches.len()), (3, 0));
    }

    #[test]
    fn large_batches_are_not_copied() {
        let batches = several(b"head", vec![7; COPY_BELOW_BYTES]);
        let body = batches.body.clone();
        let FetchMessage(pieces) = FetchMessage::new(vec![fetched(0, Ok(vec![batches]))]);
        assert!(pieces.iter().any(|piece| piece.as_ptr() == body.as_ptr() && piece.len() == body.len()));
    }

    #[test]
    fn an_answer_without_partitions_is_an_empty_message() {
        assert_eq!(FetchMessage::new(Vec::new()).0.concat(), [0; PREFIX_BYTES]);
    }
}
