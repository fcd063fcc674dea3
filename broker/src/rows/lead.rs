//! What begins and ends with leadership. Only the leader of a shard makes rows of it: a tail of its own begins where the
//! row frontiers are when the first entry of its term is applied, and is forgotten when another replica may lead.
//!
//! Whatever an earlier leader proposed has been applied by then, or never will be: nothing but what this leader proposes
//! moves a row frontier under its tail.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, ShardId, Term};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::garbage;
use super::materializer::Materializer;
use super::options::RowsOptions;
use super::replica::Replica;
use super::seal::Sealer;
use super::shard_rows::ShardRows;
use super::usage::Usage;
use crate::fatal;

/// How long to wait before it is tried again to begin.
const REST: Duration = Duration::from_secs(1);

/// Starts what makes rows of a shard.
pub(super) struct Starter {
    options: RowsOptions,
    usage: Arc<Usage>,
    sealer: Arc<Sealer>,
    threads: Mutex<Vec<(ShardId, JoinHandle<()>)>>,
}

impl Starter {
    pub(super) fn new(options: RowsOptions, usage: Arc<Usage>, sealer: Arc<Sealer>) -> Self {
        Self { options, usage, sealer, threads: Mutex::default() }
    }

    /// Has the rows of a replica follow its leadership, until it is stopped. `leading`: the term in which it leads.
    pub(super) async fn follow(self: Arc<Self>, replica: Arc<Replica>, mut leading: watch::Receiver<Option<Term>>) {
        loop {
            let term = *leading.borrow_and_update();
            let mut pause = Duration::MAX;
            if let Err(error) = self.change(&replica, term) {
                tracing::error!(shard = %replica.log.id(), %error, "cannot begin to make rows; trying again");
                pause = REST;
            }
            tokio::select! {
                changed = leading.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(pause) => {}
                () = replica.stop.cancelled() => break,
            }
        }
        replica.set_led(None);
    }

    /// Ends the rows of another term, and begins those of this one.
    ///
    /// # Errors
    /// [`Code::Io`] if a thread cannot be started: there are no rows.
    pub(super) fn change(&self, replica: &Arc<Replica>, term: Option<Term>) -> Result<(), Error> {
        if replica.led().map(|rows| rows.term) == term {
            return Ok(());
        }
        replica.set_led(None);
        match term {
            Some(term) => self.begin(replica, term),
            None => Ok(()),
        }
    }

    fn begin(&self, replica: &Arc<Replica>, term: Term) -> Result<(), Error> {
        let rows = Arc::new(ShardRows::new(replica, term, self.usage.clone()));
        self.start_materializer(&rows)?;
        replica.tasks.spawn(self.sealer.clone().run(rows.clone(), rows.stop.clone()));
        replica.tasks.spawn(garbage::run(rows.clone(), rows.stop.clone()));
        replica.set_led(Some(rows));
        Ok(())
    }

    fn start_materializer(&self, rows: &ShardRows) -> Result<(), Error> {
        let id = rows.log.id();
        let materializer = Materializer {
            log: rows.log.clone(),
            tail: rows.tail.clone(),
            usage: self.usage.clone(),
            progress: rows.progress.clone(),
            options: self.options.clone(),
            stop: rows.stop.clone(),
        };
        let runtime = Handle::current();
        let run = move || {
            let _halt = HaltOnPanic { shard: id, stop: materializer.stop.clone() };
            materializer.run(&runtime);
        };
        let thread = std::thread::Builder::new().name(format!("rows-{id}")).spawn(run);
        let thread = thread.map_err(|error| {
            Error::new(Code::Io, format!("cannot start the thread that makes rows of shard {id}: {error}"))
        })?;
        let mut threads = self.threads.lock();
        threads.retain(|(_, thread)| !thread.is_finished());
        threads.push((id, thread));
        Ok(())
    }

    /// Waits for the threads of a shard that was stopped, or of all.
    pub(super) async fn join(&self, shard: Option<ShardId>) {
        let ended: Vec<_> = {
            let mut threads = self.threads.lock();
            let (ended, others) = threads.drain(..).partition(|(of, _)| shard.is_none_or(|shard| shard == *of));
            *threads = others;
            ended
        };
        let joined = tokio::task::spawn_blocking(move || ended.into_iter().for_each(|(_, thread)| drop(thread.join())));
        let _ = joined.await;
    }
}

/// A shard without a materializer would answer queries from an ever older state: it is better to stop and restart.
struct HaltOnPanic {
    shard: ShardId,
    stop: CancellationToken,
}

impl Drop for HaltOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.stop.is_cancelled() {
            fatal::halt(&format!("S1: the thread that makes rows of shard {} panicked", self.shard));
        }
    }
}
