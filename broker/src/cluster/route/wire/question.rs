//! What is asked of the leader of a shard about a topic.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stratalog_proto::internal::{self, read::What};
use stratalog_proto::{Code, Error, Offset, PartitionId, ProducerId, ShardId, Term, TopicId};
use stratalog_query::PartitionInfo;
use stratalog_storage::SegmentMeta;
use stratalog_transport::Frame;

use super::super::decode;
use super::proposal::{from_wire, to_wire};
use super::{Missed, malformed, mismatched, request, success, topic_id};
use crate::offsets::{OffsetAt, OffsetFound};
use crate::rows::TopicRows;
use crate::shard::ProducerInfo;
use crate::verify::{Damage, VerifiedPartition};

/// A question about the partitions of a topic in one shard. It changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Where each partition begins and ends.
    Partitions,
    /// An offset of each partition.
    Offsets(OffsetAt),
    /// The newest leader epoch of a partition that is not above a term, and where it ends.
    EpochEnd(PartitionId, Term),
    /// What of a partition can be read.
    Verify(PartitionId),
    /// The live column segments.
    Segments,
    /// What became of the records.
    Rows,
    /// The idempotent producers of a partition.
    Producers(PartitionId),
}

/// The answer to the [`Question`] of the same name.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Ascending.
    Partitions(Vec<PartitionInfo>),
    /// Ascending.
    Offsets(Vec<OffsetFound>),
    EpochEnd(Term, Offset),
    Verified(VerifiedPartition),
    Segments(Vec<Arc<SegmentMeta>>),
    Rows(TopicRows),
    /// Ascending.
    Producers(Vec<ProducerInfo>),
}

impl Question {
    /// As a frame.
    pub(crate) fn frame(&self, shard: ShardId, topic: TopicId) -> Frame {
        let what = match self {
            Question::Partitions => What::Partitions(internal::PartitionsOf {}),
            Question::Offsets(at) => What::Offsets(internal::OffsetsAt { at: Some(at_to_wire(*at)) }),
            Question::EpochEnd(partition, asked) => {
                What::EpochEnd(internal::EpochEnd { partition: partition.0, asked: asked.0 })
            }
            Question::Verify(partition) => What::VerifyPartition(partition.0),
            Question::Segments => What::Segments(internal::SegmentsOf {}),
            Question::Rows => What::Rows(internal::RowsOf {}),
            Question::Producers(partition) => What::ProducersPartition(partition.0),
        };
        let read = internal::Read { shard: shard.0, topic: topic.to_bytes(), what: Some(what) };
        Frame::head(read.encode_to_vec())
    }
}

/// Reads such a frame.
pub(crate) fn read_question(frame: Frame) -> Result<(ShardId, TopicId, Question), Error> {
    let read: internal::Read = request(frame.head)?;
    let unknown = || Error::new(Code::NotBuilt, "this node does not know what another node asks it");
    let question = match read.what.ok_or_else(unknown)? {
        What::Partitions(_) => Question::Partitions,
        What::Offsets(at) => Question::Offsets(at_from_wire(at.at.ok_or_else(|| malformed("no offset is asked for"))?)),
        What::EpochEnd(end) => Question::EpochEnd(PartitionId(end.partition), Term(end.asked)),
        What::VerifyPartition(partition) => Question::Verify(PartitionId(partition)),
        What::Segments(_) => Question::Segments,
        What::Rows(_) => Question::Rows,
        What::ProducersPartition(partition) => Question::Producers(PartitionId(partition)),
    };
    Ok((ShardId(read.shard), topic_id(&read.topic)?, question))
}

fn at_to_wire(at: OffsetAt) -> internal::offsets_at::At {
    use internal::offsets_at::At;
    match at {
        OffsetAt::Earliest => At::Earliest(true),
        OffsetAt::Latest => At::Latest(true),
        OffsetAt::Time(ns) => At::TimeNs(ns),
        OffsetAt::LargestTime => At::LargestTime(true),
    }
}

fn at_from_wire(at: internal::offsets_at::At) -> OffsetAt {
    use internal::offsets_at::At;
    match at {
        At::Earliest(_) => OffsetAt::Earliest,
        At::Latest(_) => OffsetAt::Latest,
        At::TimeNs(ns) => OffsetAt::Time(ns),
        At::LargestTime(_) => OffsetAt::LargestTime,
    }
}

impl Found {
    /// As the frame of an answer.
    pub(crate) fn frame(&self) -> Frame {
        match self {
            Found::Partitions(partitions) => {
                let partitions = partitions.iter().map(partition_to_wire).collect();
                success(&internal::PartitionsAnswer { partitions }, Vec::new())
            }
            Found::Offsets(offsets) => {
                let offsets = offsets.iter().map(offset_to_wire).collect();
                success(&internal::OffsetsAnswer { offsets }, Vec::new())
            }
            Found::EpochEnd(term, end) => {
                success(&internal::EpochEndAnswer { term: Some(term.0), end: end.0 }, Vec::new())
            }
            Found::Verified(verified) => success(&verified_to_wire(verified), Vec::new()),
            Found::Segments(segments) => success(&internal::SegmentList { segments: to_wire(segments) }, Vec::new()),
            Found::Rows(rows) => success(&rows_to_wire(rows), Vec::new()),
            Found::Producers(producers) => {
                let producers = producers.iter().map(producer_to_wire).collect();
                success(&internal::ProducersAnswer { producers }, Vec::new())
            }
        }
    }

