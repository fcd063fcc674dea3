//! Which segments and records are to go: pure plans over what a topic has in a shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use stratalog_proto::config::Format;
use stratalog_proto::entry::Command;
use stratalog_proto::{Offset, PartitionId, ShardId, TopicId, internal};
use stratalog_query::TopicInfo;
use stratalog_storage::{RecMeta, SegmentMeta};

use crate::rows::extent::Extent;

/// What of a topic in a shard is to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Column segments.
    pub(super) segments: Vec<Arc<SegmentMeta>>,
    /// The first offset to keep, of partitions whose records go without regard to segments.
    pub(super) before: BTreeMap<PartitionId, Offset>,
}

impl Plan {
    /// The commands that carry it out: at most one of each kind.
    pub(super) fn commands(&self, topic: TopicId) -> Vec<Command> {
        let topic = topic.to_bytes();
        let drop = (!self.segments.is_empty()).then(|| {
            let segments = self.segments.iter().map(|meta| meta.id.to_bytes()).collect();
            Command::Drop(internal::Drop { topic: topic.clone(), segments })
        });
        let of = |(partition, before): (&PartitionId, &Offset)| internal::PartitionCount {
            partition: partition.0,
            value: before.0,
        };
        let delete = (!self.before.is_empty()).then(|| {
            let before = self.before.iter().map(of).collect();
            Command::DeleteRecords(internal::DeleteRecords { topic: topic.clone(), before })
        });
        drop.into_iter().chain(delete).collect()
    }
}

/// What the settings of a topic say at `now_ns`, for one of its shards.
pub(super) fn due(topic: &TopicInfo, shard: ShardId, extent: &Extent, now_ns: i64) -> Plan {
    let config = &topic.config;
    let keep_from = config.retention_ns.map(|retention_ns| i128::from(now_ns) - i128::from(retention_ns));
    let share = config.retention_bytes.map(|bytes| share_of(bytes, topic, shard));
    if config.format == Format::Raw {
        return Plan { before: records_due(topic.id, extent, keep_from, share), ..Plan::default() };
    }
    let (mut gone, kept): (Vec<_>, Vec<_>) = extent
        .segments
        .iter()
        .cloned()
        .partition(|meta| keep_from.is_some_and(|keep_from| i128::from(expiry_ns(meta)) <= keep_from));
    gone.extend(share.map(|share| beyond(kept, share)).unwrap_or_default());
    Plan { segments: gone, ..Plan::default() }
}

/// The segments whose time bucket ends at or before a time.
pub(super) fn ends_before(extent: &Extent, before_ns: i64) -> Plan {
    let ends_before = |meta: &&Arc<SegmentMeta>| meta.bucket.end_ns <= before_ns;
    Plan { segments: extent.segments.iter().filter(ends_before).cloned().collect(), ..Plan::default() }
}

/// The time from which a segment's retention counts: when its bucket has ended *and* its newest row was ingested. A wrong
/// client clock can thus not delete what just came.
fn expiry_ns(meta: &SegmentMeta) -> i64 {
    bucket_end_ns(meta).max(meta.max_ingested_ns)
}

/// The end of a segment's time bucket. Of one from the future, the end of a bucket that begins when its newest row came:
/// a wrong client clock cannot keep rows for ever either, and with them the log from their offset on.
fn bucket_end_ns(meta: &SegmentMeta) -> i64 {
    let width_ns = meta.bucket.end_ns.saturating_sub(meta.bucket.start_ns);
    meta.bucket.end_ns.min(meta.max_ingested_ns.saturating_add(width_ns))
}

/// What of `retention.bytes` a shard may hold: as much as it has of the topic's partitions.
fn share_of(bytes: u64, topic: &TopicInfo, shard: ShardId) -> u64 {
    let here = topic.shards.iter().filter(|id| **id == shard).count() as u128;
    let share = u128::from(bytes) * here / topic.shards.len().max(1) as u128;
    u64::try_from(share).expect("a share is not more than the whole")
}

/// The segments that are too many for `share` bytes: oldest bucket first, and within one what came first. The newest
/// always stays, however large it is.
fn beyond(mut segments: Vec<Arc<SegmentMeta>>, share: u64) -> Vec<Arc<SegmentMeta>> {
    segments.sort_by_key(|meta| (bucket_end_ns(meta), meta.max_ingested_ns, meta.id));
    let count = too_many(segments.iter().map(|meta| meta.bytes), share);
    segments.truncate(count);
    segments
}

/// How many of the oldest have to go so that the rest takes at most `share` bytes; never all.
fn too_many(oldest_first: impl DoubleEndedIterator<Item = u64> + ExactSizeIterator, share: u64) -> usize {
    let (count, mut kept) = (oldest_first.len(), 0_u64);
    let fits = oldest_first.rev().take_while(|bytes| {
        kept = kept.saturating_add(*bytes);
        kept <= share
    });
    count - fits.count().max(1).min(count)
}

/// The records of a `raw` topic that came too long ago, or are too many: those of whole replay segments.
fn records_due(
    topic: TopicId,
    extent: &Extent,
    keep_from: Option<i128>,
    share: Option<u64>,
) -> BTreeMap<PartitionId, Offset> {
    let is_passed = |meta: &RecMeta| {
        meta.topic(topic).is_none_or(|of| of.ranges.iter().all(|range| range.next <= extent.log_start(range.partition)))
    };
    let live: Vec<&Arc<RecMeta>> = extent.recs.iter().filter(|meta| !is_passed(meta)).collect();
    let by_time = keep_from.map_or(0, |keep_from| too_old(topic, &live, keep_from));
    let bytes = |meta: &&Arc<RecMeta>| {
        meta.topic(topic).map_or(0, |of| of.ranges.iter().map(|range| range.bytes).fold(0, u64::saturating_add))
    };
    let by_bytes = share.map_or(0, |share| too_many(live.iter().map(bytes), share));
    let mut before = BTreeMap::new();
    for range in live[..by_time.max(by_bytes)].iter().filter_map(|meta| meta.topic(topic)).flat_map(|of| &of.ranges) {
        before.insert(range.partition, range.next);
    }
    before
}

/// How many of the oldest replay segments hold only records from before `keep_from`. The times of entries ascend, so that
/// all before one that is too old are, too; of a segment of before they were kept, its records' own timestamps tell.
fn too_old(topic: TopicId, recs: &[&Arc<RecMeta>], keep_from: i128) -> usize {
    let is_old = |time_ns: Option<i128>| time_ns.is_some_and(|time_ns| time_ns <= keep_from);
    let known = recs.iter().rposition(|meta| is_old(entry_time_ns(meta))).map_or(0, |last| last + 1);
    let unknown =
        recs[known..].iter().take_while(|meta| entry_time_ns(meta).is_none() && is_old(claimed_ns(topic, meta)));
    known + unknown.count()
}

/// When the newest batch of a replay segment came, if it says so.
fn entry_time_ns(meta: &RecMeta) -> Option<i128> {
    (meta.max_entry_time_ns > 0).then_some(i128::from(meta.max_entry_time_ns))
}

/// The newest record timestamp that the topic's batches in a segment claim.
fn claimed_ns(topic: TopicId, meta: &RecMeta) -> Option<i128> {
    let newest = meta.topic(topic)?.ranges.iter().map(|range| range.max_timestamp_ms).max()?;
    (newest >= 0).then_some(i128::from(newest) * 1_000_000)
}
