//! Reading record batches by offset.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, ShardId};
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
/// None for the whole: each partition has its own result.
pub(crate) async fn fetch(
    topic: &TopicInfo,
    shards: &BTreeMap<ShardId, Arc<Shard>>,
    request: &FetchRequest,
) -> Vec<FetchedPartition> {
    let deadline = Instant::now() + request.max_wait.min(MAX_FETCH_WAIT);
    let max_bytes = request.max_bytes.clamp(1, MAX_FETCH_BYTES);
    let mut watched = watch_shards(topic, shards, &request.partitions);
    loop {
        // Before the state is read, so that what is applied in between ends the wait.
        watched.iter_mut().for_each(|applied| _ = applied.borrow_and_update());
        let plans: Vec<Plan> =
            request.partitions.iter().map(|(p, offset)| Plan::new(topic, shards, *p, *offset, max_bytes)).collect();
        let answer_now = plans.iter().any(|plan| plan.slots.as_ref().map_or(true, |slots| !slots.is_empty()));
        if answer_now || !changed_before(&mut watched, deadline).await {
            return read(plans, max_bytes).await;
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

/// What is to be read of one partition.
struct Plan {
    partition: PartitionId,
    shard: Option<Arc<Shard>>,
    log_start: Offset,
    high_watermark: Offset,
    slots: Result<Vec<BatchSlot>, Error>,
}

impl Plan {
    fn new(
        topic: &TopicInfo,
        shards: &BTreeMap<ShardId, Arc<Shard>>,
        partition: PartitionId,
        offset: Offset,
        max_bytes: usize,
    ) -> Self {
        let shard = topic.shards.get(partition.0 as usize).and_then(|id| shards.get(id)).cloned();
        let mut plan =
            Self { partition, shard, log_start: Offset(0), high_watermark: Offset(0), slots: Ok(Vec::new()) };
        plan.slots = plan.locate(topic, offset, max_bytes);
        plan
    }

    fn locate(&mut self, topic: &TopicInfo, offset: Offset, max_bytes: usize) -> Result<Vec<BatchSlot>, Error> {
        let unknown = || {
            let message = format!(
                "topic `{}` has {} partitions, and no partition {}",
                topic.name, topic.partitions, self.partition
            );
            Error::new(Code::UnknownPartition, message)
        };
        let shard = self.shard.clone().ok_or_else(unknown)?;
        shard.read(|state| {
            let gone = || Error::new(Code::UnknownTopic, format!("topic `{}` was deleted", topic.name));
            let partition = state.partition(topic.id, self.partition).ok_or_else(gone)?;
            (self.log_start, self.high_watermark) = (partition.log_start(), partition.high_watermark());
            if offset < self.log_start || offset > self.high_watermark {
                return Err(out_of_range(topic, self, offset));
            }
            let mut bytes = 0;
            let within = |slot: &&BatchSlot| {
                let first = bytes == 0;
                bytes += slot.len as usize;
                first || bytes <= max_bytes
            };
            Ok(partition.batches_from(offset).take_while(within).copied().collect())
        })
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
    let mut fetched = Vec::with_capacity(plans.len());
    for (plan, count) in plans.drain(..).zip(counts) {
        let result = match (plan.slots, plan.shard) {
            (Ok(mut slots), Some(shard)) => {
                slots.truncate(count);
                read_batches(shard, slots, plan.high_watermark).await
            }
            (slots, _) => slots.map(|_| Vec::new()),
        };
        fetched.push(FetchedPartition {
            partition: plan.partition,
            log_start: plan.log_start,
            high_watermark: plan.high_watermark,
            result,
        });
    }
    fetched
}

/// From memory if all of it is there, else on a blocking thread.
async fn read_batches(
    shard: Arc<Shard>,
    slots: Vec<BatchSlot>,
    high_watermark: Offset,
) -> Result<Vec<FetchedBatch>, Error> {
    assert!(
        slots.iter().all(|slot| slot.next_offset() <= high_watermark),
        "L3: a fetch does not read above the high watermark"
    );
    let cached: Option<Result<Vec<_>, Error>> = slots.iter().map(|slot| shard.cached_batch(slot)).collect();
    let batches = match cached {
        Some(cached) => cached?,
        None => {
            let (shard, slots) = (Arc::clone(&shard), slots.clone());
            let read = tokio::task::spawn_blocking(move || shard.batches(&slots));
            read.await
                .map_err(|error| Error::new(Code::Internal, format!("a read of the log ended early: {error}")))??
        }
    };
    let patched = slots.iter().zip(&batches).map(|(slot, batch)| {
        let (header, body) = batch.patched(slot.base_offset, shard.leader_epoch(slot.index));
        FetchedBatch { header, body }
    });
    Ok(patched.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_share_the_bytes_of_an_answer() {
        assert_eq!(allot(&[vec![10, 10, 10], vec![10], vec![]], 30), [2, 1, 0]);
        assert_eq!(allot(&[vec![100], vec![5]], 20), [1, 0]);
        assert_eq!(allot(&[vec![5], vec![100], vec![5]], 20), [1, 0, 1]);
        assert_eq!(allot(&[], 20), Vec::<usize>::new());
    }
}
