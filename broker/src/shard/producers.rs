//! Idempotent producers: what a shard remembers of them to append each batch once.

use std::collections::BTreeMap;

use stratalog_proto::batch::BatchHeader;
use stratalog_proto::config::SECOND_NS;
use stratalog_proto::{Code, Error, Offset, PartitionId, ProducerId, RaftIndex, TopicId, TopicPartition, internal};
use stratalog_storage::sabotage::{Bug, planted};

use super::state::Sink;

/// A producer that appended nothing to a partition for this long, in entry time, is forgotten there; one that is
/// active within it never is.
pub(crate) const PRODUCER_EXPIRY_NS: i64 = (24 * 3_600 * SECOND_NS) as i64;
/// Batches of a producer that are remembered in each partition, as many as Kafka's clients keep in flight.
pub(crate) const REMEMBERED_BATCHES: usize = 5;
/// The most (producer, partition) pairs in a shard. At the cap new pairs are refused rather than active ones forgotten.
pub(crate) const MAX_PRODUCERS: usize = 100_000;
/// Expired pairs are looked for once in this many entries.
const SWEEP_EVERY: u64 = 4_096;

/// An idempotent producer that appended to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Its id.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence number of its last record.
    pub last_sequence: i32,
    /// When that was appended, in nanoseconds since the epoch.
    pub last_time_ns: i64,
}

/// A batch that was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Remembered {
    first: i32,
    last: i32,
    base_offset: Offset,
}

/// One producer in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ProducerState {
    epoch: i16,
    last_time_ns: i64,
    recent: Recent,
}

/// The last batches, newest first. In place, so that a hundred thousand producers are one allocation a few dozen, and
/// a copy of the state is cheap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Recent {
    batches: [Remembered; REMEMBERED_BATCHES],
    count: u8,
}

impl Recent {
    fn as_slice(&self) -> &[Remembered] {
        &self.batches[..usize::from(self.count)]
    }

    /// Adds the newest, and forgets the oldest if there are too many.
    fn push(&mut self, batch: Remembered) {
        self.batches.copy_within(..REMEMBERED_BATCHES - 1, 1);
        self.batches[0] = batch;
        self.count = (self.count + 1).min(REMEMBERED_BATCHES as u8);
    }
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Append it.
    New,
    /// It is there already, at this offset.
    Duplicate(Offset),
}

/// All producers of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producers {
    pairs: BTreeMap<(TopicPartition, ProducerId), ProducerState>,
    swept_at: RaftIndex,
    cap: usize,
}

impl Producers {
    /// None yet; at most `cap` pairs.
    pub(super) fn new(cap: usize) -> Self {
        Self { pairs: BTreeMap::new(), swept_at: RaftIndex(0), cap }
    }

    /// Decides on a batch by its sequence numbers.
    ///
    /// A producer that is not known here may begin anywhere: it was idle past the expiry, or the topic is new.
    ///
    /// # Errors
    /// [`Code::ProducerFenced`], [`Code::OutOfOrderSequence`], [`Code::ProducerLimit`].
    pub(super) fn check(&self, tp: TopicPartition, header: &BatchHeader, now_ns: i64) -> Result<Verdict, Error> {
        if header.producer_id < 0 || planted(Bug::NoDedup) {
            return Ok(Verdict::New);
        }
        let known = self.pairs.get(&(tp, ProducerId(header.producer_id)));
        match known.filter(|state| !state.expired(now_ns)) {
            Some(state) => state.check(header),
            None if known.is_none() && self.pairs.len() >= self.cap => Err(limit(self.cap)),
            None => Ok(Verdict::New),
        }
    }

    /// Remembers a batch that was appended.
    pub(super) fn remember(&mut self, tp: TopicPartition, header: &BatchHeader, now_ns: i64, base_offset: Offset) {
        if header.producer_id < 0 {
            return;
        }
        let epoch = header.producer_epoch;
        let fresh = || ProducerState { epoch, last_time_ns: now_ns, recent: Recent::default() };
        let state = self.pairs.entry((tp, ProducerId(header.producer_id))).or_insert_with(fresh);
        if state.epoch != epoch || state.expired(now_ns) {
            *state = fresh();
        }
        state.last_time_ns = now_ns;
        let last = sequence_after(header.base_sequence, header.record_count - 1);
        state.recent.push(Remembered { first: header.base_sequence, last, base_offset });
    }

