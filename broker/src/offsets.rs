//! Offsets by time and by leader epoch.

use std::sync::Arc;

use stratalog_proto::batch::Batch;
use stratalog_proto::{Code, Error, Offset, PartitionId, Term, TopicPartition};
use stratalog_query::TopicInfo;
use stratalog_storage::{RecEpoch, RecMeta};

use crate::shard::{MAX_BATCH_CONTENT_BYTES, Shard, ShardState, Source};

/// Which offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// The lowest that can be read.
    Earliest,
    /// The one that the next record will get.
    Latest,
    /// The first whose record's timestamp is at or after this, in nanoseconds since the epoch; if there is none, as
    /// `Latest`.
    Time(i64),
    /// The first whose record's timestamp is the largest of all, by what the headers of batches say; if there is no record, as
    /// `Latest`. Where log start lies inside a batch, or a segment, that has the largest one below it, the largest of what is left
    /// of a batch.
    LargestTime,
}

/// An offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetFound {
    /// The partition.
    pub partition: PartitionId,
    /// The offset.
    pub offset: Offset,
    /// The leader epoch of the record there; where there is none yet, that of the leader. `None` if nothing says it any more.
    pub epoch: Option<Term>,
}

/// The offset of one partition, with its epoch.
///
/// # Errors
/// [`Code::UnknownTopic`] if the topic was deleted meanwhile; those of reading the log.
pub(crate) async fn find_offset(
    topic: &TopicInfo,
    shard: &Arc<Shard>,
    partition: PartitionId,
    at: OffsetAt,
) -> Result<OffsetFound, Error> {
    let offset = offset_at(topic, shard, partition, at).await?;
    let epoch = epoch_at(topic, shard, partition, offset).await?;
    Ok(OffsetFound { partition, offset, epoch })
}

async fn offset_at(
    topic: &TopicInfo,
    shard: &Arc<Shard>,
    partition: PartitionId,
    at: OffsetAt,
) -> Result<Offset, Error> {
    let tp = TopicPartition { topic: topic.id, partition };
    let (log_start, latest) = shard.read(|state| {
        let state = state.partition(tp.topic, tp.partition).ok_or_else(|| gone(topic))?;
        Ok::<_, Error>((state.log_start(), state.high_watermark()))
    })?;
    match at {
        OffsetAt::Earliest => Ok(log_start),
        OffsetAt::Latest => Ok(latest),
        OffsetAt::Time(ns) if shard.read(|state| Candidate::find(state, tp, first_ms(ns), log_start)).is_none() => {
            Ok(latest)
        }
        OffsetAt::Time(ns) => {
            let shard = Arc::clone(shard);
            let find = move || first_at(&shard, tp, first_ms(ns), log_start);
            Ok(on_blocking_thread(find).await?.unwrap_or(latest))
        }
        OffsetAt::LargestTime => {
            let shard = Arc::clone(shard);
            let find = move || first_of_largest(&shard, tp, log_start);
            Ok(on_blocking_thread(find).await?.unwrap_or(latest))
        }
    }
}

/// The leader epoch of the record at an offset; where there is none yet, that of the leader, which no record to come has an
/// older one than.
async fn epoch_at(
    topic: &TopicInfo,
    shard: &Arc<Shard>,
    partition: PartitionId,
    offset: Offset,
) -> Result<Option<Term>, Error> {
    let tp = TopicPartition { topic: topic.id, partition };
    let of_now = shard.watch_role().borrow().epoch;
    let (known, segment) = shard.read(|state| {
        let partition = state.partition(tp.topic, tp.partition).ok_or_else(|| gone(topic))?;
        let is_there = offset < partition.high_watermark();
        let known = if is_there { partition.epoch_of(offset) } else { Some(of_now) };
        let segment = state.manifest().rec_with(tp.topic, tp.partition, offset).filter(|_| known.is_none());
        Ok::<_, Error>((known, segment.map(Arc::clone)))
    })?;
    let Some(segment) = segment else { return Ok(known) };
    let shard = Arc::clone(shard);
    on_blocking_thread(move || {
        let reader = shard.recs().reader(&segment)?;
        let began = reader.epochs(tp.topic, tp.partition).iter().rev().find(|epoch| epoch.first <= offset);
        Ok(began.map(term_of))
    })
    .await
}

