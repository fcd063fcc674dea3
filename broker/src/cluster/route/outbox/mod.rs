//! Record batches for shards that other nodes lead: many in flight, and never out of order.
//!
//! Each shard has a box, in which batches lie in the order in which they came to this node. A pump sends them over one
//! stream to whoever leads the shard, without waiting for answers. Once one is refused because that node does not lead,
//! all behind it on the stream are refused, too; they go back into the box, and the next stream, to the next leader, begins
//! with the first of them. So a retry never overtakes, and nothing overtakes a retry: the sequences of an idempotent
//! producer stay in order. A batch that may have been written is never sent again: its outcome is unknown.

mod flights;
mod parcels;
mod pump;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, Offset, RaftIndex, ShardId, TopicPartition};
use stratalog_transport::Frames;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::wire::Batch;
use super::{Missed, Router};
use crate::pipeline::Place;
use crate::raft::Reign;
use crate::shard::Order;
use flights::Flights;
use parcels::{Outbox, Parcel};
use pump::Pump;

pub(crate) use flights::Flight;

/// Bounds of what waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxOptions {
    /// Bytes of batches that wait for an answer, in all boxes.
    pub(crate) buffer_bytes: usize,
    /// How long a batch waits for room there.
    pub(crate) wait: Duration,
    /// How long it waits for its answer.
    pub(crate) timeout: Duration,
}

/// Appends batches, as they come, to a shard that this node leads; what other nodes send is appended in the same way.
pub(crate) trait AppendHere: Send + Sync + 'static {
    /// Answers frames with batches by frames with their answers.
    fn append_here(&self, frames: Frames) -> Frames;
}

/// The boxes of a node.
pub(crate) struct Outboxes {
    router: Arc<Router>,
    options: OutboxOptions,
    here: OnceLock<Arc<dyn AppendHere>>,
    room: Arc<Semaphore>,
    order: Order,
    tickets: AtomicU64,
    /// Batches in all boxes, sent or not. Zero on a node that leads all that it is asked for.
    unanswered: Arc<AtomicUsize>,
    flights: Arc<Flights>,
    boxes: Mutex<BTreeMap<ShardId, Arc<Outbox>>>,
    stop: CancellationToken,
}

