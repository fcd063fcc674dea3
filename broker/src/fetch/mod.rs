//! Reading record batches by offset, and waiting until there are some.
//!
//! A fetch is planned under the state locks, partition by partition ([`plan`]), and read outside of them ([`read`]).
//! Without anything to read it waits in the lists of its shards ([`wait`]), without a thread or a timer of its own.

mod deadlines;
mod plan;
mod read;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stratalog_proto::batch::Batches;
use stratalog_proto::{Code, Error, Offset, PartitionId, ShardId};
use stratalog_query::TopicInfo;

use crate::shard::{MAX_MOVES, Shard};
use crate::shards::Shards;
pub(crate) use deadlines::Deadlines;
use plan::{Plan, plan};
use read::read;
use wait::Wait;

/// The most bytes of one answer, whatever was asked for.
pub(crate) const MAX_FETCH_BYTES: usize = 64 << 20;
/// The longest that a fetch waits.
pub(crate) const MAX_FETCH_WAIT: Duration = Duration::from_secs(60);

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
    /// Who answers.
    pub from: ReadFrom,
}

/// Who answers a fetch. A replica answers up to what it has applied (L3); what it cannot answer, the leader does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// Whoever leads.
    #[default]
    Leader,
    /// The replica of the node that is asked, if it has one.
    Replica,
    /// A replica in the zone of the node that is asked, of that node or of another one, which is up to date but for a moment.
    Zone,
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
    /// Whole batches, ascending and without gaps; the first may begin below the offset that was asked for.
    pub result: Result<Vec<FetchedBatches>, Error>,
}

/// One or more record batches as they were produced, back to back, with their places in the log: base offsets and leader
/// epochs are filled in. The bytes are those of `head`, then those of `body`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedBatches {
    /// The header of a batch from the write-ahead log, which lies there without its place; else empty.
    pub head: Bytes,
    /// The rest, as it lies on the disk.
    pub body: Bytes,
}

impl FetchedBatches {
    /// Bytes of all the batches.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Batch by batch: slices, or one copy where the header is apart.
    pub fn batches(&self) -> Batches {
        if self.head.is_empty() {
            return Batches::new(self.body.clone());
        }
        Batches::new([&self.head[..], &self.body[..]].concat().into())
    }
}

/// Fetches from one topic.
///
/// # Errors
/// [`Code::InvalidRequest`] if a partition is named twice. Else each partition has its own result.
pub(crate) async fn fetch(
    topic: &TopicInfo,
    shards: &Shards,
    deadlines: &Deadlines,
    request: &FetchRequest,
) -> Result<Vec<FetchedPartition>, Error> {
    refuse_repeated(&request.partitions)?;
    let deadline = Instant::now() + request.max_wait.min(MAX_FETCH_WAIT);
    let max_bytes = request.max_bytes.clamp(1, MAX_FETCH_BYTES);
    let (mut wait, mut moves) = (None, 0);
    loop {
        let plans = plan(topic, shards, &request.partitions, max_bytes);
        if plans.iter().any(Plan::has_answer) {
            let answer = read(plans, max_bytes).await?;
            if !answer.moved || moves == MAX_MOVES {
                return Ok(answer.partitions);
            }
            moves += 1;
            continue;
        }
        if Instant::now() >= deadline {
            return Ok(read(plans, max_bytes).await?.partitions);
        }
        match &wait {
            // Listed first, and then looked again: what is appended in between ends the wait.
            None => {
                let partitions = by_shard(topic, shards, &request.partitions);
                wait = Some(Wait::begin(topic.id, partitions, deadlines, deadline));
            }
            Some(wait) if wait.appended().await => {}
            Some(_) => return Ok(read(plans, max_bytes).await?.partitions),
        }
    }
}

pub(crate) fn refuse_repeated(partitions: &[(PartitionId, Offset)]) -> Result<(), Error> {
    let mut named = BTreeSet::new();
    match partitions.iter().find(|(partition, _)| !named.insert(*partition)) {
        None => Ok(()),
        Some((partition, _)) => {
            let message = format!("a fetch names each partition once, and this one names {partition} again");
            Err(Error::new(Code::InvalidRequest, message))
        }
    }
}

/// The partitions of a fetch by their shards.
fn by_shard(
    topic: &TopicInfo,
    shards: &Shards,
    partitions: &[(PartitionId, Offset)],
) -> Vec<(Arc<Shard>, Vec<PartitionId>)> {
    let mut by_shard: BTreeMap<ShardId, (Arc<Shard>, Vec<PartitionId>)> = BTreeMap::new();
    for (partition, _) in partitions {
        let Some(id) = topic.shards.get(partition.0 as usize) else { continue };
        let Some(shard) = shards.get(*id) else { continue };
        by_shard.entry(*id).or_insert_with(|| (shard, Vec::new())).1.push(*partition);
    }
    by_shard.into_values().collect()
}

#[cfg(test)]
mod tests;
