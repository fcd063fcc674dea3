//! What others ask of a roller: it is the one who changes replay segments and lets go of the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog_proto::{Code, Error, RaftIndex, SegmentId, ShardId, internal};
use stratalog_storage::{ErasedOffsets, RecMeta};
use tokio::sync::{mpsc, oneshot};

use super::build;
use super::member::{Member, Step};
use super::roller::{Roller, Worker};
use super::steps::blocking;

/// Errands that may wait.
pub(super) const ERRANDS_AHEAD: usize = 16;
/// How often it is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(20);
/// How long a scrub waits for each thing that it waits for: files that are read, groups that apply, a file to be made.
const PATIENCE: Duration = Duration::from_secs(60);

/// One thing to do, and where to say how it went.
pub(super) struct Errand {
    what: What,
    done: oneshot::Sender<Result<(), Error>>,
}

enum What {
    /// Roll a shard's log up to this entry at least.
    RollThrough(ShardId, RaftIndex),
    /// Rewrite a replay segment without these records.
    Erase(ShardId, Arc<RecMeta>, ErasedOffsets),
    /// Have no log file hold what is in replay segments.
    Scrub,
    /// Save the state of a shard.
    Snapshot(ShardId),
    /// Look after a group from now on.
    Add(Member),
    /// Look after a group no more.
    Remove(ShardId),
}

impl Roller {
    /// Rolls the log of a shard that this node leads, up to and including an entry that is applied.
    ///
    /// # Errors
    /// Those of building segments and of proposing.
    pub(crate) async fn roll_through(&self, shard: ShardId, index: RaftIndex) -> Result<(), Error> {
        self.run(What::RollThrough(shard, index)).await
    }

    /// Rewrites a replay segment of a shard that this node leads without the records at these offsets of it.
    ///
    /// # Errors
    /// [`Code::Conflict`] if it is not live any more; those of reading, of the disk and of proposing.
    pub(crate) async fn erase(&self, shard: ShardId, from: Arc<RecMeta>, erased: ErasedOffsets) -> Result<(), Error> {
        self.run(What::Erase(shard, from, erased)).await
    }

    /// Has the log go on in a new file, everything before that be in replay segments and saved states, and the old files
    /// be gone. When this returns, nothing that was in the log when it was called is in a file of the log, but for files that
    /// a group needs which another node leads: those are logged, and go when that node lets the group need them no more.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if an old file is still read; those of rolling and of saving states. It can be done again.
    pub(crate) async fn scrub(&self) -> Result<(), Error> {
        self.run(What::Scrub).await
    }

    /// Saves the state of a shard, in the place of the one that was saved before.
    ///
    /// # Errors
    /// Those of the disk; [`Code::Unavailable`] while a replay segment is not here.
    pub(crate) async fn save_state(&self, shard: ShardId) -> Result<(), Error> {
        self.run(What::Snapshot(shard)).await
    }

    /// Looks after a group that has just been started.
    ///
    /// # Errors
    /// [`Code::Unavailable`]: the node is stopping.
    pub(crate) async fn add(&self, member: Member) -> Result<(), Error> {
        self.run(What::Add(member)).await
    }

    /// Looks after a group no more; when this returns, nothing here uses it or its files. Its log files stay until the
    /// [log](crate::raft::Logs::forget) is forgotten.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(crate) async fn remove(&self, group: ShardId) -> Result<(), Error> {
        self.run(What::Remove(group)).await
    }

    async fn run(&self, what: What) -> Result<(), Error> {
        let ended = || Error::new(Code::Unavailable, "the node is stopping");
        let (done, outcome) = oneshot::channel();
        self.errands().send(Errand { what, done }).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }
}

impl Worker {
    /// Does an errand, and says how it went.
    pub(super) async fn do_errand(&mut self, errand: Errand) {
        let done = match errand.what {
            What::Add(member) => {
                self.leave(member.id()).await;
                self.care_for(member);
                Ok(())
            }
            What::Remove(group) => {
                self.leave(group).await;
                Ok(())
            }
            What::RollThrough(shard, index) => self.roll_through(shard, index).await,
            What::Erase(shard, from, erased) => self.erase(shard, from, erased).await,
            What::Scrub => self.scrub().await,
            What::Snapshot(shard) => match self.at(shard) {
                Ok(at) => self.snapshot(at).await,
                Err(error) => Err(error),
            },
        };
        // Who asked may be gone.
        let _ = errand.done.send(done);
    }

    /// The errand that is asked for next.
    pub(super) async fn next_errand(errands: &mut mpsc::Receiver<Errand>) -> Errand {
        match errands.recv().await {
            Some(errand) => errand,
            // The roller itself holds a sender: it is gone only when this task is to end.
            None => std::future::pending().await,
        }
    }

    async fn roll_through(&mut self, shard: ShardId, index: RaftIndex) -> Result<(), Error> {
        let at = self.at(shard)?;
        while self.shard(at).is_some_and(|shard| shard.replay_frontier() < index) {
            self.go_on()?;
            self.roll(at).await?;
        }
        Ok(())
    }

