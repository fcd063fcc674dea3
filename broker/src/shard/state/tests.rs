//! Properties of the shard state: L2, L3, A1, S2, and deduplication.

mod codec;
mod erasures;
mod groups;
mod hashes;
mod history;
mod lies;
mod rolling;
mod rows;
mod sabotage;
mod seals;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::{Append, Command, Entry, EntryBuilder};
use stratalog_proto::{Code, Error, Offset, PartitionId, ProducerId, RaftIndex, SegmentId, Term, TopicId, internal};
use uuid::Uuid;

use super::super::producers::PRODUCER_EXPIRY_NS;
use super::{Effects, ShardState};
use crate::outcome::CommandResult;

const TOPIC: TopicId = TopicId(Uuid::from_u128(7));

fn batch(records: i64, producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(ProducerId(id), epoch, sequence);
    }
    for n in 0..records {
        builder.push(1_000 + n, None, Some(b"v"), &[]);
    }
    builder.finish()
}

fn append(partition: u32, batch: Bytes) -> Command {
    Command::Append(Append { topic: TOPIC, partition: PartitionId(partition), batch })
}

fn put_topic(partitions: &[u32]) -> Command {
    Command::PutTopic(internal::PutTopic {
        topic: TOPIC.to_bytes(),
        partitions: partitions.to_vec(),
        config: Some(TopicConfig::default().to_internal()),
    })
}

fn seal(expect: u64, next: u64, segments: Vec<internal::SegmentMeta>) -> Command {
    Command::Seal(internal::Seal { topic: TOPIC.to_bytes(), expect, next, segments, rowless: vec![], ends: vec![] })
}

fn counts(of: &[(u32, u64)]) -> Vec<internal::PartitionCount> {
    of.iter().map(|&(partition, value)| internal::PartitionCount { partition, value }).collect()
}

fn segment(id: u128, ranges: &[(u32, u64, u64)]) -> internal::SegmentMeta {
    let range = |&(partition, first, next): &(u32, u64, u64)| internal::OffsetRange { partition, first, next };
    internal::SegmentMeta {
        id: SegmentId(Uuid::from_u128(id)).to_bytes(),
        topic: TOPIC.to_bytes(),
        kind: 1,
        bucket_end_ns: 100,
        max_time_ns: 10,
        rows: ranges.iter().map(|(_, first, next)| next - first).sum(),
        bytes: 1,
        ranges: ranges.iter().map(range).collect(),
        blake3: vec![0; 32].into(),
        ..Default::default()
    }
}

fn drop_segment(id: u128) -> Command {
    let segments = vec![SegmentId(Uuid::from_u128(id)).to_bytes()];
    Command::Drop(internal::Drop { topic: TOPIC.to_bytes(), segments })
}

fn entry(time_ns: i64, commands: &[Command]) -> Bytes {
    let mut builder = EntryBuilder::with_capacity(0);
    commands.iter().for_each(|command| builder.push(command));
    builder.finish(time_ns)
}

fn apply(state: &mut ShardState, index: u64, time_ns: i64, commands: &[Command]) -> Effects {
    apply_in(state, Term(1), index, time_ns, commands).unwrap()
}

fn apply_in(
    state: &mut ShardState,
    term: Term,
    index: u64,
    time_ns: i64,
    commands: &[Command],
) -> Result<Effects, Error> {
    state.apply(RaftIndex(index), term, &Entry::parse(entry(time_ns, commands)).unwrap())
}

fn codes(effects: Effects) -> Vec<Result<CommandResult, Code>> {
    effects.results.into_iter().map(|result| result.map_err(|error| error.code)).collect()
}

fn appended(base_offset: u64, duplicate: bool) -> Result<CommandResult, Code> {
    Ok(CommandResult::Appended { base_offset: Offset(base_offset), duplicate })
}

/// A shard that hosts the topic from index 1 on.
fn hosting(partitions: &[u32]) -> ShardState {
    let mut state = ShardState::new();
    apply(&mut state, 1, 0, &[put_topic(partitions)]);
    state
}

#[test]
fn each_command_of_an_entry_has_its_own_result() {
    let mut state = hosting(&[0]);
    let torn = append(0, batch(1, None).slice(0..40));
    let effects = apply(
        &mut state,
        2,
        0,
        &[append(0, batch(2, None)), append(9, batch(1, None)), torn, append(0, batch(1, None))],
    );
    assert_eq!(
        codes(effects),
        [appended(0, false), Err(Code::UnknownPartition), Err(Code::CorruptBatch), appended(2, false)]
    );
    assert_eq!(state.partition(TOPIC, PartitionId(0)).unwrap().high_watermark(), Offset(3));
}

