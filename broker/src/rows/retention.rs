//! Which segments are to go: pure plans over a manifest.

use std::sync::Arc;

use stratalog_storage::SegmentMeta;

/// The segments whose rows are all past the retention: the end of their time bucket *and* their newest ingest time are
/// at least that old. A wrong client clock can thus neither delete fresh rows nor keep old ones for ever.
pub(super) fn expired<'a>(
    segments: impl IntoIterator<Item = &'a Arc<SegmentMeta>>,
    retention_ns: u64,
    now_ns: i64,
) -> Vec<Arc<SegmentMeta>> {
    let keep_from = i128::from(now_ns) - i128::from(retention_ns);
    let is_old = |time_ns: i64| i128::from(time_ns) <= keep_from;
    let expired = segments.into_iter().filter(|meta| is_old(meta.bucket.end_ns) && is_old(meta.max_ingested_ns));
    expired.cloned().collect()
}

/// The segments whose time bucket ends at or before a time.
pub(super) fn ends_before<'a>(
    segments: impl IntoIterator<Item = &'a Arc<SegmentMeta>>,
    before_ns: i64,
) -> Vec<Arc<SegmentMeta>> {
    segments.into_iter().filter(|meta| meta.bucket.end_ns <= before_ns).cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stratalog_proto::{Offset, PartitionId, SegmentId, TimeBucket, TopicId};
    use stratalog_storage::{OffsetRange, SegmentKind};

    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn segment(bucket_start_ns: i64, max_ingested_ns: i64) -> Arc<SegmentMeta> {
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
            bytes: 1,
            ranges: vec![OffsetRange { partition: PartitionId(0), first: Offset(0), next: Offset(1) }],
            blake3: [0; 32],
            analyzer_version: 1,
        })
    }

    #[test]
    fn segments_expire_by_bucket_end_and_ingest_time() {
        let now = 100 * HOUR;
        let retention = 10 * HOUR as u64;
        let cases = [
            ("both old", 89 * HOUR, 90 * HOUR, true),
            ("bucket ends one tick too late", 89 * HOUR + HOUR, 90 * HOUR, false),
            ("ingested one tick too late", 89 * HOUR, 90 * HOUR + 1, false),
            ("old events that came just now stay", 0, now, false),
            ("events from the future that came long ago stay until their time", 200 * HOUR, HOUR, false),
        ];
        for (name, bucket, ingested, expected) in cases {
            let plan = expired(&[segment(bucket, ingested)], retention, now);
            assert_eq!(!plan.is_empty(), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn only_what_is_wholly_past_the_retention_expires(
            times in proptest::collection::vec((0..1_000 * HOUR, 0..1_000 * HOUR), 0..20),
            retention in 1..u64::MAX,
            now in 0..i64::MAX,
        ) {
            let segments: Vec<_> = times.into_iter().map(|(bucket, ingested)| segment(bucket, ingested)).collect();
            let plan = expired(&segments, retention, now);
            for meta in &segments {
                let young = |time: i64| i128::from(now) - i128::from(time) < i128::from(retention);
                let expected = !young(meta.bucket.end_ns) && !young(meta.max_ingested_ns);
                prop_assert_eq!(plan.iter().any(|m| m.id == meta.id), expected);
            }
        }

        #[test]
        fn what_expired_stays_expired(
            bucket in 0..1_000 * HOUR, ingested in 0..1_000 * HOUR,
            retention in 1..u64::MAX, now in 0..i64::MAX / 2, later in 0..i64::MAX / 2,
        ) {
            let segments = [segment(bucket, ingested)];
            if !expired(&segments, retention, now).is_empty() {
                prop_assert_eq!(expired(&segments, retention, now + later).len(), 1);
            }
        }

        #[test]
        fn drop_before_takes_no_row_at_or_after_the_time(bucket in 0..1_000 * HOUR, before in 0..1_000 * HOUR) {
            let plan = ends_before(&[segment(bucket, 0)], before);
            prop_assert_eq!(plan.len(), usize::from(TimeBucket::of(bucket, HOUR).end_ns <= before));
        }
    }
}
