//! What a command answers once it is applied.

use std::sync::Arc;

use stratalog_proto::{Code, Error, NodeId, Offset, PartitionId, ProducerId, ShardId};
use stratalog_storage::SegmentMeta;

/// Whether work came to nothing as it does when leadership moves: this replica leads no more, or another one was faster. It
/// is worth a word only if that goes on.
pub(crate) fn is_overtaken(error: &Error) -> bool {
    matches!(error.code, Code::NotLeader | Code::Conflict)
}

/// The answer of a command that took effect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CommandResult {
    /// The batch has these offsets.
    Appended {
        /// Of its first record.
        base_offset: Offset,
        /// It had been appended before, and this is where (idempotent produce).
        duplicate: bool,
    },
    /// The segments live no longer.
    Dropped(Vec<Arc<SegmentMeta>>),
    /// Log starts have moved.
    RecordsDeleted {
        /// Where those that were asked for are now, ascending by partition.
        log_starts: Vec<(PartitionId, Offset)>,
        /// The segments that lay below them as a whole, and live no longer.
        dropped: Vec<Arc<SegmentMeta>>,
    },
    /// The first of a reserved run of producer ids.
    ProducerIds(ProducerId),
    /// The node, which has this id now.
    Node(NodeId),
    /// New shards: the first of them, and how many.
    Shards {
        /// The others follow it.
        first: ShardId,
        /// At least one.
        count: u32,
    },
    /// It took effect; there is nothing to say.
    Done,
}

/// The answers of one entry's commands, in order. A command that was refused changed nothing (S2).
pub(crate) type Results = Vec<Result<CommandResult, Error>>;
