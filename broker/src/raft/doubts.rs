//! Which logs of a node may lack what was acknowledged. The lane keeps that there are any until there are none.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use stratalog_proto::ShardId;
use stratalog_storage::LaneDoubt;

/// Those of all groups of a lane.
pub(super) struct Doubts {
    open: Mutex<BTreeSet<ShardId>>,
    /// What tells of them after a restart, if the end of the lane was discarded.
    kept: Option<LaneDoubt>,
}

impl Doubts {
    pub(super) fn new(kept: Option<LaneDoubt>) -> Self {
        Self { open: Mutex::default(), kept }
    }

    /// Whether a log that is found in the lane is in doubt.
    pub(super) fn begins(&self) -> bool {
        self.kept.is_some()
    }

    /// A log is in doubt, or no longer. With the last one, a file goes: that blocks on the disk, once in the life of a process.
    pub(super) fn set(&self, shard: ShardId, doubted: bool) {
        let is_last = {
            let mut open = self.open.lock();
            if doubted {
                open.insert(shard);
                return;
            }
            open.remove(&shard) && open.is_empty()
        };
        if let Some(kept) = self.kept.as_ref().filter(|_| is_last)
            && let Err(error) = kept.end()
        {
            tracing::warn!(%error, "a doubt that is over could not be forgotten; it comes back at the next start");
        }
    }
}
