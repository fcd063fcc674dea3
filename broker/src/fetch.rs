//! Reading record batches by offset.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stratalog_proto::batch::Batch;
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, ShardId, TopicId};
use stratalog_query::TopicInfo;
use tokio::sync::watch;

use crate::shard::{BatchSlot, Shard};

/// The most bytes of one answer, whatever was asked for.
const MAX_FETCH_BYTES: usize = 64 << 20;
/// The longest that a fetch waits.
const MAX_FETCH_WAIT: Duration = Duration::from_secs(60);

/// What to read.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The topic.
    pub topic: String,
    /// Each partition with the first offset wanted.
    pub partitions: Vec<(PartitionId, Offset)>,
    /// Bytes of the answer. A single batch may be larger: the first is always there.
    pub max_bytes: usize,
    /// How long to wait until there is something.
    pub max_wait: Duration,
}

/// What one partition answers.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: PartitionId,
    /// The lowest offset that can be read.
    pub log_start: Offset,
    /// One past the highest offset that can be read (L3).
    pub high_watermark: Offset,
    /// Whole batches, ascending; the first may begin below the offset that was asked for.
    pub result: Result<Vec<FetchedBatch>, Error>,
}

/// A record batch as it was produced, with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedBatch {
    /// The 61 bytes of the batch's header, base offset and leader epoch filled in.
    pub header: Bytes,
    /// All that follows the header, as it lies in the log.
    pub body: Bytes,
}

/// Fetches from one topic.
///
/// # Errors
/// [`Code::InvalidRequest`] if a partition is named twice. Else each partition has its own result.
pub(crate) async fn fetch(
    topic: &TopicInfo,
    shards: &BTreeMap<ShardId, Arc<Shard>>,
    request: &FetchRequest,
) -> Result<Vec<FetchedPartition>, Error> {
    refuse_repeated(&request.partitions)?;
    let deadline = Instant::now() + request.max_wait.min(MAX_FETCH_WAIT);
    let max_bytes = request.max_bytes.clamp(1, MAX_FETCH_BYTES);
    let mut watched = watch_shards(topic, shards, &request.partitions);
    loop {
        // Before the state is read, so that what is applied in between ends the wait.
        watched.iter_mut().for_each(|applied| _ = applied.borrow_and_update());
        let plans = plan(topic, shards, &request.partitions, max_bytes);
        let answer_now = plans.iter().any(|plan| plan.slots.as_ref().map_or(true, |slots| !slots.is_empty()));
        if answer_now || !changed_before(&mut watched, deadline).await {
            return Ok(read(plans, max_bytes).await);
        }
    }
}

fn refuse_repeated(partitions: &[(PartitionId, Offset)]) -> Result<(), Error> {
    let mut named = BTreeSet::new();
    match partitions.iter().find(|(partition, _)| !named.insert(*partition)) {
        None => Ok(()),
        Some((partition, _)) => {
            let message = format!("a fetch names each partition once, and this one names {partition} again");
            Err(Error::new(Code::InvalidRequest, message))
        }
    }
}

fn watch_shards(
    topic: &TopicInfo,
    shards: &BTreeMap<ShardId, Arc<Shard>>,
    partitions: &[(PartitionId, Offset)],
) -> Vec<watch::Receiver<RaftIndex>> {
    let mut ids: Vec<&ShardId> = partitions.iter().filter_map(|(p, _)| topic.shards.get(p.0 as usize)).collect();
    ids.sort();
    ids.dedup();
    ids.into_iter().filter_map(|id| shards.get(id)).map(|shard| shard.watch_applied()).collect()
}

/// Whether one of the shards applied something before the deadline.
async fn changed_before(watched: &mut [watch::Receiver<RaftIndex>], deadline: Instant) -> bool {
    if watched.is_empty() {
        return false;
    }
    let changes = watched.iter_mut().map(|applied| Box::pin(applied.changed()));
    let changed = tokio::time::timeout_at(deadline.into(), futures::future::select_all(changes)).await;
    matches!(changed, Ok((Ok(()), _, _)))
}

