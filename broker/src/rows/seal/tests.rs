//! Grouping and building, without a log.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::TimestampNanosecondType;
use bytes::Bytes;
use proptest::prelude::*;
use stratalog_proto::config::TopicConfig;
use stratalog_proto::{Offset, PartitionId, RaftIndex, ShardId, TopicId};
use stratalog_query::TailChunk;
use stratalog_storage::col::ColReader;
use stratalog_storage::{RealDisk, SegmentKind};

use super::group::{MAX_BUCKETS, group};
use super::{Job, build};
use crate::rows::parse::parse;
use crate::rows::testing::batch_of;
use crate::shard::AppliedBatch;

const HOUR: i64 = 3_600_000_000_000;

fn chunks(batches: &[Vec<String>]) -> Vec<Arc<TailChunk>> {
    let config = TopicConfig { time_field: Some("ts".to_owned()), ..TopicConfig::default() };
    let mut offset = 0;
    let mut chunks = Vec::new();
    for (number, values) in batches.iter().enumerate() {
        let batch: Bytes = batch_of(&values.iter().map(String::as_str).collect::<Vec<_>>());
        let applied = AppliedBatch {
            index: RaftIndex(number as u64 + 1),
            topic: TopicId::new(),
            partition: PartitionId(0),
            base_offset: Offset(offset),
            entry_time_ns: 0,
            batch,
        };
        offset += values.len() as u64;
        chunks.extend(parse(&config, [&applied]).chunks.into_iter().map(Arc::new));
    }
    chunks
}

fn job(dir: &std::path::Path, chunks: Vec<Arc<TailChunk>>) -> Job {
    Job {
        io: Arc::new(RealDisk),
        dir: dir.to_owned(),
        shard: ShardId(1),
        topic: TopicId::new(),
        bucket_ns: HOUR as u64,
        index_budget_bytes: 64 << 20,
        chunks,
    }
}

fn value(time_ns: i64, rest: &str) -> String {
    format!(r#"{{"ts":{time_ns}{rest}}}"#)
}

/// A time well inside the range that is read as nanoseconds.
fn time(hour: i64, ns: i64) -> i64 {
    480_000 * HOUR + hour * HOUR + ns
}

#[test]
fn segments_keep_their_own_schema_widened_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = chunks(&[
        vec![value(time(0, 2), r#","n":1,"only":"early""#), value(time(0, 1), r#","n":2"#)],
        vec![value(time(0, 3), r#","n":9007199254740993"#), value(time(1, 0), r#","n":0.5,"s":"x""#)],
    ]);
    let metas = match build(&job(dir.path(), chunks)) {
        Ok(metas) => metas,
        Err(failed) => panic!("{}", failed.error),
    };
    let shown: Vec<_> = metas
        .iter()
        .map(|meta| {
            let path = dir.path().join(stratalog_storage::col::segment_file_name(meta.id));
            let reader = ColReader::open(Arc::new(RealDisk), &path).unwrap();
            reader.verify().unwrap();
            let n = reader.schema().index_of("n").unwrap();
            let values = arrow::compute::cast(&reader.read(n, 0).unwrap(), &arrow::datatypes::DataType::Utf8).unwrap();
            let values: Vec<_> = values.as_string::<i32>().iter().flatten().map(str::to_owned).collect();
            let user: Vec<_> = reader.schema().fields().iter().skip(8).map(|field| field.name().clone()).collect();
            assert!(reader.text().is_some());
            (values.join(" "), user.join(" "))
        })
        .collect();
    assert_eq!(
        shown,
        [("2 1 9007199254740993".to_owned(), "n only ts".to_owned()), ("0.5".to_owned(), "n s ts".to_owned())]
    );
}

#[test]
fn nothing_to_build_is_no_segment() {
    let dir = tempfile::tempdir().unwrap();
    assert!(build(&job(dir.path(), Vec::new())).is_ok_and(|metas| metas.is_empty()));
}

proptest! {
    #[test]
    fn s3_groups_are_sorted_whole_and_within_their_bucket(
        hours in prop::collection::vec((0..60i64, 0..HOUR), 1..200), cut in 1..199usize,
    ) {
        let values: Vec<String> = hours.iter().map(|(hour, ns)| value(time(*hour, *ns), "")).collect();
        let cut = cut.min(values.len());
        let batches = [values[..cut].to_vec(), values[cut..].to_vec()];
        let batches: Vec<_> = batches.into_iter().filter(|batch| !batch.is_empty()).collect();
        let batches: Vec<_> = chunks(&batches).iter().map(|chunk| chunk.rows.clone()).collect();
        let time_of = |(batch, row): &(usize, usize)| {
            batches[*batch].column(0).as_primitive::<TimestampNanosecondType>().value(*row)
        };
        let groups = group(&batches, HOUR);
        let mut seen = BTreeSet::new();
        for group in &groups {
            let times: Vec<i64> = group.rows.iter().map(time_of).collect();
            prop_assert!(times.is_sorted());
            match group.kind {
                SegmentKind::Column => prop_assert!(times.iter().all(|time| group.bucket.contains(*time))),
                SegmentKind::Mixed => prop_assert!(group.bucket.contains(*times.last().unwrap())),
            }
            prop_assert!(group.rows.iter().all(|row| seen.insert(*row)), "S1: a row is in one group");
        }
        prop_assert_eq!(seen.len(), hours.len());
        prop_assert!(groups.len() <= MAX_BUCKETS + 1);
        prop_assert!(groups.iter().filter(|group| group.kind == SegmentKind::Mixed).count() <= 1);
    }
}
