//! The pure plans.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::{Offset, PartitionId, RaftIndex, SegmentId, ShardId, TenantId, TimeBucket, TopicId};
use stratalog_query::TopicInfo;
use stratalog_storage::{OffsetRange, RecMeta, RecRange, RecTopicMeta, SegmentKind, SegmentMeta};

use super::super::plan::{Plan, due, ends_before};
use crate::rows::extent::{Begin, Extent};

const HOUR: i64 = 3_600_000_000_000;
const HERE: ShardId = ShardId(1);

fn segment(bucket_start_ns: i64, max_ingested_ns: i64, bytes: u64) -> Arc<SegmentMeta> {
    let bucket = TimeBucket::of(bucket_start_ns, HOUR);
    Arc::new(SegmentMeta {
        id: SegmentId::new(),
        topic: TopicId::new(),
        kind: SegmentKind::Column,
        bucket,
        min_time_ns: bucket.start_ns,
        max_time_ns: bucket.start_ns,
        max_ingested_ns,
        rows: 1,
        dead_rows: 0,
        bytes,
        ranges: vec![OffsetRange { partition: PartitionId(0), first: Offset(0), next: Offset(1) }],
        blake3: [0; 32],
        analyzer_version: 1,
    })
}

/// A replay segment with the offsets `first..next` of partition 0, 100 bytes; `entry_ns` 0 if it does not say.
fn rec(topic: TopicId, first: u64, next: u64, entry_ns: i64, timestamp_ms: i64) -> Arc<RecMeta> {
    let range = RecRange {
        partition: PartitionId(0),
        first: Offset(first),
        next: Offset(next),
        bytes: 100,
        max_timestamp_ms: timestamp_ms,
    };
    Arc::new(RecMeta {
        id: SegmentId::new(),
        after: RaftIndex(first),
        through: RaftIndex(next),
        bytes: 200,
        blake3: [0; 32],
        topics: vec![RecTopicMeta { topic, ranges: vec![range] }],
        max_entry_time_ns: entry_ns,
    })
}

/// A topic of which half of the partitions are here.
fn topic(config: TopicConfig) -> TopicInfo {
    let shards = vec![HERE, ShardId(2), HERE, ShardId(2)];
    TopicInfo { id: TopicId::new(), tenant: TenantId(0), name: "t".to_owned(), partitions: 4, config, shards }
}

fn kept_for(retention_ns: i64) -> TopicInfo {
    topic(TopicConfig { retention_ns: Some(retention_ns as u64), ..TopicConfig::default() })
}

fn of(segments: &[Arc<SegmentMeta>]) -> Extent {
    Extent { segments: segments.to_vec(), ..Extent::default() }
}

fn has(plan: &Plan, segment: &SegmentMeta) -> bool {
    plan.segments.iter().any(|meta| meta.id == segment.id)
}

#[test]
fn segments_expire_by_bucket_end_and_ingest_time() {
    let now = 100 * HOUR;
    let cases = [
        ("both old", 89 * HOUR, 90 * HOUR, true),
        ("bucket ends one tick too late", 89 * HOUR + HOUR, 90 * HOUR, false),
        ("ingested one tick too late", 89 * HOUR, 90 * HOUR + 1, false),
        ("old events that came just now stay", 0, now, false),
        ("events from the future that came just now stay", 200 * HOUR, now, false),
        ("events from the future that came less than a bucket before stay", 200 * HOUR, 89 * HOUR + 1, false),
        ("events from the future that came long ago are as old as that", 200 * HOUR, 89 * HOUR, true),
    ];
    for (name, bucket, ingested, expected) in cases {
        let plan = due(&kept_for(10 * HOUR), HERE, &of(&[segment(bucket, ingested, 1)]), now);
        assert_eq!(!plan.segments.is_empty(), expected, "{name}");
    }
}

