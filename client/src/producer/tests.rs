//! The queue of a partition against a model of the log, the network between them and everything that can go wrong there.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// So many of the requests on their way are handled yet, others perhaps later; no answer arrives any more.
    LoseConnection(prop::sample::Index),
    /// The oldest request of one of the lost connections is handled.
    DeliverStray(prop::sample::Index),
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
        2 => any::<prop::sample::Index>().prop_map(Step::DeliverStray),
        3 => (1..400_u64).prop_map(Step::Wait),
    ]
}

/// First and last sequence and base offset of a batch.
type Sent = (i32, i32, u64);

/// The log of one partition, with the rules of `broker::shard` for idempotent producers.
#[derive(Default)]
struct Log {
    values: Vec<u64>,
    /// By id: the epoch, and the newest batches.
    producers: BTreeMap<i64, (i16, VecDeque<Sent>)>,
}

impl Log {
    fn append(&mut self, bytes: &Bytes) -> Result<u64, Code> {
        let batch = Batch::parse(bytes.clone()).unwrap();
        let base = self.values.len() as u64;
        if batch.header().has_producer() {
            let first = batch.header().base_sequence;
            let last = first + batch.header().last_offset_delta;
            let epoch = batch.header().producer_epoch;
            let fresh = || (epoch, VecDeque::new());
            let (known, recent) = self.producers.entry(batch.header().producer_id).or_insert_with(fresh);
            match epoch.cmp(known) {
                Ordering::Less => return Err(Code::ProducerFenced),
                Ordering::Greater if first != 0 => return Err(Code::OutOfOrderSequence),
                Ordering::Greater => (*known, *recent) = fresh(),
                Ordering::Equal => {}
            }
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
    room: Arc<Semaphore>,
    deliveries: Vec<Delivery>,
    requests: VecDeque<(Ticket, Bytes)>,
    /// Of each lost connection, what it may still deliver.
    strays: Vec<VecDeque<Bytes>>,
    answers: Vec<(Ticket, Verdict)>,
}

impl World {
    fn new(idempotent: bool, records_per_batch: usize) -> Self {
        let limits = Limits {
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes: 61 + 40 * records_per_batch,
            max_message_bytes: usize::MAX,
            deadline: Duration::from_secs(1),
        };
        let identity = idempotent.then_some(Identity { id: ProducerId(0), epoch: 0 });
        Self {
            queue: Queue::new(PARTITION, limits, identity),
            log: Log::default(),
            now: Instant::now(),
            idempotent,
            room: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            deliveries: Vec::new(),
            requests: VecDeque::new(),
            strays: Vec::new(),
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
                self.strays.push(self.requests.drain(..).map(|(_, bytes)| bytes).collect());
                self.answers.clear();
                self.queue.connection_lost(&Error::new(Code::Unavailable, "lost"), self.now);
            }
            Step::DeliverStray(which) if !self.strays.is_empty() => {
                let which = which.index(self.strays.len());
                self.deliver_stray(which);
            }
            Step::DeliverStray(_) => {}
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

    /// Nobody hears the answer.
    fn deliver_stray(&mut self, which: usize) {
        if let Some(bytes) = self.strays[which].pop_front() {
            let _ = self.log.append(&bytes);
        }
    }

    fn depart(&mut self) {
        if let Some(identity) = self.queue.outworn_identity() {
            self.queue.renew(identity.raised().unwrap());
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
        for which in 0..self.strays.len() {
            (0..self.strays[which].len()).for_each(|_| self.deliver_stray(which));
        }
        let log = &self.log.values;
        assert_eq!(log.iter().collect::<BTreeSet<_>>().len(), log.len(), "nothing is there twice: {log:?}");
        // Of a producer that is not idempotent, what a lost connection delivers late is behind what came after it.
        assert!(!self.idempotent || log.is_sorted(), "order is kept: {log:?}");
        let mut acked = Vec::new();
        for (value, delivery) in self.deliveries.drain(..).enumerate() {
            let outcome = delivery.now_or_never().expect("every outcome was told");
            let found = log.iter().position(|logged| *logged == value as u64);
            match outcome {
                Ok(ack) => {
                    assert_eq!(found, Some(ack.offset.0 as usize), "L1: record {value} is where it was acknowledged");
                    acked.push(ack.offset);
                }
                Err(SendError::Failed { .. }) => assert_eq!(found, None, "record {value} failed and is there"),
                Err(SendError::Unknown { .. }) => {}
            }
        }
        assert!(acked.is_sorted(), "the order of acknowledged records is kept");
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

/// A world whose second batch was refused while the third was in flight; and what the third was called then.
fn renewed_world() -> (World, Ticket) {
    let mut world = World::new(true, 1);
    let answer = |world: &mut World, handling| {
        world.handle(handling);
        let (ticket, verdict) = world.answers.pop().unwrap();
        world.queue.settle(ticket, verdict, world.now);
        ticket
    };
    (0..3).for_each(|_| world.push());
    world.queue.close_open();
    world.depart();
    answer(&mut world, Handling::Append);
    world.depart();
    answer(&mut world, Handling::Refuse);
    let third = answer(&mut world, Handling::Append);
    world.now += Duration::from_millis(50);
    world.depart();
    (world, third)
}

#[test]
fn a_broken_sequence_starts_over_in_the_next_epoch() {
    let (mut world, _) = renewed_world();
    let again = Batch::parse(world.requests[0].1.clone()).unwrap();
    let header = again.header();
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (0, 1, 0));
    world.calm_down();
    world.check();
}

#[test]
fn a_stray_copy_that_comes_before_the_next_epoch_is_not_written_twice() {
    let mut world = World::new(true, 1);
    world.push();
    world.queue.close_open();
    world.depart();
    world.handle(Handling::Append);
    let (ticket, verdict) = world.answers.pop().unwrap();
    world.queue.settle(ticket, verdict, world.now);
    for _ in 0..2 {
        world.push();
        world.queue.close_open();
        world.depart();
        world.step(&Step::Wait(600));
    }
    world.strays.push(world.requests.drain(..).map(|(_, bytes)| bytes).collect());
    assert_eq!(world.strays[0].len(), 2);
    world.queue.connection_lost(&Error::new(Code::Unavailable, "lost"), world.now);
    world.step(&Step::Wait(50));
    // The first of the two is late and gone; the second is out of order, until both arrive after all.
    world.depart();
    world.handle(Handling::Append);
    let (ticket, verdict) = world.answers.pop().unwrap();
    assert!(matches!(verdict, Verdict::OutOfOrder(_)), "{verdict:?}");
    world.queue.settle(ticket, verdict, world.now);
    (0..2).for_each(|_| world.deliver_stray(0));
    world.calm_down();
    assert_eq!(world.log.values, [0, 1, 2]);
    world.check();
}

#[test]
fn an_answer_to_a_copy_of_an_older_epoch_changes_nothing_for_the_new_one() {
    let (mut world, old) = renewed_world();
    let fenced = Verdict::Refused(Error::new(Code::ProducerFenced, "an older epoch"));
    world.queue.settle(old, fenced, world.now);
    world.calm_down();
    assert!(world.deliveries[2].clone().now_or_never().unwrap().is_ok());
    world.check();
}

#[test]
fn after_the_last_epoch_comes_another_id() {
    let last = Identity { id: ProducerId(7), epoch: i16::MAX };
    assert_eq!(last.raised(), None);
    assert_eq!(Identity { epoch: i16::MAX - 1, ..last }.raised(), Some(last));
}
