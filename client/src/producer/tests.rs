//! The queue of a partition against a model of the log, the network between them and everything that can go wrong there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use proptest::prelude::*;
use stratalog_proto::batch::{Batch, Compression};
use stratalog_proto::{Code, Error, Offset, PartitionId, ProducerId, RaftIndex, ShardId, Token};
use tokio::sync::Semaphore;

use super::delivery::{BatchAck, Delivery};
use super::queue::{Identity, Limits, Queue, Ticket};
use super::record::OutRecord;
use super::seal::seal;
use super::verdict::Verdict;
use crate::SendError;

const PARTITION: PartitionId = PartitionId(0);
/// As many batches of a producer does the log remember.
const REMEMBERED: usize = 5;

/// What may happen next.
#[derive(Clone, Debug)]
enum Step {
    Push,
    /// Everything that is due leaves.
    Depart,
    /// The node handles the oldest request on its way.
    Handle(Handling),
    /// An answer arrives, any of those on their way.
    Hear(prop::sample::Index),
    /// So many of the requests on their way are handled yet; no answer arrives any more.
    LoseConnection(prop::sample::Index),
    Wait(u64),
}

#[derive(Clone, Copy, Debug)]
enum Handling {
    Append,
    AppendAndSayTimeout,
    SayTimeout,
    RefuseForNow,
    Refuse,
}

fn any_step() -> impl Strategy<Value = Step> {
    let handling = prop_oneof![
        6 => Just(Handling::Append),
        1 => Just(Handling::AppendAndSayTimeout),
        1 => Just(Handling::SayTimeout),
        1 => Just(Handling::RefuseForNow),
        1 => Just(Handling::Refuse),
    ];
    prop_oneof![
        6 => Just(Step::Push),
        6 => Just(Step::Depart),
        6 => handling.prop_map(Step::Handle),
        6 => any::<prop::sample::Index>().prop_map(Step::Hear),
        1 => any::<prop::sample::Index>().prop_map(Step::LoseConnection),
        3 => (1..400_u64).prop_map(Step::Wait),
    ]
}

/// The log of one partition, with the rules of `broker::shard` for idempotent producers.
#[derive(Default)]
struct Log {
    values: Vec<u64>,
    producers: BTreeMap<i64, VecDeque<(i32, i32, u64)>>,
}

impl Log {
    fn append(&mut self, bytes: &Bytes) -> Result<u64, Code> {
        let batch = Batch::parse(bytes.clone()).unwrap();
        let base = self.values.len() as u64;
        if batch.header().has_producer() {
            let first = batch.header().base_sequence;
            let last = first + batch.header().last_offset_delta;
            let recent = self.producers.entry(batch.header().producer_id).or_default();
            if let Some((.., base)) = recent.iter().find(|seen| (seen.0, seen.1) == (first, last)) {
                return Ok(*base);
            }
            if recent.back().is_some_and(|newest| newest.1 + 1 != first) {
                return Err(Code::OutOfOrderSequence);
            }
            recent.push_back((first, last, base));
            if recent.len() > REMEMBERED {
                recent.pop_front();
            }
        }
        let records = batch.records(usize::MAX).unwrap().map(Result::unwrap);
        self.values.extend(records.map(|record| u64::from_be_bytes(record.value.unwrap()[..].try_into().unwrap())));
        Ok(base)
    }
}

struct World {
    queue: Queue,
    log: Log,
    now: Instant,
    idempotent: bool,
    next_id: i64,
    room: Arc<Semaphore>,
    deliveries: Vec<Delivery>,
    requests: VecDeque<(Ticket, Bytes)>,
    answers: Vec<(Ticket, Verdict)>,
}

impl World {
    fn new(idempotent: bool, records_per_batch: usize) -> Self {
        let limits = Limits {
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes: 61 + 40 * records_per_batch,
            deadline: Duration::from_secs(1),
        };
        let identity = idempotent.then_some(Identity { id: ProducerId(0), epoch: 0 });
        Self {
            queue: Queue::new(PARTITION, limits, identity),
            log: Log::default(),
            now: Instant::now(),
            idempotent,
            next_id: 1,
            room: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            deliveries: Vec::new(),
            requests: VecDeque::new(),
            answers: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Push => self.push(),
            Step::Depart => self.depart(),
            Step::Handle(handling) => self.handle(*handling),
            Step::Hear(which) if !self.answers.is_empty() => {
                let (ticket, verdict) = self.answers.remove(which.index(self.answers.len()));
                self.queue.settle(ticket, verdict, self.now);
            }
            Step::Hear(_) => {}
            Step::LoseConnection(handled) => {
                let handled = handled.index(self.requests.len() + 1);
                (0..handled).for_each(|_| self.handle(Handling::Append));
                self.requests.clear();
                self.answers.clear();
                self.queue.connection_lost(&Error::new(Code::Unavailable, "lost"), self.now);
            }
            Step::Wait(ms) => {
                self.now += Duration::from_millis(*ms);
                self.queue.expire(self.now);
            }
        }
    }

