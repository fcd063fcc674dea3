//! The order of what a client sends ahead.
//!
//! A producer that has several batches of a partition under way relies on what a leader in Kafka does: once it has refused one it
//! refuses all behind it, and the client sends all of them again, in their order. Here a batch could be taken again a moment
//! later, since any node finds the next leader, and would overtake the refused one. So a pipeline remembers of which partitions a
//! batch was refused, and refuses what comes behind it until the client has heard of that.
//!
//! The sequences of an idempotent producer would keep the order, too, but not its peace: it takes an answer that it is out of order for
//! a gap, which no leader in Kafka would have left there. librdkafka then takes a new epoch, and sends all again that is not
//! acknowledged, also what is written. And of a producer that is new to a shard any sequence is taken for the first. So its batches are
//! refused in the same way, until the refused one comes again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stratalog_proto::batch::BatchHeader;
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

/// What an idempotent producer knows a batch by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sequence {
    /// Its id and its epoch.
    producer: (i64, i16),
    /// Of the first record.
    first: i32,
}

impl Sequence {
    fn of(header: &BatchHeader) -> Option<Self> {
        let producer = (header.producer_id, header.producer_epoch);
        header.has_producer().then_some(Self { producer, first: header.base_sequence })
    }
}

/// A partition of which a batch was refused.
#[derive(Debug)]
struct Closed {
    since: Instant,
    /// The first request whose batch was: those before it go their way.
    first: u64,
    /// What that batch is known by, and the request with which it came again: what is behind that goes its way, too.
    sequence: Option<Sequence>,
    again: Option<u64>,
    /// The last one whose batch was, by itself or for the sake of the order, and when its client was told.
    refused: u64,
    told: Option<Instant>,
    /// The last one that had begun by then.
    behind: u64,
}

impl Closed {
    fn new(request: u64, sequence: Option<Sequence>, behind: u64) -> Self {
        Self { since: Instant::now(), first: request, sequence, again: None, refused: request, told: None, behind }
    }

    /// Whether a batch may be taken: it is before the refused one, is that one itself or behind it now that it came again, or is of
    /// another producer, which a new epoch makes of one.
    fn lets_pass(&mut self, request: u64, sequence: Option<Sequence>) -> bool {
        if request > self.first && sequence.is_some() && sequence == self.sequence {
            self.again = Some(request);
        }
        request < self.first || self.comes_again(request) || !self.is_of(sequence)
    }

    fn comes_again(&self, request: u64) -> bool {
        self.again.is_some_and(|again| request >= again)
    }

    fn is_of(&self, sequence: Option<Sequence>) -> bool {
        self.sequence.map(|of| of.producer) == sequence.map(|of| of.producer)
    }

    /// A batch could not be taken.
    fn refuse(&mut self, request: u64, sequence: Option<Sequence>, begun: u64) {
        if self.comes_again(request) || !self.is_of(sequence) && request > self.first {
            *self = Self::new(request, sequence, begun);
        } else if self.is_of(sequence) {
            if request < self.first {
                (self.first, self.sequence) = (request, sequence);
            }
            self.note(request, begun);
        }
    }

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

    fn check(&self, request: u64, at: TopicPartition, sequence: Option<Sequence>) -> Result<(), Error> {
        let mut requests = self.0.lock();
        let (begun, told) = (requests.begun, requests.told);
        let Some(closed) = requests.closed.get_mut(&at) else { return Ok(()) };
        if !closed.holds(told, Instant::now()) {
            requests.closed.remove(&at);
            return Ok(());
        }
        if closed.lets_pass(request, sequence) {
            return Ok(());
        }
        closed.note(request, begun);
        Err(behind())
    }