    /// Forgets expired producers, every [`SWEEP_EVERY`] entries: a function of index and entry time only (A1).
    pub(super) fn sweep(&mut self, index: RaftIndex, now_ns: i64) {
        if index.0.saturating_sub(self.swept_at.0) >= SWEEP_EVERY {
            self.swept_at = index;
            self.pairs.retain(|_, state| !state.expired(now_ns));
        }
    }

    /// Forgets a topic.
    pub(super) fn remove_topic(&mut self, topic: TopicId) {
        self.pairs.retain(|(tp, _), _| tp.topic != topic);
    }

    /// The index of the last sweep.
    pub(super) fn swept_at(&self) -> RaftIndex {
        self.swept_at
    }

    /// All that is remembered, ascending by topic, partition and producer.
    pub(super) fn to_proto(&self) -> Vec<internal::ProducerState> {
        let batch = |batch: &Remembered| internal::ProducerBatch {
            first: batch.first,
            last: batch.last,
            base_offset: batch.base_offset.0,
        };
        let pair = |((tp, producer), state): (&(TopicPartition, ProducerId), &ProducerState)| internal::ProducerState {
            topic: tp.topic.to_bytes(),
            partition: tp.partition.0,
            producer: producer.0,
            epoch: state.epoch.into(),
            last_time_ns: state.last_time_ns,
            recent: state.recent.as_slice().iter().map(batch).collect(),
        };
        self.pairs.iter().map(pair).collect()
    }

    /// Reads back what was remembered at the last sweep's index or later. The cap holds for new pairs only.
    ///
    /// # Errors
    /// What is malformed in it.
    pub(super) fn from_proto(
        pairs: &[internal::ProducerState],
        swept_at: RaftIndex,
        cap: usize,
    ) -> Result<Self, &'static str> {
        let mut producers = Self { pairs: BTreeMap::new(), swept_at, cap };
        for raw in pairs {
            let topic = TopicId::from_slice(&raw.topic).ok_or("the topic of a producer does not have 16 bytes")?;
            let key = (TopicPartition { topic, partition: PartitionId(raw.partition) }, ProducerId(raw.producer));
            if producers.pairs.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err("its producers do not ascend");
            }
            producers.pairs.insert(key, ProducerState::from_proto(raw)?);
        }
        Ok(producers)
    }

    /// Puts all that is remembered into a hash.
    pub(super) fn hash(&self, sink: &mut Sink) {
        sink.u64(self.swept_at.0);
        sink.count(self.pairs.len());
        for ((tp, producer), state) in &self.pairs {
            sink.bytes(tp.topic.as_bytes());
            sink.u32(tp.partition.0);
            sink.i64(producer.0);
            sink.u32(state.epoch as u16 as u32);
            sink.i64(state.last_time_ns);
            sink.count(state.recent.as_slice().len());
            for batch in state.recent.as_slice() {
                sink.u32(batch.first as u32);
                sink.u32(batch.last as u32);
                sink.u64(batch.base_offset.0);
            }
        }
    }

    /// Those of a partition that are not forgotten at this time, ascending by id.
    pub(super) fn of(&self, tp: TopicPartition, now_ns: i64) -> Vec<ProducerInfo> {
        let all = self.pairs.range((tp, ProducerId(i64::MIN))..=(tp, ProducerId(i64::MAX)));
        let info = |((_, producer), state): (&(TopicPartition, ProducerId), &ProducerState)| {
            let last = state.recent.as_slice().first().filter(|_| !state.expired(now_ns))?;
            let (epoch, last_time_ns) = (state.epoch, state.last_time_ns);
            Some(ProducerInfo { producer: *producer, epoch, last_sequence: last.last, last_time_ns })
        };
        all.filter_map(info).collect()
    }

    /// The number of pairs.
    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }
}