/// What to read of each partition: together about `max_bytes`, and at least one batch of each that has one. What a
/// partition leaves of its share is shared out again among those that have more.
fn plan(
    topic: &TopicInfo,
    shards: &BTreeMap<ShardId, Arc<Shard>>,
    wanted: &[(PartitionId, Offset)],
    max_bytes: usize,
) -> Vec<Plan> {
    let mut plans: Vec<Plan> = wanted.iter().map(|(p, offset)| Plan::new(topic, shards, *p, *offset)).collect();
    let mut open: Vec<&mut Plan> = plans.iter_mut().collect();
    let mut rest = max_bytes;
    while rest > 0 && !open.is_empty() {
        let share = rest / open.len();
        open.retain_mut(|plan| {
            let added = plan.extend(topic.id, share, rest);
            rest = rest.saturating_sub(added);
            added > 0
        });
    }
    plans
}

/// What is to be read of one partition.
struct Plan {
    partition: PartitionId,
    shard: Option<Arc<Shard>>,
    log_start: Offset,
    high_watermark: Offset,
    /// The offset to go on from.
    next: Offset,
    slots: Result<Vec<BatchSlot>, Error>,
}

impl Plan {
    /// Nothing yet, or why nothing can be read.
    fn new(topic: &TopicInfo, shards: &BTreeMap<ShardId, Arc<Shard>>, partition: PartitionId, next: Offset) -> Self {
        let shard = topic.shards.get(partition.0 as usize).and_then(|id| shards.get(id)).cloned();
        let zero = Offset(0);
        let mut plan = Self { partition, shard, log_start: zero, high_watermark: zero, next, slots: Ok(Vec::new()) };
        if let Err(error) = plan.locate(topic) {
            plan.slots = Err(error);
        }
        plan
    }

    fn locate(&mut self, topic: &TopicInfo) -> Result<(), Error> {
        let unknown = || {
            let message = format!(
                "topic `{}` has {} partitions, and no partition {}",
                topic.name, topic.partitions, self.partition
            );
            Error::new(Code::UnknownPartition, message)
        };
        let shard = self.shard.clone().ok_or_else(unknown)?;
        let ends = shard.read(|state| {
            state.partition(topic.id, self.partition).map(|found| (found.log_start(), found.high_watermark()))
        });
        let gone = || Error::new(Code::UnknownTopic, format!("topic `{}` was deleted", topic.name));
        (self.log_start, self.high_watermark) = ends.ok_or_else(gone)?;
        if self.next < self.log_start || self.next > self.high_watermark {
            return Err(out_of_range(topic, self, self.next));
        }
        Ok(())
    }

    /// Adds batches of up to `share` bytes, or one that fits `rest`; the first of all is always added. The bytes that were
    /// added.
    fn extend(&mut self, topic: TopicId, share: usize, rest: usize) -> usize {
        let (Ok(slots), Some(shard)) = (&mut self.slots, &self.shard) else { return 0 };
        if self.next >= self.high_watermark {
            return 0;
        }
        let mut bytes = 0;
        shard.read(|state| {
            let Some(partition) = state.partition(topic, self.partition) else { return };
            for slot in partition.batches_from(self.next) {
                // Log start may have moved since the last look: an answer has no holes.
                let follows = slots.last().is_none_or(|last| last.next_offset() == slot.base_offset);
                let limit = if bytes == 0 { rest } else { share };
                let fits = slots.is_empty() || bytes + slot.len as usize <= limit;
                if !follows || !fits || slot.next_offset() > self.high_watermark {
                    break;
                }
                bytes += slot.len as usize;
                self.next = slot.next_offset();
                slots.push(*slot);
            }
        });
        bytes
    }
}

fn out_of_range(topic: &TopicInfo, plan: &Plan, offset: Offset) -> Error {
    let message = format!(
        "offset {offset} of partition {} of `{}` cannot be read: it holds offsets {} to {}",
        plan.partition, topic.name, plan.log_start, plan.high_watermark
    );
    Error::new(Code::OffsetOutOfRange, message)
}

