//! Runs the jobs of the shards that this node leads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, ShardId, internal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::erasures::ended_in;
use super::job::Job;
use super::progress::{Board, ErasurePhase, Key};
use super::{Tools, files};
use crate::outcome::is_overtaken;
use crate::shard::{Erasure, Shard};

/// How often it is looked for jobs, beside when one is asked for.
const TICK: Duration = Duration::from_secs(1);
/// How often it is looked whether files that are read are gone.
const LOOK: Duration = Duration::from_millis(100);
/// How long a job is left alone after it failed, at first and at most.
const REST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Of the files that a job waits for, so many are named.
const FILES_SHOWN: usize = 3;

/// The task.
pub(super) struct Runner {
    tools: Arc<Tools>,
    board: Arc<Board>,
    asked: Arc<Notify>,
    stop: CancellationToken,
    /// Jobs after which only the log holds what they erased.
    rewritten: BTreeSet<Key>,
    /// Jobs that wait for files that are still read.
    leaving: BTreeMap<Key, BTreeSet<String>>,
    rests: HashMap<Key, (Instant, Duration)>,
    /// Jobs that have ended, and of whose records this node's log has nothing any more.
    ended: BTreeSet<Key>,
    /// When it is tried again to have the log hold nothing of jobs that ended elsewhere, and the pause after that.
    follows: Option<(Instant, Duration)>,
    /// Shards whose saved state may name the condition of a job that has ended.
    unsaved: BTreeSet<ShardId>,
}