impl Outboxes {
    /// Empty boxes.
    pub(crate) fn new(router: Arc<Router>, options: OutboxOptions) -> Self {
        let capacity = options.buffer_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            stop: router.stopping.child_token(),
            router,
            options: OutboxOptions { buffer_bytes: capacity, ..options },
            here: OnceLock::new(),
            room: Arc::new(Semaphore::new(capacity)),
            order: Order::default(),
            tickets: AtomicU64::new(0),
            unanswered: Arc::default(),
            flights: Arc::new(Flights::new()),
            boxes: Mutex::default(),
        }
    }

    /// From now on batches for shards that this node leads are appended by `here`.
    pub(crate) fn append_through(&self, here: Arc<dyn AppendHere>) {
        // A second call would name the same broker.
        let _ = self.here.set(here);
    }

    /// The place of a batch among all that come to this node.
    pub(crate) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether nothing lies in the box of a shard.
    fn is_idle(&self, shard: ShardId) -> bool {
        self.unanswered.load(Ordering::Acquire) == 0
            || self.boxes.lock().get(&shard).is_none_or(|outbox| outbox.unanswered() == 0)
    }

    /// Counts a batch that this node, which leads the shard in `reign`, appends without a box: those that come after it and
    /// are sent elsewhere, or are taken in a later reign, wait for it. `None` if it would overtake another, and has to go
    /// through the box.
    pub(crate) fn fly(&self, shard: ShardId, reign: Reign) -> Option<Flight<'_>> {
        // In this order: what was refused is put in the box before its flight ends.
        let flight = self.flights.begin(shard, reign)?;
        self.is_idle(shard).then_some(flight)
    }

    /// Sends a batch to whoever leads its shard, behind all with a lower ticket, and waits for its answer: where it is. One with a
    /// place is refused if it would overtake another of its client.
    ///
    /// # Errors
    /// The refusal of the batch; [`Code::Overloaded`]: there was no room; [`Code::NotLeader`], [`Code::Unavailable`]: it
    /// was not sent; [`Code::Timeout`]: its outcome is unknown.
    pub(crate) async fn send(
        &self,
        ticket: u64,
        batch: Batch,
        place: Option<Place>,
    ) -> Result<(RaftIndex, Offset), Error> {
        let outbox = self.outbox(batch.shard)?;
        // From the first moment on, so that no later batch finds the box empty.
        let counted = outbox.count();
        let refused = |error| {
            place.iter().for_each(Place::refuse);
            error
        };
        let turn = self.order.turn(TopicPartition { topic: batch.topic, partition: batch.partition });
        let turn = tokio::time::timeout(self.options.wait, turn).await.map_err(|_| refused(self.overloaded()))?;
        place.as_ref().map_or(Ok(()), Place::check)?;
        let room = self.room_for(batch.bytes.len()).await.map_err(refused)?;
        let (answer, receiver) = oneshot::channel();
        outbox.put(ticket, Parcel { batch, answer, room: Some(room), counted, place: place.clone() });
        drop(turn);
        self.answered(&outbox, ticket, receiver, place).await
    }

    /// Sends a batch that this node could not append itself, since it leads the shard no longer. It had its turn and its
    /// room when it came: it is put in its place at once, and only then does its flight end, so that nothing that came
    /// behind it is sent before it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn send_on(
        &self,
        ticket: u64,
        batch: Batch,
        place: Option<Place>,
        flight: Flight<'_>,
    ) -> Result<(RaftIndex, Offset), Error> {
        let outbox = self.outbox(batch.shard)?;
        let (answer, receiver) = oneshot::channel();
        outbox.put(ticket, Parcel { batch, answer, room: None, counted: outbox.count(), place: place.clone() });
        drop(flight);
        self.answered(&outbox, ticket, receiver, place).await
    }

    async fn answered(
        &self,
        outbox: &Outbox,
        ticket: u64,
        receiver: oneshot::Receiver<parcels::Answer>,
        place: Option<Place>,
    ) -> Result<(RaftIndex, Offset), Error> {
        match tokio::time::timeout(self.options.timeout, receiver).await {
            Ok(Ok(answer)) => answer.map_err(|missed| missed.into_error(outbox.shard)),
            Ok(Err(_)) => Err(Missed::Unknown("the node is stopping".to_owned()).into_error(outbox.shard)),
            Err(_) => {
                place.iter().for_each(Place::refuse);
                Err(self.late(outbox, ticket).into_error(outbox.shard))
            }
        }
    }

    async fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let permits = bytes.min(self.options.buffer_bytes) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(permits);
        match tokio::time::timeout(self.options.wait, room).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(self.overloaded()),
        }
    }

    fn overloaded(&self) -> Error {
        let OutboxOptions { buffer_bytes, wait, .. } = self.options;
        let message = format!(
            "batches for other nodes took all of the produce buffer ({buffer_bytes} bytes) for {wait:?}; nothing was \
             written, send it again later"
        );
        Error::new(Code::Overloaded, message)
    }

    /// What becomes of a batch that was not answered in time.
    fn late(&self, outbox: &Outbox, ticket: u64) -> Missed {
        let timeout = self.options.timeout;
        if outbox.take_back(ticket) {
            return Missed::NotDone { why: format!("none was found in {timeout:?}"), leader: None };
        }
        Missed::Unknown(format!("none came in {timeout:?}; an idempotent retry is safe"))
    }

    fn outbox(&self, shard: ShardId) -> Result<Arc<Outbox>, Error> {
        let stopping = || Error::new(Code::Unavailable, "the node is starting or stopping; nothing was written");
        if self.stop.is_cancelled() {
            return Err(stopping());
        }
        let here = self.here.get().cloned().ok_or_else(stopping)?;
        let mut boxes = self.boxes.lock();
        let outbox = boxes.entry(shard).or_insert_with(|| {
            let outbox = Arc::new(Outbox::new(shard, Arc::clone(&self.unanswered)));
            let (router, flights, stop) = (Arc::clone(&self.router), Arc::clone(&self.flights), self.stop.clone());
            tokio::spawn(Pump { outbox: Arc::clone(&outbox), router, here, flights, stop }.run());
            outbox
        });
        Ok(Arc::clone(outbox))
    }
}

impl Drop for Outboxes {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests;