#[test]
fn what_is_more_than_the_share_goes_oldest_bucket_first_and_the_newest_stays() {
    let limited = |bytes| topic(TopicConfig { retention_bytes: Some(bytes), ..TopicConfig::default() });
    let [old, early, late, future] = [(1, 9, 40), (2, 5, 40), (2, 6, 40), (900, 3, 40)]
        .map(|(bucket, ingested, bytes)| segment(bucket * HOUR, ingested * HOUR, bytes));
    let all = of(&[late.clone(), future.clone(), early.clone(), old.clone()]);
    let gone = |bytes: u64| {
        let plan = due(&limited(bytes), HERE, &all, 10 * HOUR);
        [&old, &early, &late, &future].map(|segment| has(&plan, segment))
    };
    // Half of the bytes are for the partitions of this shard. An event from the future counts from when it came.
    assert_eq!(gone(320), [false, false, false, false]);
    assert_eq!(gone(319), [true, false, false, false]);
    assert_eq!(gone(160), [true, true, false, false]);
    assert_eq!(gone(159), [true, true, true, false]);
    assert_eq!(gone(0), [true, true, true, false]);
    assert_eq!(due(&limited(0), HERE, &Extent::default(), 0), Plan::default());
}

#[test]
fn what_expired_does_not_count_against_the_bytes() {
    let config =
        TopicConfig { retention_ns: Some(10 * HOUR as u64), retention_bytes: Some(160), ..TopicConfig::default() };
    let segments = [segment(HOUR, HOUR, 1_000), segment(95 * HOUR, 95 * HOUR, 40), segment(96 * HOUR, 96 * HOUR, 40)];
    let plan = due(&topic(config), HERE, &of(&segments), 100 * HOUR);
    assert_eq!(segments.each_ref().map(|segment| has(&plan, segment)), [true, false, false]);
}

fn raw(retention_ns: Option<i64>, retention_bytes: Option<u64>) -> TopicInfo {
    let retention_ns = retention_ns.map(|retention_ns| retention_ns as u64);
    topic(TopicConfig { format: Format::Raw, retention_ns, retention_bytes, ..TopicConfig::default() })
}

fn before(plan: &Plan) -> Option<u64> {
    assert!(plan.segments.is_empty() && plan.before.len() <= 1);
    plan.before.get(&PartitionId(0)).map(|offset| offset.0)
}

