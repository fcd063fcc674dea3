//! Snapshots on their way to other replicas, as far as the log has to stay for them.
//!
//! A snapshot is the state and the entries behind it. A log that is let go of meanwhile, as it is after each roll, would cut
//! it short, and one that is let go of right afterwards would make the replica begin again: under load it never caught up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use stratalog_proto::ReplicaId;
use tokio::time::Instant;

/// How long the log stays for snapshots that follow each other to one replica: beyond, it has to come again.
const LONGEST: Duration = Duration::from_secs(300);
/// How long it stays once a snapshot is there, until its replica has gone on with the entries behind it.
const AFTER: Duration = Duration::from_secs(10);

/// The snapshots that a group sends, by the replicas that they go to.
#[derive(Clone, Default)]
pub(super) struct Sending(Arc<Mutex<HashMap<ReplicaId, Sent>>>);

/// Those to one replica.
struct Sent {
    under_way: usize,
    /// When the log began to stay.
    since: Instant,
    /// When the last snapshot ended.
    ended: Option<Instant>,
}

/// A snapshot that is being sent, as long as this is held.
pub(super) struct OnItsWay {
    sending: Sending,
    to: ReplicaId,
    /// The replica was reached: one that is away takes no log to be kept for it.
    reached: AtomicBool,
}

impl Sending {
    /// A snapshot is sent from now on.
    pub(super) fn begin(&self, to: ReplicaId) -> Arc<OnItsWay> {
        Arc::new(OnItsWay { sending: self.clone(), to, reached: AtomicBool::new(false) })
    }

    /// Whether the log is to stay as it is.
    pub(super) fn needs_log(&self) -> bool {
        let now = Instant::now();
        self.0.lock().values().any(|sent| sent.is_needed(now) && now < sent.since + LONGEST)
    }
}

impl OnItsWay {
    /// The messages of the snapshot. The replica counts as reached when the first of them is asked for, which nobody does
    /// without a connection.
    pub(super) fn counted<T: Send + 'static>(
        self: &Arc<Self>,
        messages: BoxStream<'static, T>,
    ) -> BoxStream<'static, T> {
        // Whoever carries them may hold them longer than anybody waits for the answer.
        let this: Weak<Self> = Arc::downgrade(self);
        let counted = async move {
            if let Some(this) = this.upgrade() {
                this.reach();
            }
            messages
        };
        stream::once(counted).flatten().boxed()
    }

    /// The replica was reached.
    pub(super) fn reach(&self) {
        if self.reached.swap(true, Ordering::AcqRel) {
            return;
        }
        let (all, now) = (&mut *self.sending.0.lock(), Instant::now());
        all.retain(|_, sent| sent.is_needed(now));
        all.entry(self.to).or_insert(Sent { under_way: 0, since: now, ended: None }).under_way += 1;
    }
}

impl Sent {
    fn is_needed(&self, now: Instant) -> bool {
        self.under_way > 0 || self.ended.is_some_and(|ended| now < ended + AFTER)
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        if *self.reached.get_mut()
            && let Some(sent) = self.sending.0.lock().get_mut(&self.to)
        {
            sent.under_way -= 1;
            sent.ended = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(sending: &Sending, to: u64) -> Arc<OnItsWay> {
        let on_its_way = sending.begin(ReplicaId(to));
        on_its_way.reach();
        on_its_way
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_stays_while_a_snapshot_is_sent_and_a_little_longer() {
        let sending = Sending::default();
        assert!(!sending.needs_log());
        let [one, other] = [2, 3].map(|to| reached(&sending, to));
        drop(one);
        tokio::time::advance(2 * AFTER).await;
        assert!(sending.needs_log());
        drop(other);
        tokio::time::advance(AFTER / 2).await;
        assert!(sending.needs_log());
        tokio::time::advance(AFTER / 2).await;
        assert!(!sending.needs_log());
    }

    /// Tries every 5 s to send snapshots, for as long as a log may stay.
    async fn fail_for_long(sending: &Sending, to: u64, attempt: impl Fn(&OnItsWay)) {
        let begun = Instant::now();
        while begun.elapsed() < LONGEST {
            let failing = sending.begin(ReplicaId(to));
            attempt(&failing);
            tokio::time::advance(Duration::from_secs(5)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_never_takes_its_snapshot_does_not_keep_the_log_for_ever() {
        let sending = Sending::default();
        fail_for_long(&sending, 2, |failing| {
            failing.reach();
            assert!(sending.needs_log());
        })
        .await;
        assert!(!sending.needs_log(), "it was tried again and again");
        let another = reached(&sending, 3);
        assert!(sending.needs_log(), "another one has time of its own");
        drop(another);
        tokio::time::advance(AFTER).await;
        let _later = reached(&sending, 2);
        assert!(sending.needs_log());
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_is_away_keeps_no_log_and_loses_no_time() {
        let sending = Sending::default();
        fail_for_long(&sending, 2, |_| assert!(!sending.needs_log())).await;
        let back = sending.begin(ReplicaId(2));
        let mut messages = back.counted(stream::iter([1, 2]).boxed());
        assert!(!sending.needs_log());
        messages.next().await;
        assert!(sending.needs_log());
        drop(back);
        assert_eq!(messages.next().await, Some(2));
        tokio::time::advance(AFTER).await;
        assert!(!sending.needs_log(), "who carries the messages counts no more");
    }
}
