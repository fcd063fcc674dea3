//! Commands for a group that another node leads.

use std::sync::Arc;

use prost::Message;
use stratalog_proto::entry::{Command, Entry, EntryBuilder};
use stratalog_proto::internal::{
    AppendedAt, NewShards, PartitionCount, Propose, Proposed, RecordsDeleted, SegmentList, TookEffect,
    proposed::Result as Outcome,
};
use stratalog_proto::{Error, NodeId, Offset, PartitionId, ProducerId, RaftIndex, ShardId, internal};
use stratalog_storage::SegmentMeta;
use stratalog_transport::Frame;

use super::{Missed, malformed, mismatched, request, success};
use crate::outcome::CommandResult;

/// The frame of a command.
pub(crate) fn proposal(shard: ShardId, command: &Command) -> Frame {
    let mut entry = EntryBuilder::with_capacity(command.encoded_len());
    entry.push(command);
    // The leader stamps the entry that it makes of it.
    let propose = Propose { shard: shard.0, entry: entry.finish(0) };
    Frame::head(propose.encode_to_vec())
}

/// Reads such a frame.
pub(crate) fn read_proposal(frame: Frame) -> Result<(ShardId, Command), Error> {
    let propose: Propose = request(frame.head)?;
    let mut commands = Entry::parse(propose.entry)?.commands();
    match (commands.next(), commands.next()) {
        // Record batches are checked and throttled on a way of their own.
        (Some(Ok(Command::Append(_))), _) => Err(malformed("record batches are not proposed, they are produced")),
        // Who coordinates a group leads its shard: nobody else may move what it is about to move. Offsets of a group without
        // members are anybody's, and the state says whether it has any.
        (Some(Ok(Command::GroupState(_))), _) => {
            Err(malformed("members of a group are changed by its coordinator alone"))
        }
        (Some(Ok(Command::CommitOffsets(commit))), _) if commit.generation >= 0 => {
            Err(malformed("offsets of members of a group are changed by its coordinator alone"))
        }
        (Some(command), None) => Ok((ShardId(propose.shard), command?)),
        _ => Err(malformed("a proposal has one command")),
    }
}

/// The frame of what a command answered.
pub(crate) fn proposal_answer(index: RaftIndex, result: CommandResult) -> Frame {
    let outcome = match result {
        CommandResult::Done => Outcome::Done(TookEffect {}),
        CommandResult::Appended { base_offset, duplicate } => {
            Outcome::Appended(AppendedAt { base_offset: base_offset.0, duplicate })
        }
        CommandResult::Dropped(segments) => Outcome::Dropped(SegmentList { segments: to_wire(&segments) }),
        CommandResult::RecordsDeleted { log_starts, dropped } => Outcome::RecordsDeleted(RecordsDeleted {
            log_starts: offsets_to_wire(&log_starts),
            dropped: to_wire(&dropped),
        }),
        CommandResult::ProducerIds(first) => Outcome::ProducerIds(first.0),
        CommandResult::Node(node) => Outcome::Node(node.0),
        CommandResult::Shards { first, count } => Outcome::Shards(NewShards { first: first.0, count }),
    };
    success(&Proposed { index: index.0, result: Some(outcome) }, Vec::new())
}

/// Reads such an answer.
pub(crate) fn proposed(answer: Proposed) -> Result<(RaftIndex, CommandResult), Missed> {
    let result = match answer.result.ok_or_else(mismatched)? {
        Outcome::Done(TookEffect {}) => CommandResult::Done,
        Outcome::Appended(at) => {
            CommandResult::Appended { base_offset: Offset(at.base_offset), duplicate: at.duplicate }
        }
        Outcome::Dropped(dropped) => CommandResult::Dropped(from_wire(&dropped.segments)?),
        Outcome::RecordsDeleted(deleted) => CommandResult::RecordsDeleted {
            log_starts: offsets_from_wire(&deleted.log_starts),
            dropped: from_wire(&deleted.dropped)?,
        },
        Outcome::ProducerIds(first) => CommandResult::ProducerIds(ProducerId(first)),
        Outcome::Node(node) => CommandResult::Node(NodeId(node)),
        Outcome::Shards(shards) => CommandResult::Shards { first: ShardId(shards.first), count: shards.count },
    };
    Ok((RaftIndex(answer.index), result))
}

pub(super) fn to_wire(segments: &[Arc<SegmentMeta>]) -> Vec<internal::SegmentMeta> {
    segments.iter().map(|meta| internal::SegmentMeta::from(&**meta)).collect()
}

pub(super) fn from_wire(segments: &[internal::SegmentMeta]) -> Result<Vec<Arc<SegmentMeta>>, Missed> {
    let read = |meta| SegmentMeta::try_from(meta).map(Arc::new);
    segments.iter().map(read).collect::<Result<_, _>>().map_err(|error| Missed::Unknown(error.message))
}

pub(super) fn offsets_to_wire(offsets: &[(PartitionId, Offset)]) -> Vec<PartitionCount> {
    let count =
        |(partition, offset): &(PartitionId, Offset)| PartitionCount { partition: partition.0, value: offset.0 };
    offsets.iter().map(count).collect()
}

pub(super) fn offsets_from_wire(counts: &[PartitionCount]) -> Vec<(PartitionId, Offset)> {
    counts.iter().map(|count| (PartitionId(count.partition), Offset(count.value))).collect()
}
