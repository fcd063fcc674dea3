//! What has to be true of one shard, kept by simpler means than the shard's own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use stratalog_proto::batch::{Batch, BatchHeader};
use stratalog_proto::entry::{Append, Command, Entry};
use stratalog_proto::{Offset, PartitionId, RaftIndex, Term, TopicId, TopicPartition};

use crate::outcome::{CommandResult, Results};
use crate::shard::{ShardState, leader_epoch};

/// A batch that was given offsets.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) base: Offset,
    pub(super) next: Offset,
    pub(super) index: RaftIndex,
    /// As a consumer gets it: with base offset and leader epoch.
    pub(super) bytes: Bytes,
}

/// An entry that was handed to the log.
#[derive(Clone, Debug)]
struct Submitted {
    term: Term,
    /// `None` for what Raft writes for itself.
    payload: Option<Bytes>,
}

/// A batch with numbers.
#[derive(Clone, Copy, Debug)]
struct Known {
    sequence: i32,
    /// The number that has to follow.
    next: i32,
    base: Offset,
}

/// Batches of a producer in which a shard finds one that is sent again.
const REMEMBERED: usize = 5;

/// What an entry told the clients.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Batches that have their offsets: partition, producer and sequence number.
    pub(super) acknowledged: Vec<(TopicPartition, i64, i32)>,
    /// Topics that are gone.
    pub(super) removed: Vec<TopicId>,
}