    fn push(&mut self) {
        let value = (self.deliveries.len() as u64).to_be_bytes().to_vec();
        let record = OutRecord::new(value);
        let bytes = record.encoded_bytes();
        let room = self.room.clone().try_acquire_many_owned(bytes as u32).unwrap();
        self.deliveries.push(self.queue.push(&record, bytes, 0, room, self.now).delivery);
    }

    fn depart(&mut self) {
        if self.queue.wants_identity() {
            self.queue.renew(Identity { id: ProducerId(self.next_id), epoch: 0 });
            self.next_id += 1;
        }
        while let Some(departure) = self.queue.depart(self.now) {
            let ticket = departure.ticket;
            let bytes = seal(departure);
            self.queue.keep(ticket, bytes.clone());
            self.requests.push_back((ticket, bytes));
        }
    }

    fn handle(&mut self, handling: Handling) {
        let Some((ticket, bytes)) = self.requests.pop_front() else { return };
        let error = |code| Error::new(code, "told so");
        let appended = match handling {
            Handling::Append | Handling::AppendAndSayTimeout => self.log.append(&bytes),
            Handling::SayTimeout => Err(Code::Timeout),
            Handling::RefuseForNow => Err(Code::Overloaded),
            Handling::Refuse => Err(Code::MessageTooLarge),
        };
        let verdict = match appended {
            Ok(_) if matches!(handling, Handling::AppendAndSayTimeout) => Verdict::Doubt(error(Code::Timeout)),
            Ok(base) => Verdict::Acked(BatchAck {
                partition: PARTITION,
                base_offset: Offset(base),
                token: Token { shard: ShardId(0), index: RaftIndex(1) },
                at: self.now,
            }),
            Err(Code::OutOfOrderSequence) => Verdict::OutOfOrder(error(Code::OutOfOrderSequence)),
            Err(Code::Timeout) => Verdict::Doubt(error(Code::Timeout)),
            Err(Code::Overloaded) => Verdict::Again(error(Code::Overloaded)),
            Err(code) => Verdict::Refused(error(code)),
        };
        self.answers.push((ticket, verdict));
    }

    /// Nothing goes wrong any more, and no deadline passes.
    fn calm_down(&mut self) {
        for _ in 0..10_000 {
            if self.queue.is_empty() {
                return;
            }
            self.now += Duration::from_millis(50);
            self.queue.close_open();
            self.depart();
            while !self.requests.is_empty() {
                self.handle(Handling::Append);
            }
            for (ticket, verdict) in std::mem::take(&mut self.answers) {
                self.queue.settle(ticket, verdict, self.now);
            }
        }
        panic!("the queue does not empty: {:?}", self.queue);
    }

    fn check(&mut self) {
        let log = &self.log.values;
        assert!(log.is_sorted_by(|a, b| a < b), "order is kept and nothing is there twice: {log:?}");
        for (value, delivery) in self.deliveries.drain(..).enumerate() {
            let outcome = delivery.now_or_never().expect("every outcome was told");
            let found = log.iter().position(|logged| *logged == value as u64);
            match outcome {
                Ok(ack) => {
                    assert_eq!(found, Some(ack.offset.0 as usize), "L1: record {value} is where it was acknowledged")
                }
                Err(SendError::Failed { .. }) => assert_eq!(found, None, "record {value} failed and is there"),
                Err(SendError::Unknown { .. }) => {}
            }
        }
        assert_eq!(self.room.available_permits(), Semaphore::MAX_PERMITS, "all room is given back");
        assert!(self.idempotent || self.log.producers.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn outcomes_are_true_and_order_is_kept_whatever_happens(
        idempotent in any::<bool>(), records_per_batch in 1..4_usize, steps in proptest::collection::vec(any_step(), 1..200),
    ) {
        let mut world = World::new(idempotent, records_per_batch);
        steps.iter().for_each(|step| world.step(step));
        world.calm_down();
        world.check();
    }
}

#[test]
fn several_batches_are_in_flight_once_the_first_is_acknowledged() {
    let mut world = World::new(true, 1);
    (0..20).for_each(|_| world.push());
    world.depart();
    assert_eq!(world.requests.len(), 1);
    for _ in 0..10 {
        world.handle(Handling::Append);
        let (ticket, verdict) = world.answers.pop().unwrap();
        world.queue.settle(ticket, verdict, world.now);
        world.depart();
    }
    assert_eq!(world.requests.len(), REMEMBERED);
}

#[test]
fn a_batch_waits_for_its_linger_or_until_it_is_closed() {
    let mut world = World::new(true, 100);
    world.push();
    world.depart();
    assert!(world.requests.is_empty());
    assert_eq!(world.queue.due(), Some(world.now + Duration::from_millis(5)));
    world.queue.close_open();
    world.depart();
    assert_eq!(world.requests.len(), 1);
}

#[test]
fn sequence_numbers_stay_with_a_batch_that_is_sent_again() {
    let mut world = World::new(true, 1);
    world.push();
    world.queue.close_open();
    world.depart();
    let first = world.requests[0].1.clone();
    world.step(&Step::Handle(Handling::AppendAndSayTimeout));
    let (ticket, verdict) = world.answers.pop().unwrap();
    world.queue.settle(ticket, verdict, world.now);
    world.now += Duration::from_secs(2);
    world.depart();
    assert_eq!(world.requests[0].1, first);
}
