//! Snapshots on their way to other replicas, as far as the log has to stay for them.
//!
//! A snapshot is the state and the entries behind it. A log that is let go of meanwhile, as it is after each roll, would cut
//! it short, and one that is let go of right afterwards would make the replica begin again: under load it never caught up.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long the log stays for snapshots that follow each other: beyond, whoever needs them has to come again.
const LONGEST: Duration = Duration::from_secs(300);
/// How long it stays once a snapshot is there, until its replica has gone on with the entries behind it.
const AFTER: Duration = Duration::from_secs(10);

/// The snapshots that a group sends.
#[derive(Clone, Default)]
pub(super) struct Sending(Arc<Mutex<Sent>>);

#[derive(Default)]
struct Sent {
    under_way: usize,
    /// When the log began to stay.
    since: Option<Instant>,
    /// When the last snapshot ended.
    ended: Option<Instant>,
}

/// A snapshot that is being sent, as long as this is held.
pub(super) struct OnItsWay(Sending);

impl Sending {
    /// A snapshot is sent from now on.
    pub(super) fn begin(&self) -> OnItsWay {
        let sent = &mut *self.0.lock();
        let now = Instant::now();
        if !sent.is_needed(now) {
            sent.since = Some(now);
        }
        sent.under_way += 1;
        OnItsWay(self.clone())
    }

    /// Whether the log is to stay as it is.
    pub(super) fn needs_log(&self) -> bool {
        let (sent, now) = (self.0.lock(), Instant::now());
        sent.is_needed(now) && sent.since.is_some_and(|since| now < since + LONGEST)
    }
}

impl Sent {
    fn is_needed(&self, now: Instant) -> bool {
        self.under_way > 0 || self.ended.is_some_and(|ended| now < ended + AFTER)
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let sent = &mut *self.0.0.lock();
        sent.under_way -= 1;
        sent.ended = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_stays_while_a_snapshot_is_sent_and_a_little_longer() {
        let sending = Sending::default();
        assert!(!sending.needs_log());
        let [one, other] = [sending.begin(), sending.begin()];
        drop(one);
        tokio::time::advance(2 * AFTER).await;
        assert!(sending.needs_log());
        drop(other);
        tokio::time::advance(AFTER / 2).await;
        assert!(sending.needs_log());
        tokio::time::advance(AFTER / 2).await;
        assert!(!sending.needs_log());
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_never_takes_its_snapshot_does_not_keep_the_log_for_ever() {
        let sending = Sending::default();
        let begun = Instant::now();
        while begun.elapsed() < LONGEST {
            assert!(sending.needs_log() || begun.elapsed().is_zero());
            let failing = sending.begin();
            tokio::time::advance(Duration::from_secs(5)).await;
            drop(failing);
        }
        assert!(!sending.needs_log(), "it was tried again and again");
        tokio::time::advance(AFTER).await;
        let _later = sending.begin();
        assert!(sending.needs_log());
    }
}
