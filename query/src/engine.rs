//! The entry point: SQL and search over the topics of a [`Catalog`].

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use futures::stream::{self, BoxStream, StreamExt};
use stratalog_proto::{Code, Error, internal};
use tokio::sync::{mpsc, oneshot};

use crate::answer::Answer;
use crate::catalog::{Catalog, TopicInfo, TopicSnapshot};
use crate::changes::Changes;
use crate::core::Core;
use crate::delivery::{Rows, Started};
use crate::parts::{self, Alone, PartBytes, Workers};
use crate::positions::{self, Positions};
use crate::queries::{Listed, Outcome};
use crate::query::{Arrival, Query};
use crate::runtime::QueryRuntime;
use crate::search::{self, SearchRequest};
use crate::statement::{self, SqlRequest};

/// What is as good as no deadline for a job in the background.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3_600);
/// How often a query runs again whose part was lost.
const RUNS_AGAIN: usize = 2;
/// Before it does, for others to notice what happened to the node.
const PAUSE: Duration = Duration::from_millis(250);
/// Frames of a part that wait for a slow connection before its query pauses.
const FRAMES_AHEAD: usize = 2;

/// Limits of an engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Memory of all queries together, in bytes. Text indexes that stay open between queries have a quarter of it more.
    pub memory_bytes: usize,
    /// Memory of one query, in bytes.
    pub query_memory_bytes: usize,
    /// Where operators write what they have no memory for; cleared at the start. `None`: nowhere, they fail instead.
    pub spill_dir: Option<PathBuf>,
    /// What all queries together may have there, in bytes.
    pub spill_bytes: u64,
    /// What one query may have there, in bytes.
    pub query_spill_bytes: u64,
    /// Queries that run at once.
    pub max_running: usize,
    /// Queries that wait until others end; beyond, they are refused.
    pub max_waiting: usize,
    /// The deadline of a query that asks for none.
    pub default_timeout: Duration,
    /// The longest deadline that a query can ask for; it gets this one if it asks for more.
    pub max_timeout: Duration,
    /// Rows of a search that asks for no number.
    pub search_limit: usize,
    /// Threads for queries; 0: one a core.
    pub threads: usize,
    /// What each of these threads does first, such as lowering its priority.
    pub on_thread_start: Option<fn()>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            query_memory_bytes: 512 << 20,
            spill_dir: None,
            spill_bytes: 16 << 30,
            query_spill_bytes: 8 << 30,
            max_running: 16,
            max_waiting: 256,
            default_timeout: Duration::from_secs(60),
            max_timeout: Duration::from_secs(600),
            search_limit: 100,
            threads: 0,
            on_thread_start: None,
        }
    }
}

/// Runs queries on threads of its own.
pub struct Engine {
    /// An engine that could not start says why to every query.
    running: Result<Running, Error>,
}

struct Running {
    core: Arc<Core>,
    runtime: QueryRuntime,
}

impl Engine {
    /// An engine over `catalog`, whose statements change what there is through `changes`. May be created and dropped
    /// anywhere, in async code too.
    pub fn new(catalog: Arc<dyn Catalog>, changes: Arc<dyn Changes>, options: EngineOptions) -> Self {
        Self::with_workers(catalog, changes, Arc::new(Alone), options)
    }

    /// As [`Engine::new`], with other nodes that have rows too.
    pub fn with_workers(
        catalog: Arc<dyn Catalog>,
        changes: Arc<dyn Changes>,
        workers: Arc<dyn Workers>,
        options: EngineOptions,
    ) -> Self {
        let running = Running::start(catalog, changes, workers, options);
        if let Err(error) = &running {
            tracing::error!(%error, "queries are not possible");
        }
        Self { running }
    }