/// One shard.
#[derive(Clone)]
pub(super) struct Model {
    /// By index.
    entries: Vec<Submitted>,
    /// The index after the last entry that is applied, and acknowledged.
    next: u64,
    hosted: BTreeSet<TopicPartition>,
    accepted: BTreeMap<TopicPartition, Vec<Accepted>>,
    /// The batches of idempotent producers, in their order.
    known: BTreeMap<(TopicPartition, i64), Vec<Known>>,
    /// The state of a replica that was never interrupted.
    state: ShardState,
    /// The highest term of a vote that was saved.
    vote: Term,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            next: 0,
            hosted: BTreeSet::new(),
            accepted: BTreeMap::new(),
            known: BTreeMap::new(),
            state: ShardState::new(),
            vote: Term(0),
        }
    }

    /// The state of a replica that was never interrupted.
    pub(super) fn state(&self) -> &ShardState {
        &self.state
    }

    /// The index after the last entry that is applied.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The batches of each partition, ascending by offset.
    pub(super) fn accepted(&self) -> &BTreeMap<TopicPartition, Vec<Accepted>> {
        &self.accepted
    }

    /// The accepted batch that holds an offset.
    pub(super) fn batch_with(&self, tp: TopicPartition, offset: Offset) -> Option<&Accepted> {
        let of = self.accepted.get(&tp)?;
        of.get(of.partition_point(|batch| batch.next <= offset)).filter(|batch| batch.base <= offset)
    }

    /// An entry of commands was handed to the log.
    pub(super) fn submitted(&mut self, index: RaftIndex, term: Term, payload: Bytes) {
        assert_eq!(index.0, self.entries.len() as u64, "L2: an entry is appended behind the last one");
        self.entries.push(Submitted { term, payload: Some(payload) });
    }

    /// What the group itself wrote, up to the end of the log.
    pub(super) fn submitted_by_raft(&mut self, end: u64) {
        while (self.entries.len() as u64) < end {
            self.entries.push(Submitted { term: Term(0), payload: None });
        }
    }

    /// A vote is durable.
    pub(super) fn voted(&mut self, term: Term) {
        assert!(term >= self.vote, "a vote went back from term {} to {term}", self.vote);
        self.vote = term;
    }

    /// A restart found the log to end before `end`: what was in flight above it is lost, what was acknowledged must not be.
    pub(super) fn recovered(&mut self, end: u64) {
        let next = self.next;
        assert!(
            end >= next,
            "L1: entries {end} to {} were acknowledged, and are not in the log any more",
            next.max(1) - 1
        );
        self.entries.truncate(end as usize);
        // What the group wrote for itself before it was interrupted; the log has to say so too.
        self.submitted_by_raft(end);
    }

    /// The entry that was handed to the log under this index.
    pub(super) fn payload(&self, index: u64) -> Option<&Bytes> {
        self.entries.get(index as usize)?.payload.as_ref()
    }

    /// Applies the next entry and compares the answers of its commands: with those of a state of our own (A1), and with the
    /// rules of producing.
    pub(super) fn apply(&mut self, index: RaftIndex, answers: &Results) -> Applied {
        assert_eq!(index.0, self.next, "A1: entries are applied in order");
        let Submitted { term, payload } = self.entries[index.0 as usize].clone();
        self.next += 1;
        let Some(payload) = payload else { return Applied::default() };
        let entry = Entry::parse(payload).expect("an entry that was built is one");
        let own = self.state.apply(index, term, &entry).expect("a state of our own takes it").results;
        assert_eq!(*answers, own, "A1: entry {index} was answered in another way");
        let mut applied = Applied::default();
        for (command, answer) in entry.commands().zip(own) {
            match command.expect("an entry that was built is one") {
                Command::Append(append) => applied.acknowledged.extend(self.append(index, term, &append, answer.ok())),
                Command::PutTopic(put) if answer.is_ok() => {
                    let topic = TopicId::from_slice(&put.topic).expect("16 bytes");
                    let partitions = put.partitions.iter().map(|partition| PartitionId(*partition));
                    self.hosted.extend(partitions.map(|partition| TopicPartition { topic, partition }));
                }
                Command::RemoveTopic(remove) if answer.is_ok() => {
                    let topic = TopicId::from_slice(&remove.topic).expect("16 bytes");
                    self.hosted.retain(|tp| tp.topic != topic);
                    self.accepted.retain(|tp, _| tp.topic != topic);
                    self.known.retain(|(tp, _), _| tp.topic != topic);
                    applied.removed.push(topic);
                }
                _ => {}
            }
        }
        applied
    }

    /// What an append has to answer: the next offset, or where the batch is already.
    fn append(
        &mut self,
        index: RaftIndex,
        term: Term,
        append: &Append,
        answer: Option<CommandResult>,
    ) -> Option<(TopicPartition, i64, i32)> {
        let tp = TopicPartition { topic: append.topic, partition: append.partition };
        if !self.hosted.contains(&tp) {
            assert_eq!(answer, None, "a partition that is not here took a batch");
            return None;
        }
        let batch = Batch::parse(append.batch.clone()).expect("clients send whole batches");
        let header = batch.header();
        let key = (tp, header.producer_id);
        let expected = self.expected(tp, header);
        assert_eq!(answer, expected, "L2: a batch of entry {index} in {tp:?}, of producer and number {key:?}");
        let Some(CommandResult::Appended { base_offset: base, duplicate }) = expected else { return None };
        if !duplicate {
            let (head, body) = batch.patched(base, leader_epoch(term));
            let next = Offset(base.0 + u64::from(batch.record_count()));
            let bytes = [head, body].concat().into();
            self.accepted.entry(tp).or_default().push(Accepted { base, next, index, bytes });
            let sequence = header.base_sequence;
            self.known.entry(key).or_default().push(Known { sequence, next: sequence + header.record_count, base });
        }
        Some((tp, header.producer_id, header.base_sequence))
    }

    /// The next offset for a batch that follows the last one of its producer; where it is for one that is sent again; `None`
    /// for any other. A producer that is not known may begin anywhere.
    fn expected(&self, tp: TopicPartition, header: &BatchHeader) -> Option<CommandResult> {
        let end = self.accepted.get(&tp).and_then(|of| of.last()).map_or(Offset(0), |last| last.next);
        let new = Some(CommandResult::Appended { base_offset: end, duplicate: false });
        let known = self.known.get(&(tp, header.producer_id)).filter(|_| header.producer_id >= 0);
        let Some(last) = known.and_then(|known| known.last()) else { return new };
        if header.base_sequence == last.next {
            return new;
        }
        let mut remembered = known?.iter().rev().take(REMEMBERED);
        let before = remembered.find(|known| known.sequence == header.base_sequence)?;
        Some(CommandResult::Appended { base_offset: before.base, duplicate: true })
    }
}
