//! The entry point: SQL and search over the topics of a [`Catalog`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::future::try_join_all;
use futures::{Future, Stream, StreamExt, stream};
use stratalog_proto::config::Format;
use stratalog_proto::{Code, Error, Token};
use tokio::sync::{mpsc, oneshot};

use crate::answer::{Answer, Deadline, Part};
use crate::budget::QueryPool;
use crate::catalog::{Catalog, TopicInfo, TopicSnapshot};
use crate::error::{from_datafusion, nearest};
use crate::meter::Meter;
use crate::runtime::QueryRuntime;
use crate::scan::OpenIndexes;
use crate::search::{self, SearchRequest};
use crate::session::{Sessions, Tables};
use crate::statement::{self, SqlRequest};

/// Batches that wait for a slow reader before the query pauses.
const BATCHES_AHEAD: usize = 2;

/// The part of the queries' memory that open text indexes may have besides it: one in so many.
const INDEX_SHARE: usize = 4;

/// Limits of an engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Memory of all queries together, in bytes. Text indexes that stay open between queries have a quarter of it more.
    pub memory_bytes: usize,
    /// Memory of one query, in bytes.
    pub query_memory_bytes: usize,
    /// The deadline of a query that asks for none.
    pub default_timeout: Duration,
    /// The longest deadline that a query can ask for; it gets this one if it asks for more.
    pub max_timeout: Duration,
    /// Rows of a search that asks for no number.
    pub search_limit: usize,
    /// Threads for queries; 0: one a core.
    pub threads: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            query_memory_bytes: 512 << 20,
            default_timeout: Duration::from_secs(60),
            max_timeout: Duration::from_secs(3_600),
            search_limit: 100,
            threads: 0,
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
    /// An engine over `catalog`. May be created and dropped anywhere, in async code too.
    pub fn new(catalog: Arc<dyn Catalog>, options: EngineOptions) -> Self {
        let running = Running::start(catalog, options);
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

    /// Memory that queries have, in bytes.
    #[cfg(test)]
    pub(crate) fn reserved(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.core.memory.reserved())
    }

    /// Runs one read-only SQL statement. Returns once it is planned and its snapshots are taken.
    ///
    /// # Errors
    /// [`Code::InvalidSql`] with line and column, [`Code::UnknownTopic`], [`Code::QueryDeadline`]; what the catalog
    /// reports.
    pub async fn sql(&self, request: SqlRequest) -> Result<Answer, Error> {
        let running = self.running.as_ref().map_err(Error::clone)?;
        let deadline = running.core.deadline(request.timeout);
        running.answer(deadline, move |core| async move { statement::prepare(&core, request, deadline).await }).await
    }

    /// Runs a log search: the newest rows that match, newest first. Columns are `_time`, `_partition`, `_offset`, then
    /// those of the others that have a value in at least one row.
    ///
    /// # Errors
    /// [`Code::InvalidSearch`] with the position, [`Code::UnknownTopic`], [`Code::QueryDeadline`],
    /// [`Code::QueryBudget`]; what the catalog and the storage report.
    pub async fn search(&self, request: SearchRequest) -> Result<Answer, Error> {
        let running = self.running.as_ref().map_err(Error::clone)?;
        let deadline = running.core.deadline(request.timeout);
        running.answer(deadline, move |core| async move { search::prepare(&core, request, deadline).await }).await
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let options = self.running.as_ref().map(|running| &running.core.options);
        f.debug_struct("Engine").field("options", &options).finish_non_exhaustive()
    }
}

impl Running {
    fn start(catalog: Arc<dyn Catalog>, options: EngineOptions) -> Result<Self, Error> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if options.threads == 0 { cores() } else { options.threads };
        let sessions = Sessions::new(threads).map_err(from_datafusion)?;
        let memory = Arc::new(GreedyMemoryPool::new(options.memory_bytes));
        // Twice as many as can run: an operator that computes for long without yielding leaves a thread to the others.
        let runtime = QueryRuntime::start(2 * threads)?;
        let indexes = Arc::new(OpenIndexes::new(options.memory_bytes / INDEX_SHARE));
        Ok(Self { core: Arc::new(Core { catalog, options, indexes, sessions, memory }), runtime })
    }

    async fn answer<P, F>(&self, deadline: Deadline, prepare: P) -> Result<Answer, Error>
    where
        P: FnOnce(Arc<Core>) -> F + Send + 'static,
        F: Future<Output = Result<Rows, Error>> + Send,
    {
        let (started, has_started) = oneshot::channel();
        let core = self.core.clone();
        let task = self.runtime.spawn(async move {
            match tokio::time::timeout_at(deadline.at, prepare(core)).await {
                Err(_) => drop(started.send(Err(deadline.error()))),
                Ok(Err(error)) => drop(started.send(Err(deadline.error_or(error)))),
                Ok(Ok(rows)) => rows.deliver(started, deadline).await,
            }
        });
        // The second timeout is for planning that does not yield.
        let started = tokio::time::timeout_at(deadline.at, has_started).await.map_err(|_| deadline.error())?;
        let died = |_| Error::new(Code::Internal, "planning the query stopped: a defect, please report the statement");
        let Started { schema, parts, meter } = started.map_err(died)??;
        Ok(Answer::new(schema, parts, meter, deadline, task))
    }
}

/// What all queries share.
pub(crate) struct Core {
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) options: EngineOptions,
    pub(crate) indexes: Arc<OpenIndexes>,
    sessions: Sessions,
    memory: Arc<dyn MemoryPool>,
}