    fn refuse(&self, request: u64, at: TopicPartition, sequence: Option<Sequence>) {
        let mut requests = self.0.lock();
        let (begun, has_room) = (requests.begun, requests.closed.len() < MAX_CLOSED);
        if let Some(closed) = requests.closed.get_mut(&at) {
            closed.refuse(request, sequence, begun);
        } else if has_room {
            requests.closed.insert(at, Closed::new(request, sequence, begun));
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
    sequence: Option<Sequence>,
}

impl Place {
    /// Of a batch with this header that came with this request.
    pub(crate) fn new(pipeline: &Arc<Pipeline>, request: u64, at: TopicPartition, header: &BatchHeader) -> Self {
        Self { pipeline: Arc::clone(pipeline), request, at, sequence: Sequence::of(header) }
    }

    /// Whether the batch may be taken.
    ///
    /// # Errors
    /// [`Code::Overloaded`]: it would overtake one that was refused.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.pipeline.check(self.request, self.at, self.sequence)
    }

    /// The batch is refused, or nobody knows what becomes of it: its client sends it again, and what is behind it has to come
    /// again, too.
    pub(crate) fn refuse(&self) {
        self.pipeline.refuse(self.request, self.at, self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use stratalog_proto::batch::{BatchBuilder, Compression};
    use stratalog_proto::{PartitionId, ProducerId, TopicId};

    use super::*;

    fn places() -> (Arc<Pipeline>, impl Fn(u64, u32) -> Place) {
        let (pipeline, topic) = (Pipeline::new(), TopicId::new());
        let of = Arc::clone(&pipeline);
        let at = move |partition| TopicPartition { topic, partition: PartitionId(partition) };
        (pipeline, move |request, partition| {
            Place::new(&of, request, at(partition), &header(BatchBuilder::new(Compression::None)))
        })
    }

    fn header(mut batch: BatchBuilder) -> BatchHeader {
        batch.push(1, None, Some(b"x"), &[]);
        BatchHeader::read(&batch.finish()).unwrap()
    }

    /// Of batches of one partition: their request, and epoch and sequence of their producer.
    fn numbered() -> (Arc<Pipeline>, impl Fn(u64, i16, i32) -> Place) {
        let (pipeline, at) = (Pipeline::new(), TopicPartition { topic: TopicId::new(), partition: PartitionId(0) });
        let of = Arc::clone(&pipeline);
        (pipeline, move |request, epoch, sequence| {
            let batch = BatchBuilder::new(Compression::None).producer(ProducerId(7), epoch, sequence);
            Place::new(&of, request, at, &header(batch))
        })
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
    async fn what_is_behind_a_refused_batch_of_a_producer_is_refused_until_that_one_comes_again() {
        let (pipeline, place) = numbered();
        let [first, second, third] = [(); 3].map(|()| pipeline.begin());
        place(first, 0, 0).refuse();
        assert!(place(second, 0, 10).check().is_err() && place(third, 0, 20).check().is_err());
        pipeline.tell(second);
        let again = pipeline.begin();
        assert!(place(again, 0, 0).check().is_ok(), "at once");
        assert!(place(third, 0, 20).check().is_err(), "it was sent before");
        let [second, third] = [(); 2].map(|()| pipeline.begin());
        assert!(place(second, 0, 10).check().is_ok() && place(third, 0, 20).check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_comes_again_may_be_refused_again_and_so_may_one_behind_it() {
        let (pipeline, place) = numbered();
        place(pipeline.begin(), 0, 0).refuse();
        let again = pipeline.begin();
        assert!(place(again, 0, 0).check().is_ok());
        place(again, 0, 0).refuse();
        assert!(place(pipeline.begin(), 0, 10).check().is_err());
        let again = pipeline.begin();
        assert!(place(again, 0, 0).check().is_ok());
        let behind = pipeline.begin();
        assert!(place(behind, 0, 10).check().is_ok());
        place(behind, 0, 10).refuse();
        assert!(place(pipeline.begin(), 0, 20).check().is_err());
        assert!(place(pipeline.begin(), 0, 10).check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_refused_batches_the_earlier_one_has_to_come_again_first() {
        let (pipeline, place) = numbered();
        let [first, second] = [(); 2].map(|()| pipeline.begin());
        place(second, 0, 10).refuse();
        place(first, 0, 0).refuse();
        assert!(place(pipeline.begin(), 0, 10).check().is_err());
        assert!(place(pipeline.begin(), 0, 0).check().is_ok());
        assert!(place(pipeline.begin(), 0, 10).check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_producer_that_does_not_send_a_batch_again_goes_on_in_a_new_epoch_or_once_it_was_told() {
        let (pipeline, place) = numbered();
        let first = pipeline.begin();
        place(first, 3, 0).refuse();
        assert!(place(pipeline.begin(), 4, 0).check().is_ok());
        let second = pipeline.begin();
        assert!(place(second, 3, 10).check().is_err());
        pipeline.tell(second);
        tokio::time::advance(GRACE).await;
        assert!(place(pipeline.begin(), 3, 10).check().is_ok(), "that a batch is missing is for the shard to say");
        // What comes late of the epoch before closes nothing for the new one.
        let [late, new] = [(); 2].map(|()| pipeline.begin());
        place(new, 4, 0).refuse();
        place(late, 3, 20).refuse();
        assert!(place(pipeline.begin(), 4, 10).check().is_err() && place(pipeline.begin(), 4, 0).check().is_ok());
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