#[test]
fn a_batch_is_found_where_it_lies_in_its_entry() {
    let mut state = hosting(&[0]);
    let batches = [batch(2, None), batch(3, None)];
    let commands = batches.clone().map(|batch| append(0, batch));
    apply(&mut state, 2, 0, &commands);
    let bytes = entry(0, &commands);
    let partition = state.partition(TOPIC, PartitionId(0)).unwrap();
    for (offset, expected) in [(0, 0), (1, 0), (2, 1), (4, 1)] {
        let slot = partition.batch_with(Offset(offset)).unwrap();
        let range = slot.at as usize..(slot.at + slot.len) as usize;
        assert_eq!(bytes.slice(range), batches[expected], "offset {offset}");
        assert_eq!(partition.slot_at(slot.index, slot.at), Some(slot));
    }
    assert_eq!(partition.batch_with(Offset(5)), None);
}

#[test]
fn s2_seal_applies_only_on_the_frontier_it_was_built_on() {
    let mut state = hosting(&[0]);
    apply(&mut state, 2, 0, &[append(0, batch(4, None))]);
    let first = seal(1, 2, vec![segment(1, &[(0, 0, 4)])]);
    let effects = apply(&mut state, 3, 0, &[first.clone(), first, seal(2, 3, vec![])]);
    let refused_after_it = Err(Code::InvalidRequest);
    assert_eq!(codes(effects), [Ok(CommandResult::Done), Err(Code::Conflict), refused_after_it]);
    assert_eq!(state.manifest().topic(TOPIC).unwrap().row_frontier, RaftIndex(2));
}

#[test]
fn log_start_moves_to_the_lowest_offset_with_a_live_row() {
    let mut state = hosting(&[0, 1]);
    apply(&mut state, 2, 0, &[append(0, batch(4, None)), append(1, batch(4, None)), append(0, batch(4, None))]);
    let sealed = vec![segment(1, &[(0, 0, 3), (1, 0, 4)]), segment(2, &[(0, 3, 8)])];
    apply(&mut state, 3, 0, &[seal(1, 2, sealed), append(1, batch(2, None))]);
    let effects = apply(&mut state, 4, 0, &[drop_segment(1), drop_segment(1)]);
    assert_eq!(effects.removed.len(), 1);
    let len = batch(4, None).len() as u64;
    let at = |state: &ShardState, p| {
        let partition = state.partition(TOPIC, PartitionId(p)).unwrap();
        (partition.log_start().0, partition.bytes() / len, partition.batches().count())
    };
    assert_eq!(at(&state, 0), (3, 2, 2), "the batch with offset 3 stays whole");
    assert_eq!(at(&state, 1), (4, 0, 2), "the sealed rows are gone, the tail is not");
    apply(&mut state, 5, 0, &[drop_segment(2)]);
    assert_eq!(at(&state, 0), (8, 0, 2), "its batches stay until they are rolled");
}

#[test]
fn removing_a_topic_removes_its_segments_and_producers() {
    let mut state = hosting(&[0]);
    apply(&mut state, 2, 0, &[append(0, batch(4, Some((1, 0, 0))))]);
    apply(&mut state, 3, 0, &[seal(1, 2, vec![segment(1, &[(0, 0, 4)])])]);
    let remove = Command::RemoveTopic(internal::RemoveTopic { topic: TOPIC.to_bytes() });
    let effects = apply(&mut state, 4, 0, &[remove.clone(), remove, append(0, batch(1, None))]);
    assert_eq!((effects.removed.len(), state.producers()), (1, 0));
    assert_eq!(codes(effects)[2], Err(Code::UnknownTopic));
}

#[test]
fn a_command_above_the_version_stops_the_replica() {
    let mut state = ShardState::new();
    let mut put = internal::PutTopic {
        topic: TOPIC.to_bytes(),
        partitions: vec![0],
        config: Some(TopicConfig::default().to_internal()),
    };
    put.config.as_mut().unwrap().format = 999;
    let entry = Entry::parse(entry(0, &[Command::PutTopic(put)])).unwrap();
    assert_eq!(state.apply(RaftIndex(1), Term(1), &entry).unwrap_err().code, Code::NewerVersion);
}

#[test]
fn expired_producers_are_forgotten_by_entry_time_only() {
    let mut state = ShardState::with_producer_cap(1);
    apply(&mut state, 1, 0, &[put_topic(&[0])]);
    let from = |producer| append(0, batch(1, Some((producer, 0, 0))));
    apply(&mut state, 2, 5, &[from(1)]);
    assert_eq!(codes(apply(&mut state, 3, 6, &[from(2)])), [Err(Code::ProducerLimit)]);
    assert_eq!(codes(apply(&mut state, 5_000, 5 + PRODUCER_EXPIRY_NS, &[from(2)])), [appended(1, false)]);
}