    async fn erase(&mut self, shard: ShardId, from: Arc<RecMeta>, erased: ErasedOffsets) -> Result<(), Error> {
        let at = self.at(shard)?;
        let shard = self.shard(at).ok_or_else(|| not_here(shard))?;
        let keep: Vec<_> = from.ranges().map(|(topic, range)| (topic, range.partition)).collect();
        let (store, source, offsets) = (Arc::clone(shard.recs()), Arc::clone(&from), erased.clone());
        let build = move || build::repack(&store, &source, SegmentId::new(), &keep, &offsets);
        let added: Vec<Arc<RecMeta>> = blocking(build).await?.into_iter().map(Arc::new).collect();
        let add = added.first().map(|meta| internal::RecMeta::from(&**meta));
        let repack = internal::Repack { remove: from.id.to_bytes(), add, erased: erased.to_proto() };
        self.replace_rec(at, &shard, added, repack).await?;
        self.unlink_retired(at).await;
        Ok(())
    }

    async fn scrub(&mut self) -> Result<(), Error> {
        self.tend().await;
        let first = self.rotate().await?;
        let mut gone = first;
        for at in 0..self.cares.len() {
            gone = gone.min(self.leave_files_below(at, first).await?);
        }
        self.release_lane().await;
        let lane = Arc::clone(&self.lane);
        let discarded = move || {
            let lane = Arc::clone(&lane);
            // All below `first` are given back in the end; only those below `gone` are waited for.
            async move { blocking(move || Ok(lane.discard_below(first)? || lane.discard_below(gone)?)).await }
        };
        self.until(&format!("files of the log below number {gone} are gone"), discarded).await
    }

    /// Has the log go on in a new file; its number, once that is durable.
    async fn rotate(&self) -> Result<u64, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (done, durable) = oneshot::channel();
            let rotated = self.lane.rotate(Box::new(move |result| drop(done.send(result))))?;
            if let Some(number) = rotated {
                let ended = |_| Error::new(Code::Unavailable, "the log has closed");
                durable.await.map_err(ended)??;
                return Ok(number);
            }
            self.pause(deadline, "there is a new file for the log").await?;
        }
    }

    /// Has a group need no log file below `first`; gives the first that it needs, which is lower for a group that another
    /// node leads: what it rolls is not up to this one, and no job here waits for it.
    async fn leave_files_below(&mut self, at: usize, first: u64) -> Result<u64, Error> {
        let deadline = Instant::now() + PATIENCE;
        let log = self.cares[at].member.log().clone();
        let id = self.cares[at].member.id();
        while log.retained().oldest_file.is_some_and(|file| file < first) {
            self.make_expected(at).await;
            let is_led_elsewhere = self.shard(at).is_some_and(|shard| !shard.is_leader());
            if let Some(last) = log.retained().last.filter(|_| self.shard(at).is_some() && !is_led_elsewhere) {
                self.roll_applied(at, last).await?;
            }
            self.snapshot(at).await?;
            // What is to be gone stays for nobody.
            if let Some(frontier) = self.cares[at].releasable() {
                let released = self.let_go(at, frontier).await;
                self.cares[at].ended(Step::Release, &released);
            }
            let Some(file) = log.retained().oldest_file.filter(|file| *file < first) else { break };
            if is_led_elsewhere {
                tracing::warn!(shard = %id, file, "an erasure leaves files of the log to a group that another node leads");
                return Ok(file);
            }
            self.pause(deadline, &format!("shard {id} does not need file {file} of the log any more")).await?;
        }
        Ok(first)
    }

    /// Rolls what is applied of the entries up to `last`.
    async fn roll_applied(&mut self, at: usize, last: RaftIndex) -> Result<(), Error> {
        let Some(shard) = self.shard(at) else { return Ok(()) };
        let through = last.min(shard.applied());
        self.roll_through(shard.id(), through).await
    }

    /// Waits until something is so.
    async fn until<F>(&self, what: &str, mut is_so: impl FnMut() -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<bool, Error>>,
    {
        let deadline = Instant::now() + PATIENCE;
        while !is_so().await? {
            self.pause(deadline, what).await?;
        }
        Ok(())
    }

    async fn pause(&self, deadline: Instant, until: &str) -> Result<(), Error> {
        if Instant::now() >= deadline {
            let message = format!("it took longer than {PATIENCE:?} until {until}; it is tried again");
            return Err(Error::new(Code::Unavailable, message));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => Ok(()),
            () = self.stopped() => Err(Error::new(Code::Unavailable, "the node is stopping")),
        }
    }

    fn go_on(&self) -> Result<(), Error> {
        if self.is_stopping() { Err(Error::new(Code::Unavailable, "the node is stopping")) } else { Ok(()) }
    }

    fn at(&self, shard: ShardId) -> Result<usize, Error> {
        self.cares.iter().position(|care| care.member.id() == shard).ok_or_else(|| not_here(shard))
    }
}

fn not_here(shard: ShardId) -> Error {
    Error::new(Code::Internal, format!("the roller does not care for shard {shard}"))
}