/// The newest leader epoch of a partition that is not above `asked`, and the offset at which it ends: the first of the next one,
/// or the high watermark. That of the leader is one of them, though it may have no record yet. Of an epoch that is older than
/// all that is left it is said that it ends where those begin: whoever has read that far has lost nothing.
///
/// # Errors
/// As [`find_offset`].
pub(crate) async fn end_of_epoch(
    topic: &TopicInfo,
    shard: &Arc<Shard>,
    partition: PartitionId,
    asked: Term,
) -> Result<(Term, Offset), Error> {
    let tp = TopicPartition { topic: topic.id, partition };
    let of_now = shard.watch_role().borrow().epoch;
    let (found, first_known, segments) = shard.read(|state| {
        let partition = state.partition(tp.topic, tp.partition).ok_or_else(|| gone(topic))?;
        let high_watermark = partition.high_watermark();
        let of_leader = (asked >= of_now).then_some((of_now, high_watermark));
        let found = of_leader.or_else(|| partition.end_of_epoch(asked));
        // The state remembers the newest epochs, segments those of their batches.
        let segments = if found.is_some() { Vec::new() } else { state.manifest().recs_of(tp.topic).to_vec() };
        let first_known = partition.oldest_epoch().map_or(high_watermark, |(_, first)| first);
        Ok::<_, Error>((found, first_known, segments))
    })?;
    if let Some(found) = found {
        return Ok(found);
    }
    let shard = Arc::clone(shard);
    on_blocking_thread(move || end_of_epoch_in(&shard, &segments, tp, asked, first_known)).await
}

fn gone(topic: &TopicInfo) -> Error {
    Error::new(Code::UnknownTopic, format!("topic `{}` was deleted", topic.name))
}

fn term_of(epoch: &RecEpoch) -> Term {
    Term(u64::try_from(epoch.epoch).unwrap_or(0))
}

async fn on_blocking_thread<T: Send + 'static>(
    find: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let found = tokio::task::spawn_blocking(find).await;
    found.map_err(|error| Error::new(Code::Internal, format!("a look for an offset ended early: {error}")))?
}

/// As [`end_of_epoch`], in segments ascending by offset, below `end`, at which a later epoch begins. Blocks on the disk.
fn end_of_epoch_in(
    shard: &Shard,
    segments: &[Arc<RecMeta>],
    tp: TopicPartition,
    asked: Term,
    mut end: Offset,
) -> Result<(Term, Offset), Error> {
    for meta in segments.iter().rev().filter(|meta| meta.range(tp.topic, tp.partition).is_some()) {
        for epoch in shard.recs().reader(meta)?.epochs(tp.topic, tp.partition).iter().rev() {
            let term = term_of(epoch);
            if term <= asked {
                return Ok((term, end));
            }
            end = end.min(epoch.first);
        }
    }
    Ok((asked, end))
}

/// Batches that may hold the first record of a time.
struct Candidate {
    source: Source,
    /// The first offset of them that counts, and the one behind them.
    from: Offset,
    end: Offset,
}

impl Candidate {
    /// The first replay segment, or batch of the log, at or above `from` with a record of this time by what its header says.
    fn find(state: &ShardState, tp: TopicPartition, ms: i64, from: Offset) -> Option<Self> {
        let partition = state.partition(tp.topic, tp.partition)?;
        let in_rec = |meta: &Arc<RecMeta>| {
            let range = meta.range(tp.topic, tp.partition)?;
            let may_be = range.next > from && range.max_timestamp_ms >= ms;
            may_be.then(|| Self { source: Source::Rec(Arc::clone(meta)), from: range.first.max(from), end: range.next })
        };
        let in_log = || {
            let slot = *partition.batches_from(from).find(|slot| slot.max_timestamp_ms >= ms)?;
            Some(Self { source: Source::Log(slot), from: slot.base_offset.max(from), end: slot.next_offset() })
        };
        state.manifest().recs_of(tp.topic).iter().find_map(in_rec).or_else(in_log)
    }

