//! The materializer of a shard: one thread that pulls applied batches from the log, makes rows of them and publishes
//! them in the tail. Restart and steady state are one path: it starts at the lowest row frontier and pulls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use stratalog_proto::{Error, RaftIndex, TopicId};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::log::{HostedTopic, RowLog};
use super::options::RowsOptions;
use super::parse::{Parsed, parse};
use super::tail::Tail;
use super::usage::Usage;
use crate::shard::{Applied, AppliedBatch};

/// How long to wait before a failed pull is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How far rows are behind the log, and what has been made.
#[derive(Default)]
pub(super) struct Progress {
    lag: Mutex<Lag>,
    pub(super) rows: AtomicU64,
    pub(super) dead_rows: AtomicU64,
    pub(super) bytes: AtomicU64,
}

#[derive(Default)]
struct Lag {
    /// Of the last pull: the age of its newest batch, if there were more behind it.
    behind: Duration,
    /// Since when the present pull is under way.
    pulling: Option<Instant>,
}

impl Progress {
    /// How old the oldest record is that is applied and not yet a row.
    pub(super) fn lag(&self) -> Duration {
        let lag = self.lag.lock();
        lag.behind + lag.pulling.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn pull_begins(&self) {
        self.lag.lock().pulling = Some(Instant::now());
    }

    fn pull_ended(&self, behind: Duration) {
        *self.lag.lock() = Lag { behind, pulling: None };
    }

    fn count(&self, applied: &Applied, parsed: &[(TopicId, Parsed)]) {
        let bytes: usize = applied.batches.iter().map(|batch| batch.batch.len()).sum();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.rows.fetch_add(parsed.iter().map(|(_, p)| p.rows).sum(), Ordering::Relaxed);
        self.dead_rows.fetch_add(parsed.iter().map(|(_, p)| p.dead_rows).sum(), Ordering::Relaxed);
    }
}

/// What the thread works with.
pub(super) struct Materializer {
    pub(super) log: Arc<dyn RowLog>,
    pub(super) tail: Arc<Tail>,
    pub(super) usage: Arc<Usage>,
    pub(super) progress: Arc<Progress>,
    pub(super) options: RowsOptions,
    pub(super) stop: CancellationToken,
}

/// Where a shard's tail has to start: just below the first batch that is not in a segment. Topics without such a
/// batch do not hold it back.
pub(super) fn start_of_tail(log: &dyn RowLog) -> RaftIndex {
    let applied = log.applied();
    let unsealed = log.topics().into_iter().filter(|topic| topic.has_unsealed);
    unsealed.map(|topic| topic.row_frontier).min().unwrap_or(applied).min(applied)
}

impl Materializer {
    /// Runs until it is stopped. `runtime` is used for waiting only.
    pub(super) fn run(self, runtime: &Handle) {
        let mut applied = self.log.watch_applied();
        while !self.stop.is_cancelled() {
            if *applied.borrow_and_update() <= self.tail.materialized() {
                let changed = async {
                    tokio::select! {
                        changed = applied.changed() => changed.is_ok(),
                        () = self.stop.cancelled() => false,
                    }
                };
                if !runtime.block_on(changed) {
                    return;
                }
                continue;
            }
            self.wait_for_room(runtime);
            if let Err(error) = self.pull() {
                tracing::error!(shard = %self.log.id(), %error, "cannot read the log to make rows; trying again");
                runtime.block_on(self.pause(RETRY));
            }
        }
    }

    /// One step: the next batches of the log, as rows.
    pub(super) fn pull(&self) -> Result<(), Error> {
        self.progress.pull_begins();
        let pulled = self.log.batches_after(self.tail.materialized(), self.options.pull_bytes);
        let applied = pulled.inspect_err(|_| self.progress.pull_ended(Duration::ZERO))?;
        let topics: BTreeMap<TopicId, HostedTopic> = self.log.topics().into_iter().map(|t| (t.id, t)).collect();
        let parsed = parse_by_topic(&topics, &applied.batches);
        self.progress.count(&applied, &parsed);
        self.tail.publish(applied.through, parsed);
        self.tail.retain(&topics.into_keys().collect::<Vec<_>>());
        self.progress.pull_ended(self.behind(&applied));
        Ok(())
    }

    fn behind(&self, applied: &Applied) -> Duration {
        if applied.through >= self.log.applied() {
            return Duration::ZERO;
        }
        let newest = applied.batches.last().map_or(i64::MAX, |batch| batch.entry_time_ns);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64;
        Duration::from_nanos(now.saturating_sub(newest).max(0) as u64)
    }

    /// At twice the budget nothing more is made until a seal has made room: what is accepted is safe in the log.
    fn wait_for_room(&self, runtime: &Handle) {
        let mut changes = self.usage.watch();
        while self.usage.bytes() > 2 * self.options.tail_budget_bytes && !self.stop.is_cancelled() {
            runtime.block_on(async {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = self.pause(RETRY) => {}
                }
            });
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// The rows of each topic that the shard hosts, of the batches above its row frontier.
fn parse_by_topic(topics: &BTreeMap<TopicId, HostedTopic>, batches: &[AppliedBatch]) -> Vec<(TopicId, Parsed)> {
    let mut by_topic: BTreeMap<TopicId, Vec<&AppliedBatch>> = BTreeMap::new();
    for batch in batches {
        by_topic.entry(batch.topic).or_default().push(batch);
    }
    let hosted = by_topic.into_iter().filter_map(|(id, batches)| Some((topics.get(&id)?, batches)));
    let parsed = hosted.map(|(topic, batches)| {
        let unsealed = batches.into_iter().filter(|batch| batch.index > topic.row_frontier);
        (topic.id, parse(&topic.config, unsealed))
    });
    parsed.collect()
}
