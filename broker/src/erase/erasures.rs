//! The erasures of a node, as the rest of the broker sees them.

use std::collections::BTreeSet;
use std::sync::Arc;

use stratalog_proto::config::{ColumnSpec, Format};
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, JobId, ShardId, internal};
use stratalog_query::TopicInfo;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Tools;
use super::progress::{Board, ErasureInfo, Key};
use super::runner::Runner;
use crate::rows::column_specs;
use crate::shard::{Erasure, MAX_PREDICATE_BYTES, Shard};

/// The erasures of a node. They end when this is stopped or dropped, and are gone on with at the next start.
pub(crate) struct Erasures {
    tools: Arc<Tools>,
    board: Arc<Board>,
    asked: Arc<Notify>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Erasures {
    /// Works on nothing before [`start`](Self::start).
    pub(crate) fn new(tools: Tools) -> Self {
        Self {
            tools: Arc::new(tools),
            board: Arc::default(),
            asked: Arc::default(),
            stop: CancellationToken::new(),
            task: Mutex::new(None),
        }
    }

    /// Starts working on what the states of the shards say is under way. The topics that there are have to be known by now:
    /// a job of another one is given up.
    pub(crate) async fn start(&self) {
        let (tools, board) = (Arc::clone(&self.tools), Arc::clone(&self.board));
        let (asked, stop) = (Arc::clone(&self.asked), self.stop.clone());
        let runner = Runner::new(tools, board, asked, stop, self.ended_here(), self.ended_before());
        *self.task.lock().await = Some(tokio::spawn(runner.run()));
    }

    /// Jobs that have ended in shards without another replica: this node led them to their end.
    fn ended_here(&self) -> BTreeSet<Key> {
        self.tools.shards.all().iter().filter(|shard| shard.group().is_alone()).flat_map(ended_in).collect()
    }

    /// Shards in which jobs ended: their last saved state may be older, and still name a condition.
    fn ended_before(&self) -> BTreeSet<ShardId> {
        self.tools.shards.all().iter().flat_map(ended_in).map(|(_, shard)| shard).collect()
    }

    /// What asks for the records of a topic to be erased whose rows fulfil a condition now: a command for each shard of the
    /// topic, wherever that is led. Each shard begins by itself once it is applied there.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for a topic without rows or a condition that is empty or too long; [`Code::InvalidSql`] and
    /// [`Code::InvalidSearch`] for one that cannot say what to erase; those of planning it.
    pub(crate) async fn plan(
        &self,
        topic: &TopicInfo,
        predicate: &str,
    ) -> Result<(JobId, Vec<(ShardId, Command)>), Error> {
        if topic.config.format == Format::Raw {
            let message = format!(
                "records of topic `{}` cannot be erased by a condition: it is raw, and has no rows",
                topic.name
            );
            return Err(Error::new(Code::InvalidRequest, message));
        }
        check_length(predicate)?;
        let job = JobId::new();
        let shards: BTreeSet<ShardId> = topic.shards.iter().copied().collect();
        // Columns of rows that somebody was just told of are known, too.
        for shard in shards.iter().filter(|shard| self.tools.rows.leads(**shard)) {
            self.tools.rows.caught_up_in(*shard).await?;
        }
        let columns = column_specs(&*self.tools.engine.columns_of(topic, predicate).await?)?;
        let columns: Vec<_> = columns.iter().map(ColumnSpec::to_internal).collect();
        let erase = internal::Erase {
            job: job.to_bytes(),
            topic: topic.id.to_bytes(),
            predicate: predicate.to_owned(),
            columns,
        };
        Ok((job, shards.into_iter().map(|shard| (shard, Command::Erase(erase.clone()))).collect()))
    }

    /// Says that there may be something to do.
    pub(crate) fn look(&self) {
        self.asked.notify_one();
    }

    /// The erasures that are under way, and those that ended last, by time of asking and shard.
    pub(crate) fn list(&self) -> Vec<ErasureInfo> {
        let mut found = Vec::new();
        for shard in self.tools.shards.all() {
            let erasures = shard.read(|state| state.erasures().to_vec());
            found.extend(erasures.iter().map(|erasure| {
                let name = self.tools.topics.by_id(erasure.topic).map(|topic| topic.name.clone());
                self.board.info(shard.id(), erasure, name)
            }));
        }
        found.sort_by_key(|info| (info.requested_at_ns, info.job, info.shard));
        found
    }

    /// Ends the work, and waits for the step that is under way.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "erasures did not end cleanly; they are gone on with at the next start");
        }
    }
}

impl Drop for Erasures {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The jobs that have ended in a shard.
pub(super) fn ended_in(shard: &Arc<Shard>) -> Vec<Key> {
    let ended = |erasure: &&Erasure| erasure.done.is_some();
    shard.read(|state| state.erasures().iter().filter(ended).map(|erasure| (erasure.job, shard.id())).collect())
}

/// # Errors
/// [`Code::InvalidRequest`], as the state of a shard would say.
fn check_length(predicate: &str) -> Result<(), Error> {
    if predicate.is_empty() || predicate.len() > MAX_PREDICATE_BYTES {
        let message = format!("an erasure has a condition of 1 to {MAX_PREDICATE_BYTES} bytes");
        return Err(Error::new(Code::InvalidRequest, message));
    }
    Ok(())
}
