//! The materializer of a shard: one thread that pulls applied batches from the log, makes rows of them and publishes
//! them in the tail; what it pulls is parsed on further threads where cores are idle. Restart and steady state are one
//! path: it starts below the first batch that is not sealed and pulls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use stratalog_proto::{Code, RaftIndex, TopicId};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::held::{Held, Retry};
use super::log::{HostedTopic, RowLog};
use super::options::RowsOptions;
use super::parallel::{Work, parse_all};
use super::tail::{Pulled, Tail};
use super::usage::Usage;
use crate::shard::{Applied, AppliedBatch, Unreadable, Wanted};

/// How often to look for room although nobody says that there is any.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How far rows are behind the log.
#[derive(Default)]
pub(super) struct Progress {
    lag: Mutex<Lag>,
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

/// Where a shard's tail has to start: just below the first batch that is not in a column segment. What lies between a
/// topic's row frontier and there holds none of its rows.
pub(super) fn start_of_tail(log: &dyn RowLog) -> RaftIndex {
    let applied = log.applied();
    log.unsealed_after().unwrap_or(applied).min(applied)
}

impl Materializer {
    /// Runs until it is stopped. `runtime` is used for waiting only.
    pub(super) fn run(self, runtime: &Handle) {
        let mut applied = self.log.watch_applied();
        let mut retry = Retry::never();
        while !self.stop.is_cancelled() {
            if retry.is_due() {
                retry = self.retry_held(retry, runtime);
            }
            if *applied.borrow_and_update() <= self.tail.materialized() {
                let changed = async {
                    tokio::select! {
                        changed = applied.changed() => changed.is_ok(),
                        () = retry.due() => true,
                        () = self.stop.cancelled() => false,
                    }
                };
                if !runtime.block_on(changed) {
                    return;
                }
                continue;
            }
            self.wait_for_room(runtime);
            if self.pull() > 0 {
                retry.begin();
            }
        }
    }

    /// One step: the next batches of the log, as rows; how many topics are held back from here on.
    pub(super) fn pull(&self) -> usize {
        self.progress.pull_begins();
        let held = self.tail.held_topics();
        let wanted = Wanted::AllBut(&held);
        let applied = self.log.batches_after(self.tail.materialized(), wanted, self.options.pull_bytes);
        let topics: BTreeMap<TopicId, HostedTopic> = self.log.topics().into_iter().map(|t| (t.id, t)).collect();
        let pulled = parse_by_topic(&topics, &applied.batches);
        self.count(&applied, &pulled);
        let held: Vec<_> = applied.unreadable.iter().map(|lost| (lost.topic, self.hold(lost, None))).collect();
        let newly_held = held.len();
        let grown: Vec<TopicId> = pulled.iter().map(|pulled| pulled.topic).collect();
        self.tail.publish(applied.through, pulled, held);
        self.tail.index_words(&grown);
        self.tail.retain(&topics.into_keys().collect::<Vec<_>>());
        self.progress.pull_ended(self.behind(&applied));
        newly_held
    }

    /// Tries the topics that are held back again.
    fn retry_held(&self, mut retry: Retry, runtime: &Handle) -> Retry {
        self.tail.held_topics().into_iter().for_each(|topic| self.catch_up(topic, runtime));
        if self.tail.held_count() == 0 {
            return Retry::never();
        }
        retry.failed();
        retry
    }

    /// Makes rows of a topic that is held back: as far as those of the other topics reach, or to the next damage.
    fn catch_up(&self, topic: TopicId, runtime: &Handle) {
        while let Some(held) = self.tail.held(topic)
            && !self.stop.is_cancelled()
        {
            self.wait_for_room(runtime);
            let materialized = self.tail.materialized();
            let mut found = self.log.batches_after(held.through, Wanted::Only(topic), self.options.pull_bytes);
            // What lies above comes with the batches of the other topics.
            found.batches.retain(|batch| batch.index <= materialized);
            found.unreadable.retain(|lost| lost.index <= materialized);
            let topics = self.log.topics().into_iter().filter(|hosted| hosted.id == topic);
            let pulled = parse_by_topic(&topics.map(|hosted| (topic, hosted)).collect(), &found.batches);
            self.count(&found, &pulled);
            let still = match found.unreadable.first() {
                Some(lost) => Some(self.hold(lost, Some(&held))),
                None => (found.through < materialized).then_some(Held { through: found.through, ..held }),
            };
            let is_over = still.is_none();
            self.tail.publish_held(topic, pulled.into_iter().next(), still);
            if is_over {
                tracing::info!(shard = %self.log.id(), %topic, "what could not be read can be read again: its rows go on");
            }
            if !found.unreadable.is_empty() {
                return;
            }
        }
    }

    /// How a topic is held back from now on. It is said once for each cause. What is in a file that is not here is on its way,
    /// as to a new leader that had just caught up; if it does not come, whoever fetches it says so.
    fn hold(&self, lost: &Unreadable, before: Option<&Held>) -> Held {
        if before.is_none_or(|before| before.why != lost.error) {
            let (shard, topic, index, error) = (self.log.id(), lost.topic, lost.index, &lost.error);
            match error.code {
                Code::Unavailable => {
                    tracing::info!(%shard, %topic, %index, %error, "the topic gets no further rows until a file is here");
                }
                _ => {
                    tracing::error!(%shard, %topic, %index, %error, "L5: cannot read a batch; the topic gets no further rows until it can be read");
                }
            }
        }
        Held { through: RaftIndex(lost.index.0 - 1), why: lost.error.clone() }
    }

    fn count(&self, applied: &Applied, pulled: &[Pulled]) {
        let (made, bytes) = (&self.usage.made, applied.batches.iter().map(|batch| batch.batch.len()).sum::<usize>());
        made.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        made.rows.fetch_add(pulled.iter().map(|of| of.parsed.rows).sum(), Ordering::Relaxed);
        made.dead_rows.fetch_add(pulled.iter().map(|of| of.parsed.dead_rows).sum(), Ordering::Relaxed);
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
                    () = self.pause(LOOK_AGAIN) => {}
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
fn parse_by_topic(topics: &BTreeMap<TopicId, HostedTopic>, batches: &[AppliedBatch]) -> Vec<Pulled> {
    let mut by_topic: BTreeMap<TopicId, Vec<&AppliedBatch>> = BTreeMap::new();
    for batch in batches {
        by_topic.entry(batch.topic).or_default().push(batch);
    }
    let hosted = by_topic.into_iter().filter_map(|(id, batches)| Some((topics.get(&id)?, batches)));
    let (hosts, works): (Vec<&HostedTopic>, Vec<Work<'_>>) = hosted
        .map(|(topic, mut batches)| {
            batches.retain(|batch| batch.index > topic.row_frontier);
            (topic, Work { config: &topic.config, batches })
        })
        .unzip();
    let parsed = hosts.into_iter().zip(parse_all(&works));
    parsed.map(|(topic, parsed)| Pulled { topic: topic.id, above: topic.row_frontier, parsed }).collect()
}