/// What a random history is made of.
#[derive(Clone, Debug)]
enum Step {
    Produce {
        partition: u32,
        records: i64,
    },
    /// The next batch of an idempotent producer.
    Next {
        producer: i64,
        partition: u32,
        records: i64,
    },
    /// The producer's batch before `back` others, once more.
    Again {
        producer: i64,
        partition: u32,
        back: usize,
    },
    Skip {
        producer: i64,
        partition: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (partition, producer, records) = (0..4u32, 0..3i64, 1..5i64);
    prop_oneof![
        (partition.clone(), records.clone()).prop_map(|(partition, records)| Step::Produce { partition, records }),
        (producer.clone(), partition.clone(), records).prop_map(|(producer, partition, records)| Step::Next {
            producer,
            partition,
            records
        }),
        (producer.clone(), partition.clone(), 0..5usize).prop_map(|(producer, partition, back)| Step::Again {
            producer,
            partition,
            back
        }),
        (producer, partition).prop_map(|(producer, partition)| Step::Skip { producer, partition }),
    ]
}

/// A batch that was sent: sequence, records, offset.
type Sent = (i32, i64, u64);

/// A history, and what each command has to answer; kept by a model that is not the implementation.
#[derive(Default)]
struct Model {
    high_watermarks: BTreeMap<u32, u64>,
    /// By producer and partition.
    sent: BTreeMap<(i64, u32), Vec<Sent>>,
}

impl Model {
    fn take(&mut self, partition: u32, records: i64) -> u64 {
        let next = self.high_watermarks.entry(partition).or_insert(0);
        *next += records as u64;
        *next - records as u64
    }

    fn command(&mut self, step: &Step) -> (Command, Result<CommandResult, Code>) {
        match *step {
            Step::Produce { partition, records } => {
                (append(partition, batch(records, None)), appended(self.take(partition, records), false))
            }
            Step::Next { producer, partition, records } => {
                let sequence = self.next_sequence(producer, partition);
                let offset = self.take(partition, records);
                self.sent.entry((producer, partition)).or_default().push((sequence, records, offset));
                (append(partition, batch(records, Some((producer, 0, sequence)))), appended(offset, false))
            }
            Step::Again { producer, partition, back } => {
                let sent = self.sent.get(&(producer, partition)).and_then(|sent| sent.iter().rev().nth(back)).copied();
                match sent {
                    Some((sequence, records, offset)) => {
                        (append(partition, batch(records, Some((producer, 0, sequence)))), appended(offset, true))
                    }
                    None => self.command(&Step::Next { producer, partition, records: 1 }),
                }
            }
            Step::Skip { producer, partition } => match self.next_sequence(producer, partition) {
                0 => self.command(&Step::Next { producer, partition, records: 1 }),
                next => (append(partition, batch(1, Some((producer, 0, next + 1)))), Err(Code::OutOfOrderSequence)),
            },
        }
    }

    fn next_sequence(&self, producer: i64, partition: u32) -> i32 {
        let last = self.sent.get(&(producer, partition)).and_then(|sent| sent.last());
        last.map_or(0, |(sequence, records, _)| sequence + *records as i32)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// L2: offsets are dense and never reused, whatever is duplicated or refused. Deduplication: each of the last five
    /// batches of a producer answers with its first offset.
    #[test]
    fn l2_offsets_are_dense_and_retries_keep_theirs(entries in prop::collection::vec(prop::collection::vec(step(), 1..6), 1..20)) {
        let mut state = hosting(&[0, 1, 2, 3]);
        let mut model = Model::default();
        for (at, steps) in entries.iter().enumerate() {
            let (commands, expected): (Vec<_>, Vec<_>) = steps.iter().map(|step| model.command(step)).unzip();
            let effects = apply(&mut state, at as u64 + 2, at as i64, &commands);
            prop_assert_eq!(codes(effects), expected);
        }
        for partition in 0..4 {
            let partition_state = state.partition(TOPIC, PartitionId(partition)).unwrap();
            let mut next = Offset(0);
            for slot in partition_state.batches() {
                prop_assert_eq!(slot.base_offset, next);
                next = slot.next_offset();
            }
            prop_assert_eq!(next, partition_state.high_watermark());
            prop_assert_eq!(next.0, model.high_watermarks.get(&partition).copied().unwrap_or(0));
        }
    }

    /// A1: the same entries give the same state and the same answers.
    #[test]
    fn a1_apply_is_a_function_of_state_and_entry(entries in prop::collection::vec(prop::collection::vec(step(), 1..6), 1..10)) {
        let mut model = Model::default();
        let mut replicas = [hosting(&[0, 1, 2, 3]), hosting(&[0, 1, 2, 3])];
        for (at, steps) in entries.iter().enumerate() {
            let commands: Vec<_> = steps.iter().map(|step| model.command(step).0).collect();
            let [left, right] = &mut replicas;
            prop_assert_eq!(apply(left, at as u64 + 2, 0, &commands), apply(right, at as u64 + 2, 0, &commands));
        }
        prop_assert_eq!(&replicas[0], &replicas[1]);
    }

    /// X1: no entry makes apply panic.
    #[test]
    fn x1_garbage_batches_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let mut state = hosting(&[0]);
        let effects = apply(&mut state, 2, 0, &[append(0, bytes.into())]);
        prop_assert_eq!(codes(effects), [Err(Code::CorruptBatch)]);
    }
}
