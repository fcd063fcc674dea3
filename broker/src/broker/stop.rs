//! A clean stop. Nothing that was acknowledged needs it: what does not end in its time is left as a kill would leave it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::Broker;

/// How long a stop waits for work that the next start begins anew, such as the index of a large segment.
const WORK_WITHIN: Duration = Duration::from_secs(10);
/// … and for all that is under way: less than whoever asked for it waits before it kills, which is 90 seconds in what we give to
/// systemd and Compose.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// After so long the log says what a stop waits for.
const SAY_AFTER: Duration = Duration::from_secs(3);

impl Broker {
    /// Stops: hands over what this node leads, refuses new work, answers what is in flight, stops the groups and flushes the
    /// log. Work that takes longer than 10 seconds is left behind, and all else after 30.
    pub async fn stop(&self) {
        if self.stopping.swap(true, Ordering::SeqCst) {
            return;
        }
        let (work_until, until) = (Instant::now() + WORK_WITHIN, Instant::now() + STOP_WITHIN);
        self.decline_to_lead();
        self.stop_loops.cancel();
        self.loops.close();
        step("looks at the cluster and its topics", work_until, self.loops.wait()).await;
        self.hand_over().await;
        self.stop_routing.cancel();
        // It ends sooner where what it asks for has ended.
        futures::join!(
            step("erasures", work_until, self.erasures.stop()),
            step("seals, merges and copies of column segments", work_until, self.rows.stop()),
            step("rolls of the log", work_until, self.roller.stop()),
        );
        let shards = self.shards.all();
        let groups = shards.iter().map(|shard| shard.stop());
        step("the groups of shards", until, futures::future::join_all(groups)).await;
        step("the group of the metadata", until, self.meta.stop()).await;
        if let Some(peering) = &self.peering {
            step("the port for other nodes", until, peering.stop()).await;
        }
        let lane = Arc::clone(&self.lane);
        let closing = tokio::task::spawn_blocking(move || lane.close());
        if let Some(Err(error)) = step("the log", until, closing).await {
            tracing::warn!(%error, "the log was not closed cleanly; the next start checks its end");
        }
    }
}

/// Waits for a part of a stop, but not beyond `until`; `None` if it did not end by then.
async fn step<T>(what: &'static str, until: Instant, ending: impl Future<Output = T>) -> Option<T> {
    let mut ending = pin!(ending);
    let soon = SAY_AFTER.min(until.saturating_duration_since(Instant::now()));
    if let Ok(ended) = timeout(soon, &mut ending).await {
        return Some(ended);
    }
    if Instant::now() < until {
        tracing::info!(what, "the stop waits for what is under way");
    }
    let ended = timeout_at(until, ending).await;
    if ended.is_err() {
        tracing::warn!(what, "the stop goes on without an end of this; it is begun anew at the next start");
    }
    ended.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_what_ends_in_time_and_not_for_ever() {
        let until = Instant::now() + STOP_WITHIN;
        let slow = async {
            tokio::time::sleep(2 * SAY_AFTER).await;
            7
        };
        assert_eq!(step("slow", until, slow).await, Some(7));
        assert_eq!(step("never", until, std::future::pending::<()>()).await, None);
        assert_eq!(Instant::now(), until);
        assert_eq!(step("over", until, std::future::ready(7)).await, Some(7), "what has ended by itself");
    }
}