impl ProducerState {
    fn from_proto(raw: &internal::ProducerState) -> Result<Self, &'static str> {
        if !(1..=REMEMBERED_BATCHES).contains(&raw.recent.len()) {
            return Err("a producer has no batches, or too many");
        }
        let epoch = i16::try_from(raw.epoch).map_err(|_| "the epoch of a producer does not fit 16 bits")?;
        let mut recent = Recent::default();
        for batch in raw.recent.iter().rev() {
            recent.push(Remembered { first: batch.first, last: batch.last, base_offset: Offset(batch.base_offset) });
        }
        Ok(Self { epoch, last_time_ns: raw.last_time_ns, recent })
    }

    fn expired(&self, now_ns: i64) -> bool {
        now_ns.saturating_sub(self.last_time_ns) >= PRODUCER_EXPIRY_NS
    }

    fn check(&self, header: &BatchHeader) -> Result<Verdict, Error> {
        if header.producer_epoch < self.epoch {
            return Err(fenced(header, self.epoch));
        }
        if header.producer_epoch > self.epoch {
            return if header.base_sequence == 0 { Ok(Verdict::New) } else { Err(out_of_order(header, 0)) };
        }
        let last = sequence_after(header.base_sequence, header.record_count - 1);
        if let Some(same) = self.recent.as_slice().iter().find(|r| r.first == header.base_sequence && r.last == last) {
            return Ok(Verdict::Duplicate(same.base_offset));
        }
        let expected = self.recent.as_slice().first().map_or(0, |newest| sequence_after(newest.last, 1));
        if header.base_sequence == expected { Ok(Verdict::New) } else { Err(out_of_order(header, expected)) }
    }
}

/// Sequence numbers go from `i32::MAX` back to 0.
fn sequence_after(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) % (i64::from(i32::MAX) + 1)) as i32
}

fn fenced(header: &BatchHeader, epoch: i16) -> Error {
    let message = format!(
        "producer {} sent epoch {}, and epoch {epoch} is active: another instance of it has taken over; stop this one",
        header.producer_id, header.producer_epoch
    );
    Error::new(Code::ProducerFenced, message)
}

fn out_of_order(header: &BatchHeader, expected: i32) -> Error {
    let message = format!(
        "producer {} sent a batch with sequence {}, {expected} is next: a batch before it is missing, or it is a \
         duplicate of one sent more than {REMEMBERED_BATCHES} batches ago",
        header.producer_id, header.base_sequence
    );
    Error::new(Code::OutOfOrderSequence, message)
}