    /// Reads the answer to a question about a shard.
    pub(crate) fn read(question: &Question, shard: ShardId, body: Bytes) -> Result<Self, Missed> {
        Ok(match question {
            Question::Partitions => {
                let answer: internal::PartitionsAnswer = decode(body)?;
                Found::Partitions(answer.partitions.iter().map(|p| partition_from_wire(p, shard)).collect())
            }
            Question::Offsets(_) => {
                let answer: internal::OffsetsAnswer = decode(body)?;
                Found::Offsets(answer.offsets.iter().map(offset_from_wire).collect())
            }
            Question::EpochEnd(..) => {
                let answer: internal::EpochEndAnswer = decode(body)?;
                Found::EpochEnd(Term(answer.term.ok_or_else(mismatched)?), Offset(answer.end))
            }
            Question::Verify(_) => Found::Verified(verified_from_wire(decode(body)?)),
            Question::Segments => Found::Segments(from_wire(&decode::<internal::SegmentList>(body)?.segments)?),
            Question::Rows => Found::Rows(rows_from_wire(decode(body)?)),
            Question::Producers(_) => {
                let answer: internal::ProducersAnswer = decode(body)?;
                let producers = answer.producers.iter().map(producer_from_wire).collect::<Option<_>>();
                Found::Producers(producers.ok_or_else(mismatched)?)
            }
        })
    }
}

fn offset_to_wire(found: &OffsetFound) -> internal::OffsetAnswer {
    let epoch = found.epoch.map(|epoch| epoch.0);
    internal::OffsetAnswer { partition: found.partition.0, offset: found.offset.0, epoch }
}

fn offset_from_wire(answer: &internal::OffsetAnswer) -> OffsetFound {
    let (partition, offset) = (PartitionId(answer.partition), Offset(answer.offset));
    OffsetFound { partition, offset, epoch: answer.epoch.map(Term) }
}

fn producer_to_wire(info: &ProducerInfo) -> internal::ProducerAnswer {
    internal::ProducerAnswer {
        producer: info.producer.0,
        epoch: info.epoch.into(),
        last_sequence: info.last_sequence,
        last_time_ns: info.last_time_ns,
    }
}

/// `None` for an epoch that does not fit 16 bits.
fn producer_from_wire(answer: &internal::ProducerAnswer) -> Option<ProducerInfo> {
    Some(ProducerInfo {
        producer: ProducerId(answer.producer),
        epoch: answer.epoch.try_into().ok()?,
        last_sequence: answer.last_sequence,
        last_time_ns: answer.last_time_ns,
    })
}

fn partition_to_wire(info: &PartitionInfo) -> internal::PartitionAnswer {
    internal::PartitionAnswer {
        partition: info.partition.0,
        log_start: info.log_start.0,
        high_watermark: info.high_watermark.0,
        bytes: info.bytes,
    }
}

fn partition_from_wire(answer: &internal::PartitionAnswer, shard: ShardId) -> PartitionInfo {
    PartitionInfo {
        partition: PartitionId(answer.partition),
        shard,
        log_start: Offset(answer.log_start),
        high_watermark: Offset(answer.high_watermark),
        bytes: answer.bytes,
    }
}

fn verified_to_wire(verified: &VerifiedPartition) -> internal::VerifyAnswer {
    let damage = |damage: &Damage| internal::DamageAnswer {
        first: damage.first.0,
        next: damage.next.0,
        what: damage.what.clone(),
    };
    internal::VerifyAnswer {
        partition: verified.partition.0,
        log_start: verified.log_start.0,
        high_watermark: verified.high_watermark.0,
        batches: verified.batches,
        records: verified.records,
        bytes: verified.bytes,
        damaged: verified.damaged,
        damage: verified.damage.iter().map(damage).collect(),
    }
}

fn verified_from_wire(answer: internal::VerifyAnswer) -> VerifiedPartition {
    let damage = |damage: internal::DamageAnswer| Damage {
        first: Offset(damage.first),
        next: Offset(damage.next),
        what: damage.what,
    };
    VerifiedPartition {
        partition: PartitionId(answer.partition),
        log_start: Offset(answer.log_start),
        high_watermark: Offset(answer.high_watermark),
        batches: answer.batches,
        records: answer.records,
        bytes: answer.bytes,
        damaged: answer.damaged,
        damage: answer.damage.into_iter().map(damage).collect(),
    }
}

fn rows_to_wire(rows: &TopicRows) -> internal::RowsAnswer {
    let held = |(shard, error): &(ShardId, Error)| internal::HeldAnswer {
        shard: shard.0,
        code: error.code as u32,
        message: error.message.clone(),
    };
    internal::RowsAnswer {
        rows: rows.rows,
        dead_rows: rows.dead_rows,
        tail_rows: rows.tail_rows,
        tail_bytes: rows.tail_bytes,
        segments: rows.segments,
        segment_bytes: rows.segment_bytes,
        lag: rows.lag,
        held: rows.held.iter().map(held).collect(),
    }
}

fn rows_from_wire(answer: internal::RowsAnswer) -> TopicRows {
    let held = |held: internal::HeldAnswer| {
        let code = Code::from_number(held.code).unwrap_or(Code::Internal);
        (ShardId(held.shard), Error::new(code, held.message))
    };
    TopicRows {
        rows: answer.rows,
        dead_rows: answer.dead_rows,
        tail_rows: answer.tail_rows,
        tail_bytes: answer.tail_bytes,
        segments: answer.segments,
        segment_bytes: answer.segment_bytes,
        lag: answer.lag,
        held: answer.held.into_iter().map(held).collect(),
    }
}