/// How many batches of each partition fit: one of each in turn, so that a full partition does not starve the others. The
/// first batch of all is always taken.
fn allot(lengths: &[Vec<usize>], max_bytes: usize) -> Vec<usize> {
    let mut counts = vec![0; lengths.len()];
    let mut open: Vec<usize> = (0..lengths.len()).collect();
    let mut bytes = 0;
    while !open.is_empty() {
        open.retain(|&at| {
            let next = lengths[at].get(counts[at]).filter(|len| bytes == 0 || bytes + **len <= max_bytes);
            let Some(len) = next else { return false };
            bytes += len;
            counts[at] += 1;
            true
        });
    }
    counts
}

async fn read(mut plans: Vec<Plan>, max_bytes: usize) -> Vec<FetchedPartition> {
    let lengths = |plan: &Plan| plan.slots.iter().flatten().map(|slot| slot.len as usize).collect();
    let counts = allot(&plans.iter().map(lengths).collect::<Vec<_>>(), max_bytes);
    for (plan, count) in plans.iter_mut().zip(counts) {
        plan.slots.iter_mut().for_each(|slots| slots.truncate(count));
    }
    let mut batches: Vec<Result<Vec<FetchedBatch>, Error>> = plans.iter().map(|_| Ok(Vec::new())).collect();
    for (shard, wanted) in by_shard(&plans) {
        let slots = wanted.iter().map(|(slot, _)| *slot).collect();
        for ((_, at), read) in wanted.iter().zip(read_batches(shard, slots).await) {
            match (&mut batches[*at], read) {
                (Ok(batches), Ok(batch)) => batches.push(batch),
                (failed @ Ok(_), Err(error)) => *failed = Err(error),
                (Err(_), _) => {}
            }
        }
    }
    let answered = plans.into_iter().zip(batches).map(|(plan, batches)| FetchedPartition {
        partition: plan.partition,
        log_start: plan.log_start,
        high_watermark: plan.high_watermark,
        result: plan.slots.and(batches),
    });
    answered.collect()
}

/// Batches to read, each with the place of its plan.
type Wanted = Vec<(BatchSlot, usize)>;

/// The planned batches of each shard, in the order of its log.
fn by_shard(plans: &[Plan]) -> Vec<(Arc<Shard>, Wanted)> {
    let mut shards: BTreeMap<ShardId, (Arc<Shard>, Wanted)> = BTreeMap::new();
    for (at, plan) in plans.iter().enumerate() {
        let (Ok(slots), Some(shard)) = (&plan.slots, &plan.shard) else { continue };
        assert!(
            slots.iter().all(|slot| slot.next_offset() <= plan.high_watermark),
            "L3: a fetch does not read above the high watermark"
        );
        let (_, wanted) = shards.entry(shard.id()).or_insert_with(|| (Arc::clone(shard), Vec::new()));
        wanted.extend(slots.iter().map(|slot| (*slot, at)));
    }
    let mut shards: Vec<_> = shards.into_values().filter(|(_, wanted)| !wanted.is_empty()).collect();
    shards.iter_mut().for_each(|(_, wanted)| wanted.sort_unstable_by_key(|(slot, _)| (slot.index, slot.at)));
    shards
}

/// From memory if all of it is there, else on a blocking thread.
async fn read_batches(shard: Arc<Shard>, slots: Vec<BatchSlot>) -> Vec<Result<FetchedBatch, Error>> {
    let cached: Option<Vec<_>> = slots.iter().map(|slot| shard.cached_batch(slot)).collect();
    let batches = match cached {
        Some(cached) => cached,
        None => {
            let (reader, wanted) = (Arc::clone(&shard), slots.clone());
            let read = tokio::task::spawn_blocking(move || reader.batches(&wanted)).await;
            let ended = |error| Error::new(Code::Internal, format!("a read of the log ended early: {error}"));
            read.unwrap_or_else(|error| vec![Err(ended(error)); slots.len()])
        }
    };
    let patched = |(slot, batch): (&BatchSlot, Result<Batch, Error>)| {
        let (header, body) = batch?.patched(slot.base_offset, shard.leader_epoch(slot.index));
        Ok(FetchedBatch { header, body })
    };
    slots.iter().zip(batches).map(patched).collect()
}

#[cfg(test)]
mod tests;