fn limit(cap: usize) -> Error {
    let message = format!("the shard already remembers {cap} active producers; reuse producers, or retry later");
    Error::new(Code::ProducerLimit, message)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tp() -> TopicPartition {
        TopicPartition { topic: TopicId(Uuid::nil()), partition: PartitionId(0) }
    }

    fn header(producer: i64, epoch: i16, base_sequence: i32, records: i32) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: 0,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: records - 1,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer_id: producer,
            producer_epoch: epoch,
            base_sequence,
            record_count: records,
        }
    }

    /// Checks and, if it is new, remembers at offset = sequence.
    fn send(producers: &mut Producers, h: &BatchHeader, now: i64) -> Result<Verdict, Code> {
        let verdict = producers.check(tp(), h, now).map_err(|e| e.code)?;
        if verdict == Verdict::New {
            producers.remember(tp(), h, now, Offset(h.base_sequence as u64));
        }
        Ok(verdict)
    }

    #[test]
    fn a_retry_of_each_of_the_last_five_batches_is_a_duplicate() {
        let mut producers = Producers::new(10);
        for n in 0..6 {
            assert_eq!(send(&mut producers, &header(1, 0, n * 3, 3), 0), Ok(Verdict::New));
        }
        for n in 1..6 {
            assert_eq!(send(&mut producers, &header(1, 0, n * 3, 3), 0), Ok(Verdict::Duplicate(Offset(n as u64 * 3))));
        }
        assert_eq!(send(&mut producers, &header(1, 0, 0, 3), 0), Err(Code::OutOfOrderSequence));
        assert_eq!(send(&mut producers, &header(1, 0, 19, 1), 0), Err(Code::OutOfOrderSequence));
    }

    #[test]
    fn sequences_wrap_at_the_end_of_i32() {
        let mut producers = Producers::new(10);
        assert_eq!(send(&mut producers, &header(1, 0, i32::MAX - 1, 2), 0), Ok(Verdict::New));
        assert_eq!(send(&mut producers, &header(1, 0, 0, 2), 0), Ok(Verdict::New));
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }

    #[test]
    fn the_producers_of_a_partition_are_told_until_they_are_forgotten() {
        let mut producers = Producers::new(100);
        for (at, header) in [header(7, 0, 0, 3), header(2, 1, 5, 1), header(7, 0, 3, 2)].iter().enumerate() {
            send(&mut producers, header, at as i64).unwrap();
        }
        let of = |now_ns| {
            let told = producers.of(tp(), now_ns);
            told.iter().map(|of| (of.producer.0, of.epoch, of.last_sequence, of.last_time_ns)).collect::<Vec<_>>()
        };
        assert_eq!(of(3), [(2, 1, 5, 1), (7, 0, 4, 2)]);
        assert_eq!(of(PRODUCER_EXPIRY_NS + 1), [(7, 0, 4, 2)]);
        let other = TopicPartition { partition: PartitionId(1), ..tp() };
        assert!(producers.of(other, 3).is_empty());
    }

    #[test]
    fn a_newer_epoch_fences_the_older_and_starts_at_zero() {
        let mut producers = Producers::new(10);
        send(&mut producers, &header(1, 0, 0, 2), 0).unwrap();
        assert_eq!(send(&mut producers, &header(1, 1, 2, 1), 0), Err(Code::OutOfOrderSequence));
        assert_eq!(send(&mut producers, &header(1, 1, 0, 1), 0), Ok(Verdict::New));
        assert_eq!(send(&mut producers, &header(1, 0, 2, 1), 0), Err(Code::ProducerFenced));
    }

    #[test]
    fn copies_of_every_older_epoch_are_fenced_once_a_newer_one_began() {
        let mut producers = Producers::new(10);
        for (epoch, base_sequence) in [(0, 0), (0, 2), (1, 0), (7, 0)] {
            assert_eq!(send(&mut producers, &header(1, epoch, base_sequence, 2), 0), Ok(Verdict::New));
        }
        for (epoch, base_sequence) in [(0, 0), (0, 2), (0, 4), (1, 0), (1, 2), (6, 0)] {
            let copy = header(1, epoch, base_sequence, 2);
            assert_eq!(send(&mut producers, &copy, 0), Err(Code::ProducerFenced), "{epoch} {base_sequence}");
        }
        assert_eq!(send(&mut producers, &header(1, 7, 0, 2), 0), Ok(Verdict::Duplicate(Offset(0))));
        assert_eq!(send(&mut producers, &header(1, 7, 2, 2), 0), Ok(Verdict::New));
    }

    #[test]
    fn at_the_cap_new_producers_are_refused_until_others_expire() {
        let mut producers = Producers::new(2);
        send(&mut producers, &header(1, 0, 0, 1), 0).unwrap();
        send(&mut producers, &header(2, 0, 0, 1), 5).unwrap();
        assert_eq!(send(&mut producers, &header(3, 0, 0, 1), 5), Err(Code::ProducerLimit));
        assert_eq!(send(&mut producers, &header(1, 0, 1, 1), 5), Ok(Verdict::New));
        producers.sweep(RaftIndex(SWEEP_EVERY), 4 + PRODUCER_EXPIRY_NS);
        assert_eq!(producers.len(), 2);
        producers.sweep(RaftIndex(2 * SWEEP_EVERY), 5 + PRODUCER_EXPIRY_NS);
        assert_eq!(send(&mut producers, &header(3, 0, 0, 1), 5 + PRODUCER_EXPIRY_NS), Ok(Verdict::New));
    }

    #[test]
    fn an_expired_producer_may_begin_anywhere() {
        let mut producers = Producers::new(1);
        send(&mut producers, &header(1, 0, 0, 1), 0).unwrap();
        assert_eq!(send(&mut producers, &header(1, 0, 9, 1), PRODUCER_EXPIRY_NS), Ok(Verdict::New));
        assert_eq!(send(&mut producers, &header(1, 0, 10, 1), PRODUCER_EXPIRY_NS), Ok(Verdict::New));
    }
}
