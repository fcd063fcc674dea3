//! Holds a shard's state where Raft applies to it and readers read from it.

use std::sync::Arc;

use parking_lot::RwLock;
use stratalog_proto::entry::Entry;
use stratalog_proto::{Error, RaftIndex};
use stratalog_storage::SegmentMeta;
use tokio::sync::watch;

use super::state::ShardState;
use crate::outcome::Results;
use crate::raft::Machine;

type Listener = Box<dyn Fn(&[Arc<SegmentMeta>]) + Send + Sync>;

/// The applied state of a shard.
pub(super) struct ShardMachine {
    state: RwLock<ShardState>,
    applied: watch::Sender<RaftIndex>,
    removed: RwLock<Option<Listener>>,
}

impl ShardMachine {
    /// An empty state, before the first entry.
    pub(super) fn new() -> Self {
        Self {
            state: RwLock::new(ShardState::new()),
            applied: watch::Sender::new(RaftIndex(0)),
            removed: RwLock::new(None),
        }
    }

    pub(super) fn read<R>(&self, f: impl FnOnce(&ShardState) -> R) -> R {
        f(&self.state.read())
    }

    pub(super) fn applied(&self) -> RaftIndex {
        *self.applied.borrow()
    }

    pub(super) fn watch_applied(&self) -> watch::Receiver<RaftIndex> {
        self.applied.subscribe()
    }

    pub(super) fn on_segments_removed(&self, listener: Listener) {
        *self.removed.write() = Some(listener);
    }

    fn announce_removed(&self, removed: &[Arc<SegmentMeta>]) {
        if let Some(listener) = self.removed.read().as_ref().filter(|_| !removed.is_empty()) {
            listener(removed);
        }
    }
}

impl Machine for ShardMachine {
    fn apply(&self, index: RaftIndex, entry: &Entry) -> Result<Results, Error> {
        let effects = self.state.write().apply(index, entry)?;
        self.announce_removed(&effects.removed);
        Ok(effects.results)
    }

    fn advance(&self, index: RaftIndex) {
        let before = self.applied.send_replace(index);
        // The first entry of a group, its membership, has index 0.
        debug_assert!(before < index || index.0 == 0, "A1: index {index} was applied after {before}");
    }
}