impl Runner {
    /// `ended`: jobs of whose records this node's log has nothing any more. `unsaved`: shards whose saved state may name the
    /// condition of a job that has ended.
    pub(super) fn new(
        tools: Arc<Tools>,
        board: Arc<Board>,
        asked: Arc<Notify>,
        stop: CancellationToken,
        ended: BTreeSet<Key>,
        unsaved: BTreeSet<ShardId>,
    ) -> Self {
        let (rewritten, leaving, rests) = (BTreeSet::new(), BTreeMap::new(), HashMap::new());
        Self { tools, board, asked, stop, rewritten, leaving, rests, ended, follows: None, unsaved }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.round().await;
            let pause = if self.leaving.is_empty() { TICK } else { LOOK };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.asked.notified() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Goes on with every job as far as it can.
    async fn round(&mut self) {
        let jobs = self.jobs();
        let known: BTreeSet<Key> = jobs.iter().map(|(shard, erasure)| (erasure.job, shard.id())).collect();
        self.rewritten.retain(|key| known.contains(key));
        self.leaving.retain(|key, _| known.contains(key));
        self.rests.retain(|key, _| known.contains(key));
        for (shard, erasure) in &jobs {
            let key = (erasure.job, shard.id());
            if !self.is_busy(key) && !self.stop.is_cancelled() {
                self.rewrite(key, shard, erasure).await;
            }
        }
        self.scrub().await;
        self.finish().await;
        self.follow().await;
        self.save_states().await;
    }

    /// Has the log of this node hold nothing of what was erased in shards that another node leads: that one has looked
    /// after its own. Segments that were replaced have left with the commands.
    async fn follow(&mut self) {
        let ended: BTreeSet<Key> = self.tools.shards.all().iter().flat_map(ended_in).collect();
        self.ended.retain(|key| ended.contains(key));
        let rests = self.follows.is_some_and(|(until, _)| Instant::now() < until);
        if self.ended.len() == ended.len() || rests || self.stop.is_cancelled() {
            return;
        }
        match self.tools.roller.scrub().await {
            Ok(()) => {
                self.unsaved.extend(ended.difference(&self.ended).map(|(_, shard)| *shard));
                (self.ended, self.follows) = (ended, None);
            }
            Err(error) => {
                let pause = self.follows.map_or(REST[0], |(_, pause)| (pause * 2).min(REST[1]));
                tracing::debug!(%error, ?pause, "the log still holds what was erased in shards that others lead");
                self.follows = Some((Instant::now() + pause, pause));
            }
        }
    }

    /// Has saved states name no condition of a job that has ended. What fails is tried again in the next round.
    async fn save_states(&mut self) {
        for shard in self.unsaved.clone() {
            match self.tools.roller.save_state(shard).await {
                Ok(()) => drop(self.unsaved.remove(&shard)),
                Err(error) => tracing::debug!(%shard, %error, "the state that was saved names a condition"),
            }
        }
    }

    /// The jobs under way in the shards that this node leads, in the order of their asking.
    fn jobs(&self) -> Vec<(Arc<Shard>, Erasure)> {
        let led = self.tools.shards.all().into_iter().filter(|shard| self.tools.rows.leads(shard.id()));
        let mut jobs: Vec<_> = led
            .flat_map(|shard| {
                let running = shard.read(|state| {
                    state.erasures().iter().filter(|erasure| erasure.done.is_none()).cloned().collect::<Vec<_>>()
                });
                running.into_iter().map(move |erasure| (Arc::clone(&shard), erasure))
            })
            .collect();
        jobs.sort_by_key(|(shard, erasure)| (erasure.requested_at_ns, erasure.job, shard.id()));
        jobs
    }

    fn is_busy(&self, key: Key) -> bool {
        let rests = self.rests.get(&key).is_some_and(|(until, _)| Instant::now() < *until);
        rests || self.rewritten.contains(&key) || self.leaving.contains_key(&key)
    }

    /// Rewrites the segments that hold what a job erases.
    async fn rewrite(&mut self, key: Key, shard: &Arc<Shard>, erasure: &Erasure) {
        let (tools, board, stop) = (Arc::clone(&self.tools), Arc::clone(&self.board), self.stop.clone());
        let done = match Job::new(tools, board, Arc::clone(shard), erasure.clone(), stop) {
            Ok(job) => job.run().await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => drop(self.rewritten.insert(key)),
            Err(error) if is_final(error.code) => {
                tracing::warn!(job = %key.0, shard = %key.1, code = ?error.code, "an erasure is given up");
                self.end(key, Some(given_up(error.code))).await;
            }
            Err(error) => self.failed(key, &error),
        }
    }

    /// Has the log hold nothing of what was rewritten, for all jobs that have come so far at once.
    async fn scrub(&mut self) {
        if self.rewritten.is_empty() {
            return;
        }
        self.rewritten.iter().for_each(|key| self.board.phase(*key, ErasurePhase::Log, 0));
        let scrubbed = self.tools.roller.scrub().await;
        for key in std::mem::take(&mut self.rewritten) {
            let left = match &scrubbed {
                Ok(()) => self.unnamed(key).await,
                Err(error) => Err(error.clone()),
            };
            match left {
                Ok(names) => {
                    self.board.phase(key, ErasurePhase::Readers, names.len());
                    self.board.waits_for(key, waiting_for(&names));
                    self.tools.rows.suspect_garbage(key.1);
                    self.leaving.insert(key, names);
                }
                Err(error) => self.failed(key, &error),
            }
        }
    }

    /// Ends the jobs whose replaced files are gone.
    async fn finish(&mut self) {
        for (key, mut names) in std::mem::take(&mut self.leaving) {
            match self.unnamed(key).await {
                Ok(now) => names.retain(|name| now.contains(name)),
                Err(error) => tracing::debug!(job = %key.0, %error, "it is not known which files are still read"),
            }
            if names.is_empty() && !self.stop.is_cancelled() {
                self.end(key, None).await;
            } else {
                self.board.waits_for(key, waiting_for(&names));
                self.leaving.insert(key, names);
            }
        }
    }

    async fn unnamed(&self, (_, shard): Key) -> Result<BTreeSet<String>, Error> {
        match self.tools.shards.get(shard) {
            Some(shard) => files::unnamed(&shard).await,
            None => Ok(BTreeSet::new()),
        }
    }

    /// Has the state of the shard say that a job has ended. The state that was saved before still had its condition.
    async fn end(&mut self, key: Key, error: Option<String>) {
        let Some(shard) = self.tools.shards.get(key.1) else { return };
        let (rows, records) = self.board.counts(key);
        let (job, error) = (key.0.to_bytes(), error.unwrap_or_default());
        let done = Command::EraseDone(internal::EraseDone { job, rows, records, error });
        if let Err(error) = shard.propose(done).await {
            // Whether it ended is in the state; if not, all of it is found done already.
            self.failed(key, &error);
            return;
        }
        tracing::info!(job = %key.0, shard = %key.1, rows, records, "an erasure has ended");
        self.board.forget(key);
        self.rests.remove(&key);
        self.ended.insert(key);
        self.unsaved.insert(key.1);
    }

    /// A job is left alone for a while, ever longer.
    fn failed(&mut self, key: Key, error: &Error) {
        let pause = self.rests.get(&key).map_or(REST[0], |(_, pause)| (*pause * 2).min(REST[1]));
        if is_overtaken(error) {
            tracing::debug!(job = %key.0, shard = %key.1, %error, "an erasure is gone on with where the shard is led");
        } else if !self.stop.is_cancelled() {
            tracing::warn!(job = %key.0, shard = %key.1, %error, ?pause, "an erasure did not come further; it is tried again");
        }
        self.board.failed(key, error);
        self.rests.insert(key, (Instant::now() + pause, pause));
    }
}

/// Whether trying again cannot help. That a topic is gone is no failure of a job: it ends with the topic, and a topic of
/// which that is not sure may come back.
fn is_final(code: Code) -> bool {
    matches!(code, Code::InvalidSql | Code::InvalidSearch)
}

/// Why a job is given up, without what the error says: that may quote a value that was to be forgotten.
fn given_up(code: Code) -> String {
    format!(
        "{code:?}: the condition cannot be evaluated on a row of the topic (a division by zero, or a number that is too \
         large); what was found before may be erased. Ask with a condition that has a value for every row"
    )
}

/// Which files a job waits for, in words.
fn waiting_for(names: &BTreeSet<String>) -> String {
    let shown = names.iter().take(FILES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(FILES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
