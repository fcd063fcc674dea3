//! A leader whose disk does not take its log any more gives its place up, and nobody gives it one meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::group::Group;
use crate::idle::tick;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many groups of a node wait for the disk of the lane that they share, longer than it may take. One that has nothing to
/// write sees by the others that it would wait, too.
#[derive(Clone, Default)]
pub(super) struct Stalls(Arc<AtomicUsize>);

/// A group that waits, for as long as this is held.
struct Stall(Stalls);

impl Stalls {
    /// Whether any group waits.
    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }

    fn begin(&self) -> Stall {
        self.0.fetch_add(1, Ordering::AcqRel);
        Stall(self.clone())
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        let Stalls(count) = &self.0;
        count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Hands the leadership of a group over while this replica leads and its log has not become durable for a while: the others
/// acknowledge its entries, but who reads here, and whoever waits for a vote, waits for this disk. On every replica it is
/// known meanwhile, so that the node leads nothing more. Runs until it is told to stop, or the group is gone.
pub(crate) async fn leave_stalled(group: Weak<Group>, stop: CancellationToken) {
    let mut waiting: Option<(u64, Instant)> = None;
    let mut stall = None;
    while stop.run_until_cancelled(tick(LOOK_EVERY)).await.is_some() {
        let Some(group) = group.upgrade() else { return };
        let unflushed = group.log().unflushed();
        waiting = unflushed.map(|append| match waiting {
            Some((before, since)) if before == append => (append, since),
            _ => (append, Instant::now()),
        });
        let is_stalled = waiting.is_some_and(|(_, since)| since.elapsed() >= PATIENCE);
        stall = is_stalled.then(|| stall.take().unwrap_or_else(|| group.log().stalls().begin()));
        if !is_stalled || !group.is_leader() || group.is_alone() {
            continue;
        }
        let shard = group.log().shard();
        match group.hand_over().await {
            Ok(()) => {
                tracing::warn!(%shard, "the disk has taken no write for {PATIENCE:?}: leadership was handed over")
            }
            Err(error) => tracing::debug!(%shard, %error, "the disk is stalled, and nobody took the leadership over"),
        }
    }
}
