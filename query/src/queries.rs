//! The queries of the node: those that run, and the last that did. `system.queries` shows them, `KILL QUERY` ends them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, v1};

use crate::query::{Phase, Query};

/// Queries that are shown after their end.
const KEPT: usize = 100;
/// The longest id that a caller may choose, in bytes.
const MAX_ID_BYTES: usize = 64;

/// Every query that runs, by id, and the last that ended.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    running: Mutex<BTreeMap<String, Arc<Query>>>,
    ended: Mutex<VecDeque<Ended>>,
    next: AtomicU64,
}

/// A query after its end.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) text: String,
    pub(crate) client: String,
    pub(crate) arrived_ns: i64,
    pub(crate) peak_memory: usize,
    pub(crate) outcome: Outcome,
    pub(crate) stats: v1::QueryStats,
}

/// How a query ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Its answer was read to the end.
    Done,
    /// It ended with an error.
    Failed(Error),
    /// Whoever asked has gone.
    Left,
}

impl Outcome {
    /// One word, as `system.queries` shows it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed(error) if error.code == Code::Cancelled => "killed",
            Self::Failed(_) => "failed",
            Self::Left => "left",
        }
    }
}

impl Phase {
    /// One word, as `system.queries` shows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Planning => "planning",
            Self::Running => "running",
        }
    }
}

impl Queries {
    /// The id of a query: the one that its caller chose, or a new one.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for one that is not like an id.
    pub(crate) fn id(&self, chosen: Option<String>) -> Result<String, Error> {
        let Some(id) = chosen.filter(|id| !id.is_empty()) else {
            // Ids of another run of the node shall not name a query of this one.
            static RUN: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                since.as_secs()
            });
            let new = || format!("{:x}-{}", *RUN, self.next.fetch_add(1, Ordering::Relaxed));
            let running = self.running.lock();
            // A caller may have chosen one that looks like ours.
            return Ok(std::iter::repeat_with(new).find(|id| !running.contains_key(id)).unwrap_or_default());
        };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        if id.len() <= MAX_ID_BYTES && id.bytes().all(legal) {
            return Ok(id);
        }
        let shown: String = id.chars().take(MAX_ID_BYTES).flat_map(char::escape_default).collect();
        let message = format!("`{shown}` is not a query id: use 1 to {MAX_ID_BYTES} of a-z A-Z 0-9 . _ : -");
        Err(Error::new(Code::InvalidRequest, message))
    }

    /// Lists a query until what this returns is dropped.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if another query of that id runs.
    pub(crate) fn begin(self: &Arc<Self>, query: Arc<Query>) -> Result<Listed, Error> {
        let mut running = self.running.lock();
        if running.contains_key(&query.id) {
            let message = format!("a query with the id `{}` runs already; choose another id", query.id);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        running.insert(query.id.clone(), query.clone());
        Ok(Listed { query, list: Some(self.clone()), outcome: Outcome::Left })
    }

    /// Ends a query.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if there is none.
    pub(crate) fn kill(&self, id: &str) -> Result<(), Error> {
        let Some(query) = self.running.lock().get(id).cloned() else {
            let shown: String = id.chars().take(MAX_ID_BYTES).flat_map(char::escape_default).collect();
            let message = format!("no query with the id `{shown}` runs; system.queries lists those that do");
            return Err(Error::new(Code::InvalidRequest, message));
        };
        query.kill();
        Ok(())
    }

    /// Those that run, by id.
    pub(crate) fn running(&self) -> Vec<Arc<Query>> {
        self.running.lock().values().cloned().collect()
    }

    /// Those that ended, the last one first.
    pub(crate) fn ended(&self) -> Vec<Ended> {
        self.ended.lock().iter().rev().cloned().collect()
    }

    fn end(&self, query: &Query, outcome: Outcome) {
        self.running.lock().remove(&query.id);
        let ended = Ended {
            text: query.text.clone(),
            client: query.client.clone(),
            arrived_ns: query.arrived_ns,
            peak_memory: query.memory.peak(),
            outcome,
            stats: query.stats(),
        };
        let mut list = self.ended.lock();
        if list.len() == KEPT {
            list.pop_front();
        }
        list.push_back(ended);
    }
}

/// A query while it is listed.
pub(crate) struct Listed {
    query: Arc<Query>,
    list: Option<Arc<Queries>>,
    outcome: Outcome,
}

impl Listed {
    /// A query of the node's own, which nobody lists.
    pub(crate) fn unlisted(query: Arc<Query>) -> Self {
        Self { query, list: None, outcome: Outcome::Left }
    }

    pub(crate) fn query(&self) -> &Arc<Query> {
        &self.query
    }

    /// Notes how it ended; without, whoever asked has left.
    pub(crate) fn ends(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Deref for Listed {
    type Target = Query;

    fn deref(&self) -> &Query {
        &self.query
    }
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listed").field(&self.query.id).finish()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(list) = &self.list {
            list.end(&self.query, std::mem::replace(&mut self.outcome, Outcome::Left));
        }
    }
}
