//! Record batches for a shard that another node leads.

use bytes::Bytes;
use prost::Message;
use stratalog_proto::batch::BatchHeader;
use stratalog_proto::internal::{ProduceBatch, ProducedBatch};
use stratalog_proto::{Error, NodeId, Offset, PartitionId, ProducerId, RaftIndex, ShardId, TopicId};
use stratalog_transport::Frame;

use super::{Missed, malformed, missed, request, topic_id};

/// A record batch on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) shard: ShardId,
    pub(crate) topic: TopicId,
    pub(crate) partition: PartitionId,
    /// Whole, as the client sent it.
    pub(crate) bytes: Bytes,
}

impl Batch {
    /// The idempotent producer that sent it.
    pub(crate) fn producer(&self) -> Option<ProducerId> {
        let header = BatchHeader::read(&self.bytes).ok()?;
        header.has_producer().then_some(ProducerId(header.producer_id))
    }
}

/// The frame of a batch; `number` pairs the answer. `heard`: of one whose client counts on an order, how many refusals of such batches
/// of the same stream the sender has heard of.
pub(crate) fn batch_frame(number: u64, batch: &Batch, heard: Option<u64>) -> Frame {
    let head = ProduceBatch {
        request: number,
        shard: batch.shard.0,
        topic: batch.topic.to_bytes(),
        partition: batch.partition.0,
        heard: heard.map_or(0, |heard| heard + 1),
    };
    Frame { head: head.encode_to_vec().into(), parts: vec![batch.bytes.clone()] }
}

/// Reads such a frame: its number, the batch, and what the sender has heard of, if it says so.
pub(crate) fn read_batch(frame: Frame) -> Result<(u64, Batch, Option<u64>), Error> {
    let head: ProduceBatch = request(frame.head)?;
    let [bytes] = <[Bytes; 1]>::try_from(frame.parts)
        .map_err(|parts| malformed(format!("a record batch came as {} buffers, and not as one", parts.len())))?;
    let (shard, partition) = (ShardId(head.shard), PartitionId(head.partition));
    Ok((head.request, Batch { shard, topic: topic_id(&head.topic)?, partition, bytes }, head.heard.checked_sub(1)))
}

/// The frame of an answer. `leader`: who leads the shard, if this node does not.
pub(crate) fn batch_answer(number: u64, answer: Result<(RaftIndex, Offset), Error>, leader: Option<NodeId>) -> Frame {
    let mut head = ProducedBatch { request: number, ..ProducedBatch::default() };
    match answer {
        Ok((index, base_offset)) => (head.index, head.base_offset) = (index.0, base_offset.0),
        Err(error) => {
            (head.code, head.message) = (error.code as u32, error.message);
            head.leader = leader.map_or(0, |node| node.0);
        }
    }
    Frame::head(head.encode_to_vec())
}

/// Where a batch is, or why it is not there.
pub(crate) type BatchAnswer = Result<(RaftIndex, Offset), Missed>;

/// Reads such an answer: its number, and where the batch is, or why it is not there.
pub(crate) fn read_batch_answer(frame: Frame) -> Result<(u64, BatchAnswer), Missed> {
    let head: ProducedBatch = super::super::decode(frame.head)?;
    let answer = match head.code {
        0 => Ok((RaftIndex(head.index), Offset(head.base_offset))),
        code => Err(missed(code, head.message, head.leader)),
    };
    Ok((head.request, answer))
}