    /// Tasks of queries that run.
    #[cfg(test)]
    pub(crate) fn tasks(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.runtime.tasks())
    }

    /// Parts of queries of other nodes that are open here.
    #[cfg(test)]
    pub(crate) fn open_parts(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.core.parts.count())
    }

    /// Memory that queries have, in bytes.
    #[cfg(test)]
    pub(crate) fn reserved(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.core.memory.used())
    }

    /// Runs one SQL statement. Returns once it is planned and its snapshots are taken, or once what it changes is.
    ///
    /// # Errors
    /// [`Code::InvalidSql`] with line and column, [`Code::UnknownTopic`], [`Code::QueryDeadline`], [`Code::Cancelled`],
    /// [`Code::Overloaded`] if too many queries wait; what the catalog and the changes report.
    pub async fn sql(&self, request: SqlRequest) -> Result<Answer, Error> {
        let running = self.running.as_ref().map_err(Error::clone)?;
        let (id, client) = (request.id.clone(), request.client.clone());
        let query = running.core.arrived(id, &request.sql, client, request.timeout)?;
        let listed = running.core.queries.begin(query)?;
        let prepare = move |core: Arc<Core>, query: Arc<Query>| {
            let request = request.clone();
            async move { statement::prepare(&core, request, &query).await }
        };
        running.answer(listed, prepare).await
    }

    /// Runs a log search: the newest rows that match, newest first. Columns are `_time`, `_partition`, `_offset`, then
    /// those of the others that have a value in at least one row.
    ///
    /// # Errors
    /// [`Code::InvalidSearch`] with the position, [`Code::UnknownTopic`], [`Code::QueryDeadline`], [`Code::Cancelled`],
    /// [`Code::Overloaded`], [`Code::QueryBudget`]; what the catalog and the storage report.
    pub async fn search(&self, request: SearchRequest) -> Result<Answer, Error> {
        let running = self.running.as_ref().map_err(Error::clone)?;
        let text = format!("search {}: {}", request.topic, request.query);
        let (id, client) = (request.id.clone(), request.client.clone());
        let query = running.core.arrived(id, &text, client, request.timeout)?;
        let listed = running.core.queries.begin(query)?;
        let prepare = move |core: Arc<Core>, query: Arc<Query>| {
            let request = request.clone();
            async move { search::prepare(&core, request, &query).await }
        };
        running.answer(listed, prepare).await
    }

    /// The rows of a snapshot for which the condition of a `DELETE` is true, without a deadline. The snapshot may be one
    /// that the caller made of rows that no catalogue knows. A column that it does not have is null in every row. Columns
    /// have the types that they have in `asked`, which [`Engine::columns_of`] gave; without it those of the topic now.
    ///
    /// # Errors
    /// [`Code::InvalidSql`] and [`Code::InvalidSearch`] for a condition that is none, names `_raw`, has a subquery, or
    /// depends on the clock or on chance.
    pub async fn matching(
        &self,
        snapshot: Arc<TopicSnapshot>,
        predicate: &str,
        asked: Option<SchemaRef>,
    ) -> Result<Positions, Error> {
        let running = self.running.as_ref().map_err(Error::clone)?;
        let predicate = predicate.to_owned();
        let (id, client) = (running.core.queries.id(None)?, String::new());
        let query = running.core.query(Arrival { id, text: &predicate, client, timeout: NO_DEADLINE });
        let find = move |core: Arc<Core>, query: Arc<Query>| {
            let (snapshot, predicate, asked) = (snapshot.clone(), predicate.clone(), asked.clone());
            async move { positions::find(&core, snapshot, &predicate, asked.as_deref(), &query).await }
        };
        Ok(Positions::new(running.answer(Listed::unlisted(query), find).await?))
    }

    /// Checks the condition of a `DELETE`; the columns of the topic that it names, with the types that they have now.
    ///
    /// # Errors
    /// Those of [`Engine::matching`], and a column that the topic does not have.
    pub async fn columns_of(&self, topic: &TopicInfo, predicate: &str) -> Result<SchemaRef, Error> {
        let core = &self.running.as_ref().map_err(Error::clone)?.core;
        let id = core.queries.id(None)?;
        let arrival = Arrival { id, text: predicate, client: String::new(), timeout: core.options.default_timeout };
        Ok(Arc::new(positions::columns(core, topic, predicate, &core.query(arrival)).await?))
    }

    /// Takes a snapshot of rows that are here, for a query that another node was asked. It is kept until
    /// [`Engine::close_part`] or the end of its time.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`], [`Code::NotLeader`] for a shard that is led elsewhere, [`Code::Unavailable`] for a topic
    /// that is not known here yet, [`Code::Overloaded`]; what the catalogue reports.
    pub async fn open_part(&self, request: internal::OpenPart) -> Result<internal::PartOpened, Error> {
        let running = self.running.as_ref().map_err(Error::clone)?;
        let (done, opened) = oneshot::channel();
        let core = running.core.clone();
        let _task = running.runtime.spawn(async move { drop(done.send(parts::open(&core, request).await)) });
        let died = |_| Error::new(Code::Internal, "opening a part of a query stopped: a defect");
        opened.await.map_err(died)?
    }

    /// Runs a plan over a part. The frames end with one that says so, or with an error; without, the answer is not whole.
    /// Dropping them ends the run.
    pub fn run_part(&self, request: internal::RunPart) -> BoxStream<'static, Result<PartBytes, Error>> {
        let running = match &self.running {
            Ok(running) => running,
            Err(error) => return stream::iter([Err(error.clone())]).boxed(),
        };
        let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
        let task = running.runtime.spawn(parts::run(running.core.clone(), request, sender));
        let frames = stream::unfold((frames, task), |(mut frames, task)| async move {
            let frame = frames.recv().await?;
            Some((frame, (frames, task)))
        });
        frames.boxed()
    }

    /// Lets go of a part, and ends what runs over it. Closing what is not open does nothing.
    pub fn close_part(&self, part: u64) {
        if let Ok(running) = &self.running {
            running.core.parts.close(part);
        }
    }

    /// Ends a query, wherever it is: whoever reads its answer gets [`Code::Cancelled`].
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if no query of that id runs.
    pub fn kill(&self, id: &str) -> Result<(), Error> {
        self.running.as_ref().map_err(Error::clone)?.core.queries.kill(id)
    }
}