/// What is told, the times of replay segments as (came, claimed), and below which offset records go.
type Case = (&'static str, Vec<(i64, i64)>, Option<u64>);

#[test]
fn records_of_a_raw_topic_go_by_when_they_came() {
    let topic = raw(Some(10 * HOUR), None);
    let now = 100 * HOUR;
    let timestamp = |hour: i64| hour * HOUR / 1_000_000;
    let cases: [Case; 8] = [
        ("nothing there", vec![], None),
        ("old and young", vec![(80 * HOUR, 0), (90 * HOUR, 0), (90 * HOUR + 1, 0), (95 * HOUR, 0)], Some(20)),
        ("all old", vec![(80 * HOUR, timestamp(500)), (90 * HOUR, 0)], Some(20)),
        ("young records with old timestamps stay", vec![(95 * HOUR, timestamp(1))], None),
        ("unknown, before one that is old", vec![(0, timestamp(500)), (90 * HOUR, 0)], Some(20)),
        ("unknown, with old timestamps", vec![(80 * HOUR, 0), (0, timestamp(90)), (95 * HOUR, 0)], Some(20)),
        ("unknown, with young timestamps", vec![(0, timestamp(91)), (0, timestamp(1))], None),
        ("unknown, without timestamps", vec![(0, -1), (0, timestamp(1))], None),
    ];
    for (name, recs, expected) in cases {
        let recs =
            (0..).step_by(10).zip(recs).map(|(first, (at, claimed))| rec(topic.id, first, first + 10, at, claimed));
        let extent = Extent { recs: recs.collect(), ..Extent::default() };
        assert_eq!(before(&due(&topic, HERE, &extent, now)), expected, "{name}");
    }
}

#[test]
fn records_of_a_raw_topic_go_by_bytes_and_the_newest_segment_stays() {
    let at = |bytes| {
        let topic = raw(None, Some(bytes));
        let recs = (0..40).step_by(10).map(|first| rec(topic.id, first, first + 10, 1, 0)).collect();
        before(&due(&topic, HERE, &Extent { recs, ..Extent::default() }, 0))
    };
    assert_eq!([800, 799, 400, 0].map(at), [None, Some(10), Some(20), Some(30)]);
}

#[test]
fn what_log_start_has_passed_is_not_asked_for_again() {
    let topic = raw(Some(10 * HOUR), Some(400));
    let recs = vec![rec(topic.id, 0, 10, HOUR, 0), rec(topic.id, 10, 20, HOUR, 0), rec(topic.id, 20, 30, 95 * HOUR, 0)];
    let at = |log_start| {
        let begin = Begin { log_start: Offset(log_start), sealed: Offset(0) };
        let extent =
            Extent { recs: recs.clone(), begins: BTreeMap::from([(PartitionId(0), begin)]), ..Extent::default() };
        before(&due(&topic, HERE, &extent, 100 * HOUR))
    };
    assert_eq!([0, 5, 10, 15, 20].map(at), [Some(20), Some(20), Some(20), Some(20), None]);
}

proptest! {
    #[test]
    fn only_what_is_wholly_past_the_retention_expires(
        times in proptest::collection::vec((0..1_000 * HOUR, 0..1_000 * HOUR), 0..20),
        retention in 1..i64::MAX,
        now in 0..i64::MAX,
    ) {
        let segments: Vec<_> = times.into_iter().map(|(bucket, ingested)| segment(bucket, ingested, 1)).collect();
        let plan = due(&kept_for(retention), HERE, &of(&segments), now);
        for meta in &segments {
            let young = |time: i64| i128::from(now) - i128::from(time) < i128::from(retention);
            let is_future = meta.bucket.end_ns > meta.max_ingested_ns + HOUR;
            let end_ns = if is_future { meta.max_ingested_ns + HOUR } else { meta.bucket.end_ns };
            prop_assert_eq!(has(&plan, meta), !young(end_ns) && !young(meta.max_ingested_ns));
        }
    }

    #[test]
    fn what_expired_stays_expired(
        bucket in 0..1_000 * HOUR, ingested in 0..1_000 * HOUR,
        retention in 1..i64::MAX, now in 0..i64::MAX / 2, later in 0..i64::MAX / 2,
    ) {
        let segments = of(&[segment(bucket, ingested, 1)]);
        if !due(&kept_for(retention), HERE, &segments, now).segments.is_empty() {
            prop_assert_eq!(due(&kept_for(retention), HERE, &segments, now + later).segments.len(), 1);
        }
    }

    #[test]
    fn a_topic_is_brought_within_its_bytes_and_not_further(
        segments in proptest::collection::vec((0..50 * HOUR, 0..50 * HOUR, 1..1_000_u64), 1..20),
        limit in 0..20_000_u64,
    ) {
        let segments: Vec<_> = segments.into_iter().map(|(b, i, bytes)| segment(b, i, bytes)).collect();
        let topic = topic(TopicConfig { retention_bytes: Some(limit), ..TopicConfig::default() });
        let plan = due(&topic, HERE, &of(&segments), 0);
        let kept: Vec<_> = segments.iter().filter(|segment| !has(&plan, segment)).collect();
        let bytes: u64 = kept.iter().map(|segment| segment.bytes).sum();
        prop_assert!(!kept.is_empty() && (bytes <= limit / 2 || kept.len() == 1));
        if let Some(last) = plan.segments.last() {
            prop_assert!(bytes + last.bytes > limit / 2, "one less would not have been enough");
        }
    }

    #[test]
    fn drop_before_takes_no_row_at_or_after_the_time(bucket in 0..1_000 * HOUR, before in 0..1_000 * HOUR) {
        let plan = ends_before(&of(&[segment(bucket, 0, 1)]), before);
        prop_assert_eq!(plan.segments.len(), usize::from(TimeBucket::of(bucket, HOUR).end_ns <= before));
    }
}
