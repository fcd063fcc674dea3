//! How many queries run at once. Others wait in a bounded queue, so that queries cannot starve the rest of the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stratalog_proto::{Code, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::{NodePool, Sharing};
use crate::query::{Phase, Query};

/// Places that only statements about the node take: who wants to see what runs, and to end it, does not wait for it.
const SPARE: usize = 2;
/// Statements that change something at once: they wait for the log more than for memory.
const CHANGES: usize = 8;

/// Lets a bounded number of queries run.
#[derive(Debug)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    changes: Arc<Semaphore>,
    memory: Arc<NodePool>,
    most: usize,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// A place among the running queries, given back when dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
pub(crate) struct Place {
    permit: OwnedSemaphorePermit,
    /// Its part of the memory, if its rows need any.
    sharing: Option<Sharing>,
}

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The rows of topics, or anything that may take long.
    Rows,
    /// Nothing but the node itself.
    Node,
    /// What is to be changed.
    Change,
}

impl Admission {
    /// At most `most` queries run and share `memory`, and `most_waiting` wait.
    pub(crate) fn new(most: usize, most_waiting: usize, memory: Arc<NodePool>) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(most)),
            spare: Arc::new(Semaphore::new(SPARE)),
            changes: Arc::new(Semaphore::new(CHANGES)),
            memory,
            most,
            waiting: AtomicUsize::new(0),
            most_waiting,
        }
    }

    /// Waits for a place, as long as the query may take.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if too many wait already.
    pub(crate) async fn enter(&self, query: &Query, about: About) -> Result<Place, Error> {
        let spare = (about == About::Node).then(|| self.spare.clone().try_acquire_owned().ok()).flatten();
        let places = if about == About::Change { &self.changes } else { &self.places };
        let permit = match spare.or_else(|| places.clone().try_acquire_owned().ok()) {
            Some(permit) => permit,
            None => {
                let _waiting = self.wait()?;
                query.enter(Phase::Waiting);
                let permit = places.clone().acquire_owned().await;
                query.enter(Phase::Planning);
                // The semaphore is never closed.
                permit.map_err(|_| Error::new(Code::Unavailable, "the node is stopping"))?
            }
        };
        // What is known of the node is small, and so is a change: neither takes a part of what rows need.
        let sharing = (about == About::Rows).then(|| self.memory.share_with_one_more());
        Ok(Place { permit, sharing })
    }

    fn wait(&self) -> Result<Waiting<'_>, Error> {
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.most_waiting {
            return Ok(waiting);
        }
        let (most, queue) = (self.most, self.most_waiting);
        let message = format!("{most} queries run and {queue} wait, which is the most; ask again later");
        Err(Error::new(Code::Overloaded, message))
    }
}

/// One of those that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
