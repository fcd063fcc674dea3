//! The order of what a client sends ahead without sequences.
//!
//! A producer that has several batches of a partition under way relies on what a leader in Kafka does: once it has refused one it
//! refuses all behind it, and the client sends all of them again, in their order. Here a batch could be taken again a moment
//! later, since any node finds the next leader, and would overtake the refused one. So a pipeline remembers of which partitions a
//! batch was refused, and refuses what comes behind it until the client has heard of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, TopicPartition};
use tokio::time::Instant;

/// What a client sent before it heard of a refusal is here so long after it was told. Clients wait longer before they send again.
const GRACE: Duration = Duration::from_millis(75);
/// Nothing of a partition is refused for longer because of what is before it: a client that never stops sending goes on.
const LONGEST: Duration = Duration::from_secs(10);
/// Partitions that are remembered. Of further ones the order is not kept.
const MAX_CLOSED: usize = 1_024;

/// What one client sends over one connection, whose requests are answered in their order.
#[derive(Debug, Default)]
pub struct Pipeline(Mutex<Requests>);

#[derive(Debug, Default)]
struct Requests {
    begun: u64,
    told: u64,
    closed: BTreeMap<TopicPartition, Closed>,
}

/// A partition of which a batch was refused.
#[derive(Debug)]
struct Closed {
    since: Instant,
    /// The first request whose batch was: those before it go their way.
    first: u64,
    /// The last one whose batch was, by itself or for the sake of the order, and when its client was told.
    refused: u64,
    told: Option<Instant>,
    /// The last one that had begun by then.
    behind: u64,
}

impl Closed {
    /// Another batch is refused. What is read after it may have waited in the socket for as long.
    fn note(&mut self, request: u64, begun: u64) {
        self.behind = begun;
        if request > self.refused {
            (self.refused, self.told) = (request, None);
        }
    }

    fn holds(&self, told: u64, now: Instant) -> bool {
        let is_heard = told >= self.behind && self.told.is_some_and(|at| now >= at + GRACE);
        !is_heard && now < self.since + LONGEST
    }
}

impl Pipeline {
    /// Of a new connection.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The number of the next request. Requests begin in the order in which they came.
    pub fn begin(&self) -> u64 {
        let mut requests = self.0.lock();
        requests.begun += 1;
        requests.begun
    }

    /// The client was answered this request, and all before it.
    pub fn tell(&self, request: u64) {
        let mut requests = self.0.lock();
        requests.told = requests.told.max(request);
        if requests.closed.is_empty() {
            return;
        }
        let (told, now) = (requests.told, Instant::now());
        requests.closed.retain(|_, closed| {
            if closed.refused <= told {
                closed.told.get_or_insert(now);
            }
            closed.holds(told, now)
        });
    }

    fn check(&self, request: u64, at: TopicPartition) -> Result<(), Error> {
        let mut requests = self.0.lock();
        let (begun, told) = (requests.begun, requests.told);
        let Some(closed) = requests.closed.get_mut(&at) else { return Ok(()) };
        if !closed.holds(told, Instant::now()) {
            requests.closed.remove(&at);
            return Ok(());
        }
        if request < closed.first {
            return Ok(());
        }
        closed.note(request, begun);
        Err(behind())
    }

    fn refuse(&self, request: u64, at: TopicPartition) {
        let mut requests = self.0.lock();
        let (begun, has_room) = (requests.begun, requests.closed.len() < MAX_CLOSED);
        if let Some(closed) = requests.closed.get_mut(&at) {
            closed.first = closed.first.min(request);
            closed.note(request, begun);
        } else if has_room {
            let closed = Closed { since: Instant::now(), first: request, refused: request, told: None, behind: begun };
            requests.closed.insert(at, closed);
        }
    }
}

/// Why a batch is not taken though it could be.
pub(crate) fn behind() -> Error {
    let message =
        "a batch before it was refused, and would be overtaken; nothing was written, send it again behind that one";
    Error::new(Code::Overloaded, message)
}

/// The place of a batch in what its client sends.
#[derive(Clone)]
pub(crate) struct Place {
    pipeline: Arc<Pipeline>,
    request: u64,
    at: TopicPartition,
}

impl Place {
    /// Of a batch without sequence that came with this request.
    pub(crate) fn new(pipeline: &Arc<Pipeline>, request: u64, at: TopicPartition) -> Self {
        Self { pipeline: Arc::clone(pipeline), request, at }
    }

    /// Whether the batch may be taken.
    ///
    /// # Errors
    /// [`Code::Overloaded`]: it would overtake one that was refused.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.pipeline.check(self.request, self.at)
    }

    /// The batch is refused, or nobody knows what becomes of it: its client sends it again, and what is behind it has to come
    /// again, too.
    pub(crate) fn refuse(&self) {
        self.pipeline.refuse(self.request, self.at);
    }
}

#[cfg(test)]
mod tests {
    use stratalog_proto::{PartitionId, TopicId};

    use super::*;

    fn places() -> (Arc<Pipeline>, impl Fn(u64, u32) -> Place) {
        let (pipeline, topic) = (Pipeline::new(), TopicId::new());
        let of = Arc::clone(&pipeline);
        let at = move |partition| TopicPartition { topic, partition: PartitionId(partition) };
        (pipeline, move |request, partition| Place::new(&of, request, at(partition)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_behind_a_refused_batch_is_refused_until_the_client_has_heard_of_it() {
        let (pipeline, place) = places();
        let [first, second, third, fourth] = [(); 4].map(|()| pipeline.begin());
        assert!(place(second, 0).check().is_ok());
        place(second, 0).refuse();
        assert!(place(third, 0).check().is_err() && place(third, 1).check().is_ok());
        assert!(place(first, 0).check().is_ok(), "it comes before");
        pipeline.tell(third);
        tokio::time::advance(2 * GRACE).await;
        assert!(place(fourth, 0).check().is_err(), "it had begun before the client heard anything");
        let fifth = pipeline.begin();
        assert!(place(fifth, 0).check().is_err(), "the client has not heard of the fourth");
        pipeline.tell(fifth);
        tokio::time::advance(GRACE).await;
        assert!(place(pipeline.begin(), 0).check().is_ok());
        assert!(pipeline.0.lock().closed.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_when_the_client_is_told_is_refused_too() {
        let (pipeline, place) = places();
        let first = pipeline.begin();
        place(first, 0).refuse();
        pipeline.tell(first);
        let second = pipeline.begin();
        assert!(place(second, 0).check().is_err());
        pipeline.tell(second);
        tokio::time::advance(GRACE).await;
        assert!(place(pipeline.begin(), 0).check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn x1_a_client_that_is_never_silent_goes_on_and_what_is_remembered_is_bounded() {
        let (pipeline, place) = places();
        place(pipeline.begin(), 0).refuse();
        let begun = Instant::now();
        while place(pipeline.begin(), 0).check().is_err() {
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(begun.elapsed(), LONGEST);
        (0..2 * MAX_CLOSED as u32).for_each(|partition| place(1, partition).refuse());
        assert_eq!(pipeline.0.lock().closed.len(), MAX_CLOSED);
        tokio::time::advance(LONGEST).await;
        pipeline.tell(1);
        assert!(pipeline.0.lock().closed.is_empty());
    }
}
