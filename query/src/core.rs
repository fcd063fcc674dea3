//! What all queries share: the catalogue, and what each takes its part of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::SessionState;
use futures::future::try_join_all;
use stratalog_proto::config::MAX_TOPIC_NAME_BYTES;
use stratalog_proto::{Code, Error, Token};

use crate::admission::Admission;
use crate::budget::{NodePool, QueryPool};
use crate::catalog::{Catalog, TopicInfo};
use crate::changes::Changes;
use crate::engine::EngineOptions;
use crate::error::{from_datafusion, nearest};
use crate::parts::{self, OpenParts, TopicRows, Workers};
use crate::queries::Queries;
use crate::query::{Arrival, Query};
use crate::scan::OpenIndexes;
use crate::session::{Sessions, Tables};
use crate::spill::{QuerySpill, SpillSpace};

/// The part of the queries' memory that open text indexes may have besides it: one in so many.
const INDEX_SHARE: usize = 4;

/// What all queries share.
pub(crate) struct Core {
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) changes: Arc<dyn Changes>,
    pub(crate) workers: Arc<dyn Workers>,
    /// Those of queries of other nodes.
    pub(crate) parts: OpenParts,
    pub(crate) options: EngineOptions,
    pub(crate) indexes: Arc<OpenIndexes>,
    pub(crate) admission: Admission,
    pub(crate) queries: Arc<Queries>,
    pub(crate) memory: Arc<NodePool>,
    sessions: Sessions,
    threads: usize,
    spill: Option<Arc<SpillSpace>>,
}

impl Core {
    /// `threads`: how many streams a scan and each operator above it have.
    ///
    /// # Errors
    /// None but defects.
    pub(crate) fn new(
        catalog: Arc<dyn Catalog>,
        changes: Arc<dyn Changes>,
        workers: Arc<dyn Workers>,
        options: EngineOptions,
        threads: usize,
    ) -> Result<Self, Error> {
        let memory = NodePool::new(options.memory_bytes);
        Ok(Self {
            catalog,
            changes,
            workers,
            parts: OpenParts::default(),
            indexes: Arc::new(OpenIndexes::new(options.memory_bytes / INDEX_SHARE)),
            queries: Arc::default(),
            admission: Admission::new(options.max_running, options.max_waiting, memory.clone()),
            memory,
            sessions: Sessions::new(threads, options.query_memory_bytes).map_err(from_datafusion)?,
            threads,
            spill: spill_space(&options),
            options,
        })
    }

    /// A query that begins now.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for an id that is not like one.
    pub(crate) fn arrived(
        &self,
        id: Option<String>,
        text: &str,
        client: String,
        timeout: Option<Duration>,
    ) -> Result<Arc<Query>, Error> {
        let timeout = timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(self.options.default_timeout);
        let timeout = timeout.min(self.options.max_timeout);
        Ok(self.query(Arrival { id: self.queries.id(id)?, text, client, timeout }))
    }

    /// A query with a budget of its own.
    pub(crate) fn query(&self, arrival: Arrival<'_>) -> Arc<Query> {
        let memory = Arc::new(QueryPool::new(self.memory.clone(), self.options.query_memory_bytes, self.threads));
        let query = Query::new(arrival, memory, QuerySpill::new(self.spill.clone(), self.options.query_spill_bytes));
        query.meter.version(self.catalog.version());
        query
    }

    /// Finds a topic; `place` says where its name is written. One that was just created may not be known here yet: before
    /// it is said that there is none, the catalogue catches up.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`].
    pub(crate) async fn topic(&self, name: &str, place: &str) -> Result<Arc<TopicInfo>, Error> {
        match self.known_topic(name, place) {
            Err(_) if self.catalog.catch_up().await => self.known_topic(name, place),
            found => found,
        }
    }

    fn known_topic(&self, name: &str, place: &str) -> Result<Arc<TopicInfo>, Error> {
        let topics = self.catalog.topics();
        let Some(topic) = topics.iter().find(|topic| topic.name == name) else {
            let known = topics.iter().map(|topic| topic.name.as_str());
            let hint = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
            let hint = hint.unwrap_or_else(|| "SHOW TABLES lists those there are".to_owned());
            let shown: String = name.chars().take(MAX_TOPIC_NAME_BYTES).flat_map(char::escape_debug).collect();
            return Err(Error::new(Code::UnknownTopic, format!("{place}there is no topic `{shown}`; {hint}")));
        };
        Ok(topic.clone())
    }

    /// One snapshot of each topic, with every token that concerns it visible (Q1).
    pub(crate) async fn snapshots(
        &self,
        topics: &BTreeMap<String, Arc<TopicInfo>>,
        tokens: &[Token],
        query: &Arc<Query>,
    ) -> Result<BTreeMap<String, TopicRows>, Error> {
        let snapshots = topics.iter().map(|(name, topic)| async move {
            Ok::<_, Error>((name.clone(), self.snapshot(topic, tokens, query).await?))
        });
        Ok(try_join_all(snapshots).await?.into_iter().collect())
    }

    /// A snapshot of a topic, with every token that concerns it visible (Q1).
    pub(crate) async fn snapshot(
        &self,
        topic: &TopicInfo,
        tokens: &[Token],
        query: &Arc<Query>,
    ) -> Result<TopicRows, Error> {
        let concerns = |token: &&Token| topic.shards.contains(&token.shard);
        let tokens: Vec<Token> = tokens.iter().filter(concerns).copied().collect();
        let rows = parts::gather(self, topic, &tokens, query).await?;
        check_visible(&rows, &tokens)?;
        query.meter.fence(&rows);
        Ok(rows)
    }

    /// A session for one query, within its budget.
    pub(crate) fn session(&self, tables: Tables, query: &Query) -> Result<SessionState, Error> {
        self.sessions.start(tables, query).map_err(from_datafusion)
    }
}

/// Where queries spill, if that is possible.
fn spill_space(options: &EngineOptions) -> Option<Arc<SpillSpace>> {
    let dir = options.spill_dir.as_ref()?;
    let opened = SpillSpace::open(dir, options.spill_bytes);
    opened.inspect_err(|error| tracing::error!(%error, "queries have to do with memory alone")).ok()
}

/// Whether a snapshot includes every token (Q1). That of another node is what that one says (X1).
///
/// # Errors
/// [`Code::Internal`].
fn check_visible(rows: &TopicRows, tokens: &[Token]) -> Result<(), Error> {
    for Token { shard, index } in tokens {
        let fence = rows.fences().find(|fence| fence.shard == shard.0).map(|fence| fence.index);
        if fence.is_none_or(|fence| fence < index.0) {
            let has = fence.map_or("nothing".to_owned(), |fence| format!("entry {fence}"));
            let message = format!(
                "Q1: the rows of shard {shard} were to be shown up to entry {index}, and whoever leads it shows {has}; \
                 nothing was answered, ask again"
            );
            return Err(Error::new(Code::Internal, message));
        }
    }
    Ok(())
}