impl Core {
    fn deadline(&self, timeout: Option<Duration>) -> Deadline {
        let timeout = timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(self.options.default_timeout);
        Deadline::after(timeout.min(self.options.max_timeout))
    }

    /// Finds a topic that has rows; `place` says where its name is written.
    pub(crate) fn topic(&self, name: &str, place: &str) -> Result<Arc<TopicInfo>, Error> {
        let topics = self.catalog.topics();
        let Some(topic) = topics.iter().find(|topic| topic.name == name) else {
            let known = topics.iter().map(|topic| topic.name.as_str());
            let hint = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
            let hint = hint.unwrap_or_else(|| "SHOW TABLES lists those there are".to_owned());
            let shown: String = name.chars().take(100).flat_map(char::escape_debug).collect();
            return Err(Error::new(Code::UnknownTopic, format!("{place}there is no topic `{shown}`; {hint}")));
        };
        if topic.config.format == Format::Raw {
            let message =
                format!("{place}topic `{name}` has the format raw: its records have no rows to query; consume it");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        Ok(topic.clone())
    }

    /// One snapshot of each topic, with every token that concerns it visible (Q1).
    pub(crate) async fn snapshots(
        &self,
        topics: &BTreeMap<String, Arc<TopicInfo>>,
        tokens: &[Token],
        deadline: Deadline,
    ) -> Result<BTreeMap<String, Arc<TopicSnapshot>>, Error> {
        let snapshots = topics.iter().map(|(name, topic)| async move {
            Ok::<_, Error>((name.clone(), self.snapshot(topic, tokens, deadline).await?))
        });
        Ok(try_join_all(snapshots).await?.into_iter().collect())
    }

    /// A snapshot of a topic, with every token that concerns it visible (Q1).
    pub(crate) async fn snapshot(
        &self,
        topic: &TopicInfo,
        tokens: &[Token],
        deadline: Deadline,
    ) -> Result<Arc<TopicSnapshot>, Error> {
        let concerns = |token: &&Token| topic.shards.contains(&token.shard);
        let tokens: Vec<Token> = tokens.iter().filter(concerns).copied().collect();
        let snapshot = self.catalog.snapshot(topic, &tokens, deadline.at.into_std()).await?;
        assert_visible(&snapshot, &tokens);
        Ok(Arc::new(snapshot))
    }

    /// A session for one query, with a memory budget of its own.
    pub(crate) fn session(&self, tables: Tables) -> Result<SessionState, Error> {
        let memory = QueryPool::new(self.memory.clone(), self.options.query_memory_bytes);
        self.sessions.start(tables, Arc::new(memory)).map_err(from_datafusion)
    }
}

fn assert_visible(snapshot: &TopicSnapshot, tokens: &[Token]) {
    for token in tokens {
        let shard = snapshot.shards.iter().find(|shard| shard.shard == token.shard);
        assert!(shard.is_some_and(|shard| shard.fence >= token.index), "Q1: a snapshot includes every token");
    }
}

/// Plans and starts a query.
///
/// # Errors
/// Those of DataFusion's planning.
pub(crate) async fn execute(state: &SessionState, plan: &LogicalPlan) -> Result<SendableRecordBatchStream, Error> {
    let plan = state.create_physical_plan(plan).await.map_err(from_datafusion)?;
    execute_stream(plan, state.task_ctx()).map_err(from_datafusion)
}

/// A query that is about to give rows.
pub(crate) struct Rows {
    pub(crate) meter: Arc<Meter>,
    pub(crate) batches: Batches,
}

/// Where its rows come from.
pub(crate) enum Batches {
    Stream(SendableRecordBatchStream),
    /// Rows that had to be seen as a whole first, and the memory that they have until they are delivered.
    Ready {
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        memory: MemoryReservation,
    },
}

/// What the caller of a query gets first.
struct Started {
    schema: SchemaRef,
    parts: mpsc::Receiver<Part>,
    meter: Arc<Meter>,
}

impl Rows {
    async fn deliver(self, started: oneshot::Sender<Result<Started, Error>>, deadline: Deadline) {
        let (parts, receiver) = mpsc::channel(BATCHES_AHEAD);
        let schema = match &self.batches {
            Batches::Stream(stream) => stream.schema(),
            Batches::Ready { schema, .. } => schema.clone(),
        };
        if started.send(Ok(Started { schema, parts: receiver, meter: self.meter })).is_err() {
            return;
        }
        // A reader that has gone closes the channel; one that does not read is cut off at the deadline.
        let _ = tokio::time::timeout_at(deadline.at, async {
            match self.batches {
                Batches::Ready { batches, memory: _memory, .. } => forward(stream::iter(batches).map(Ok), &parts).await,
                Batches::Stream(stream) => forward(stream, &parts).await,
            }
        })
        .await;
    }
}

/// Sends all batches, and what comes after the last.
async fn forward(
    mut stream: impl Stream<Item = Result<RecordBatch, DataFusionError>> + Unpin,
    parts: &mpsc::Sender<Part>,
) -> Result<(), mpsc::error::SendError<Part>> {
    while let Some(batch) = stream.next().await {
        match batch {
            Ok(batch) => parts.send(Part::Batch(batch)).await?,
            Err(error) => return parts.send(Part::Failed(from_datafusion(error))).await,
        }
    }
    parts.send(Part::End).await
}
