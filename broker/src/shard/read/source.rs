//! Where a batch is read, and reading it although it may move meanwhile.

use std::sync::Arc;

use stratalog_proto::{Code, Error, Offset, RaftIndex, TopicPartition};
use stratalog_storage::{RecMeta, RecSlice};

use crate::shard::{BatchSlot, Shard, ShardState};

/// How often a read follows batches that move. A Roll takes seconds of log: nobody meets so many in one read.
pub(crate) const MAX_MOVES: usize = 8;

/// Where a batch is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// In the write-ahead log.
    Log(BatchSlot),
    /// In this replay segment.
    Rec(Arc<RecMeta>),
}

impl Source {
    /// Where the batch is that holds an offset; `None` for one that is not in the log, below or above.
    pub(crate) fn of(state: &ShardState, tp: TopicPartition, offset: Offset) -> Option<Self> {
        let partition = state.partition(tp.topic, tp.partition)?;
        if let Some(slot) = partition.batch_with(offset) {
            return Some(Source::Log(*slot));
        }
        state.manifest().rec_with(tp.topic, tp.partition, offset).cloned().map(Source::Rec)
    }

    /// The batch, if it is in the log.
    pub(crate) fn slot(&self) -> Option<&BatchSlot> {
        match self {
            Source::Log(slot) => Some(slot),
            Source::Rec(_) => None,
        }
    }

    /// Whether the state still has the batches of `tp` here, from `offset` on.
    pub(crate) fn is_current(&self, state: &ShardState, tp: TopicPartition, offset: Offset) -> bool {
        match (self, Self::of(state, tp, offset)) {
            (Source::Log(slot), Some(Source::Log(now))) => slot.index == now.index,
            (Source::Rec(meta), Some(Source::Rec(now))) => meta.id == now.id,
            _ => false,
        }
    }
}

impl Shard {
    /// As many whole batches of a partition as fit `max_bytes`, at least one; the first holds `from`. Blocks on the disk.
    ///
    /// # Errors
    /// [`Code::CorruptData`] naming file and place; [`Code::Unavailable`] if the file is not here.
    pub(crate) fn rec_slice(
        &self,
        meta: &Arc<RecMeta>,
        tp: TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> Result<RecSlice, Error> {
        let slice = self.recs().reader(meta)?.read(tp.topic, tp.partition, from, max_bytes)?;
        let slice = slice.filter(|slice| slice.first <= from && from < slice.next && !slice.bytes.is_empty());
        slice.ok_or_else(|| {
            let (partition, topic) = (tp.partition, tp.topic);
            let message = format!(
                "replay segment {} of shard {} has no batch with offset {from} of partition {partition} of topic {topic}, \
                 which it is said to hold",
                meta.id,
                self.id()
            );
            Error::new(Code::CorruptData, message)
        })
    }

    /// The batches of entries at or below it are in replay segments.
    pub(crate) fn replay_frontier(&self) -> RaftIndex {
        self.read(ShardState::replay_frontier)
    }
}

/// A read that never found its batches in their place.
pub(crate) fn moved_too_often(tp: TopicPartition) -> Error {
    let (partition, topic) = (tp.partition, tp.topic);
    let message =
        format!("partition {partition} of topic {topic} cannot be read: its batches moved each time; try again");
    Error::new(Code::Unavailable, message)
}
