//! The box of one shard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use stratalog_proto::{Offset, RaftIndex, ShardId};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::super::Missed;
use super::super::wire::Batch;
use crate::pipeline::Place;

/// Where a batch is, or why it is not there.
pub(super) type Answer = Result<(RaftIndex, Offset), Missed>;

/// A batch and who waits for its answer.
pub(super) struct Parcel {
    pub(super) batch: Batch,
    pub(super) answer: oneshot::Sender<Answer>,
    /// Of the bytes that may wait; `None` for one that was on its way here already.
    pub(super) room: Option<OwnedSemaphorePermit>,
    pub(super) counted: Counted,
    /// In what its client sends, if that one counts on an order.
    pub(super) place: Option<Place>,
}

/// One batch among those without an answer, until it is dropped.
pub(super) struct Counted([Arc<AtomicUsize>; 2]);

impl Parcel {
    /// Whether the leader is to refuse it behind one that it refuses. A batch with a sequence that nobody sent ahead keeps its order
    /// by itself.
    pub(super) fn is_ordered(&self) -> bool {
        self.place.is_some() || self.batch.producer().is_none()
    }

    /// Answers, and gives back what the batch held; who went away does not want it. What is behind one that is refused is
    /// refused from now on.
    pub(super) fn answer(self, answer: Answer) {
        if let Some(place) = self.place.as_ref().filter(|_| answer.as_ref().is_err_and(Missed::is_retriable)) {
            place.refuse();
        }
        self.tell(answer);
    }

    fn tell(self, answer: Answer) {
        let Parcel { batch, answer: sender, room, counted, .. } = self;
        drop((batch, room, counted));
        let _ = sender.send(answer);
    }
}

impl Counted {
    fn new(counters: [&Arc<AtomicUsize>; 2]) -> Self {
        Self(counters.map(|counter| {
            counter.fetch_add(1, Ordering::AcqRel);
            Arc::clone(counter)
        }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        for counter in &self.0 {
            counter.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Batches that wait to be sent, by ticket; none once it is closed.
pub(super) struct Outbox {
    pub(super) shard: ShardId,
    waiting: Mutex<Option<BTreeMap<u64, Parcel>>>,
    arrived: Notify,
    /// Of this shard, and of all.
    unanswered: Arc<AtomicUsize>,
    unanswered_of_all: Arc<AtomicUsize>,
}

impl Outbox {
    pub(super) fn new(shard: ShardId, unanswered_of_all: Arc<AtomicUsize>) -> Self {
        Self {
            shard,
            waiting: Mutex::new(Some(BTreeMap::new())),
            arrived: Notify::new(),
            unanswered: Arc::default(),
            unanswered_of_all,
        }
    }

    /// Counts a batch that is about to be put in.
    pub(super) fn count(&self) -> Counted {
        Counted::new([&self.unanswered, &self.unanswered_of_all])
    }

    /// Batches that have no answer, those that were sent included.
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Acquire)
    }

    /// Puts a batch in its place. A closed box refuses it: it was not sent.
    pub(super) fn put(&self, ticket: u64, parcel: Parcel) {
        let mut waiting = self.waiting.lock();
        match waiting.as_mut() {
            Some(waiting) => _ = waiting.insert(ticket, parcel),
            None => {
                drop(waiting);
                parcel.answer(Err(closed()));
            }
        }
        self.arrived.notify_one();
    }

    /// The first batch, if there is one. One that nobody waits for any more is left out, and one that would overtake another is
    /// refused.
    pub(super) fn take(&self) -> Option<(u64, Parcel)> {
        let mut waiting = self.waiting.lock();
        let waiting = waiting.as_mut()?;
        loop {
            let (ticket, parcel) = waiting.pop_first()?;
            if parcel.answer.is_closed() {
                continue;
            }
            match parcel.place.as_ref().map_or(Ok(()), Place::check) {
                Ok(()) => return Some((ticket, parcel)),
                Err(error) => parcel.tell(Err(Missed::Refused(error))),
            }
        }
    }

    /// Takes a batch out that was not sent; false if it was, or is answered.
    pub(super) fn take_back(&self, ticket: u64) -> bool {
        self.waiting.lock().as_mut().is_some_and(|waiting| waiting.remove(&ticket).is_some())
    }

    /// Returns when there is a batch. For one task.
    pub(super) async fn filled(&self) {
        while self.waiting.lock().as_ref().is_none_or(BTreeMap::is_empty) {
            self.arrived.notified().await;
        }
    }

    /// Refuses all that waits, and whatever comes later.
    pub(super) fn close(&self) {
        let waiting = self.waiting.lock().take().unwrap_or_default();
        waiting.into_values().for_each(|parcel| parcel.answer(Err(closed())));
    }
}

fn closed() -> Missed {
    Missed::NotDone { why: "the node is stopping".to_owned(), leader: None }
}
