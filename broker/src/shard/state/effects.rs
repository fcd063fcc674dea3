//! What an entry did, beside changing the state.

use std::sync::Arc;

use stratalog_proto::{PartitionId, TopicId, TopicPartition};
use stratalog_storage::{ErasedOffsets, RecMeta, SegmentMeta};

use super::StateHash;
use crate::outcome::Results;
use crate::shard::partition::BatchSlot;

/// What an entry did.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Effects {
    /// One for each command.
    pub(crate) results: Results,
    /// The partitions that have new records; each once.
    pub(crate) appended: Vec<TopicPartition>,
    /// Column segments that are no longer in the manifest: their files may go when the last reader lets go.
    pub(crate) removed: Vec<Arc<SegmentMeta>>,
    /// Topics that this shard hosts no longer.
    pub(crate) removed_topics: Vec<TopicId>,
    /// The hash of the state, if one was taken after this entry.
    pub(crate) hashed: Option<StateHash>,
    /// Replay segments that are new in the manifest: this replica has to have their files.
    pub(crate) rolled: Vec<PendingRec>,
    /// Replay segments that are no longer in the manifest, as `removed`. Those that another one replaces are not among
    /// them: it is made of them.
    pub(crate) removed_recs: Vec<Arc<RecMeta>>,
}

/// A replay segment that came to count, and what to make it of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PendingRec {
    pub(crate) meta: Arc<RecMeta>,
    /// The batches of exactly this file, by topic, partition and offset; none if it replaces another.
    pub(crate) batches: Vec<(TopicId, PartitionId, BatchSlot)>,
    /// The segment that it is a part of, and replaces.
    pub(crate) replaces: Option<Arc<RecMeta>>,
    /// The records of that one which it is to be without.
    pub(crate) erased: Arc<ErasedOffsets>,
}
