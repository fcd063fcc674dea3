//! How many queries run at once. Others wait in a bounded queue, so that queries cannot starve the rest of the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stratalog_proto::{Code, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::query::{Phase, Query};

/// Places that only statements about the node take: who wants to see what runs, and to end it, does not wait for it.
const SPARE: usize = 2;

/// Lets a bounded number of queries run.
#[derive(Debug)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    most: usize,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// A place among the running queries, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The rows of topics, or anything that may take long.
    Rows,
    /// Nothing but the node itself.
    Node,
}

impl Admission {
    /// At most `most` queries run, and `most_waiting` wait.
    pub(crate) fn new(most: usize, most_waiting: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(most)),
            spare: Arc::new(Semaphore::new(SPARE)),
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
        if let Some(permit) = spare.or_else(|| self.places.clone().try_acquire_owned().ok()) {
            return Ok(Place(permit));
        }
        let _waiting = self.wait()?;
        query.enter(Phase::Waiting);
        let permit = self.places.clone().acquire_owned().await;
        query.enter(Phase::Planning);
        // The semaphore is never closed.
        permit.map(Place).map_err(|_| Error::new(Code::Unavailable, "the node is stopping"))
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