    /// What `look` finds in the first batch that has records at or above `from` and says that it has one of the time; `None` if
    /// there is none. Blocks on the disk.
    fn in_first_at(&self, shard: &Shard, tp: TopicPartition, ms: i64, look: Look) -> Result<Option<Offset>, Error> {
        match &self.source {
            Source::Log(slot) => look(&shard.batch(slot)?, slot.base_offset, ms, self.from).map(Some),
            Source::Rec(meta) => {
                let reader = shard.recs().reader(meta)?;
                let Some(found) = reader.offset_at_time(tp.topic, tp.partition, self.from, ms)? else {
                    return Ok(None);
                };
                look(&Batch::parse_trusted(found.bytes)?, found.first, ms, self.from).map(Some)
            }
        }
    }
}

/// A look into a batch, which begins at an offset, for a time, at or above another offset.
type Look = fn(&Batch, Offset, i64, Offset) -> Result<Offset, Error>;

/// The first record at or above `from` with a timestamp at or after `ms`; `None` if there is none. Blocks on the disk.
fn first_at(shard: &Shard, tp: TopicPartition, ms: i64, from: Offset) -> Result<Option<Offset>, Error> {
    find(shard, tp, ms, from, first_in)
}

/// The first record at or above `from` with the largest timestamp, as [`OffsetAt::LargestTime`] says. Blocks on the disk.
fn first_of_largest(shard: &Shard, tp: TopicPartition, from: Offset) -> Result<Option<Offset>, Error> {
    match shard.read(|state| largest_ms(state, tp, from)) {
        Some(ms) => find(shard, tp, ms, from, largest_in),
        None => Ok(None),
    }
}

/// The largest timestamp that segments and batches with records at or above `from` say that they have.
fn largest_ms(state: &ShardState, tp: TopicPartition, from: Offset) -> Option<i64> {
    let partition = state.partition(tp.topic, tp.partition)?;
    let recs = state.manifest().recs_of(tp.topic).iter().filter_map(|meta| meta.range(tp.topic, tp.partition));
    let in_recs = recs.filter(|range| range.next > from).map(|range| range.max_timestamp_ms);
    in_recs.chain(partition.batches_from(from).map(|slot| slot.max_timestamp_ms)).max()
}

/// What `look` finds in the first batch with a record of the time at or above `from`.
fn find(shard: &Shard, tp: TopicPartition, ms: i64, mut from: Offset, look: Look) -> Result<Option<Offset>, Error> {
    loop {
        let Some(candidate) = shard.read(|state| Candidate::find(state, tp, ms, from)) else { return Ok(None) };
        match candidate.in_first_at(shard, tp, ms, look) {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => from = candidate.end,
            Err(error) if shard.read(|state| candidate.source.is_current(state, tp, candidate.from)) => {
                return Err(error);
            }
            // It moved to a replay segment, or below log start: what is there now is looked at.
            Err(_) => from = shard.read(|state| from.max(log_start(state, tp))),
        }
    }
}

fn log_start(state: &ShardState, tp: TopicPartition) -> Offset {
    state.partition(tp.topic, tp.partition).map_or(Offset(0), |partition| partition.log_start())
}

/// The first millisecond that is not before `ns`: record timestamps are milliseconds.
fn first_ms(ns: i64) -> i64 {
    ns.div_euclid(1_000_000) + i64::from(ns.rem_euclid(1_000_000) > 0)
}

/// The first record of a batch at or above `from` with a timestamp at or after `ms`.
fn first_in(batch: &Batch, base: Offset, ms: i64, from: Offset) -> Result<Offset, Error> {
    for record in batch.records(MAX_BATCH_CONTENT_BYTES)? {
        let record = record?;
        let offset = Offset(base.0 + record.offset_delta as u64);
        if record.timestamp_ms >= ms && offset >= from {
            return Ok(offset);
        }
    }
    // Its header promises such a record; a client may have written a wrong one, or log start lies behind it.
    Ok(base.max(from))
}

/// The first record of a batch at or above `from` with the largest timestamp among those.
fn largest_in(batch: &Batch, base: Offset, _ms: i64, from: Offset) -> Result<Offset, Error> {
    let mut largest = None;
    for record in batch.records(MAX_BATCH_CONTENT_BYTES)? {
        let record = record?;
        let offset = Offset(base.0 + record.offset_delta as u64);
        if offset >= from && largest.is_none_or(|(ms, _)| record.timestamp_ms > ms) {
            largest = Some((record.timestamp_ms, offset));
        }
    }
    Ok(largest.map_or(base.max(from), |(_, offset)| offset))
}

#[cfg(test)]
mod tests;