/// Prepares a query. If other nodes have a part in it, its first row is awaited as well: until then nothing was delivered,
/// and it runs again, at new fences, when a part is lost.
async fn begin<P, F>(core: &Arc<Core>, query: &Arc<Query>, prepare: P) -> Result<Rows, Error>
where
    P: Fn(Arc<Core>, Arc<Query>) -> F,
    F: Future<Output = Result<Rows, Error>>,
{
    let attempt = || async {
        let rows = prepare(core.clone(), query.clone()).await?;
        if query.is_distributed() { rows.begun().await } else { Ok(rows) }
    };
    for _ in 0..RUNS_AGAIN {
        match attempt().await {
            Err(error) if query.begins_again() => {
                tracing::info!(query = query.id, %error, "a part of a query was lost: it runs again");
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
    attempt().await
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let options = self.running.as_ref().map(|running| &running.core.options);
        f.debug_struct("Engine").field("options", &options).finish_non_exhaustive()
    }
}

impl Running {
    fn start(
        catalog: Arc<dyn Catalog>,
        changes: Arc<dyn Changes>,
        workers: Arc<dyn Workers>,
        options: EngineOptions,
    ) -> Result<Self, Error> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if options.threads == 0 { cores() } else { options.threads };
        // Twice as many as can run: an operator that computes for long without yielding leaves a thread to the others.
        let runtime = QueryRuntime::start(2 * threads, options.on_thread_start)?;
        Ok(Self { core: Arc::new(Core::new(catalog, changes, workers, options, threads)?), runtime })
    }

    async fn answer<P, F>(&self, mut listed: Listed, prepare: P) -> Result<Answer, Error>
    where
        P: Fn(Arc<Core>, Arc<Query>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Rows, Error>> + Send,
    {
        let (started, has_started) = oneshot::channel();
        let (core, query) = (self.core.clone(), listed.query().clone());
        let task = self.runtime.spawn(async move {
            match query.unless_stopped(begin(&core, &query, prepare)).await {
                Err(error) => drop(started.send(Err(error))),
                Ok(Err(error)) => drop(started.send(Err(query.error_or(error)))),
                Ok(Ok(rows)) => rows.deliver(started, &query).await,
            }
        });
        let died = |_| Error::new(Code::Internal, "planning the query stopped: a defect, please report the statement");
        // It may be planned without ever yielding: the deadline is kept here, too.
        let started = listed.unless_stopped(has_started).await.and_then(|started| started.map_err(died)?);
        match started {
            Ok(Started { schema, parts }) => Ok(Answer::new(schema, parts, listed, task)),
            Err(error) => {
                listed.ends(Outcome::Failed(error.clone()));
                Err(error)
            }
        }
    }
}
