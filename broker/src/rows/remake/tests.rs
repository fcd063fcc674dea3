//! Lost segments, over a shard without Raft.

use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, SegmentId, ShardId, internal};
use stratalog_query::{Catalog, TopicInfo};
use stratalog_storage::{OffsetRange, RealDisk, SegmentHandle, SegmentMeta};
use tokio_util::sync::CancellationToken;

use super::Remaker;
use crate::rows::options::RowsOptions;
use crate::rows::runtime::Rows;
use crate::rows::testing::{MemLog, topic};
use crate::rows::tests::{at_hour, quiet, rows_of, start};

const ID: ShardId = ShardId(1);

fn by_hours() -> TopicConfig {
    TopicConfig { time_field: Some("ts".to_owned()), ..TopicConfig::default() }
}

/// A topic whose records of three hours are sealed in two steps.
async fn sealed(log: &Arc<MemLog>) -> (Arc<Rows>, Arc<TopicInfo>) {
    let logs = topic("logs", 2, by_hours());
    log.create(&logs);
    let rows = start(log, std::slice::from_ref(&logs), quiet()).await;
    log.produce(&logs, 0, &[&at_hour(0), &at_hour(1), "not json"]);
    log.produce(&logs, 1, &[&at_hour(1), &at_hour(2)]);
    rows.seal_now(&logs).await.unwrap();
    log.produce(&logs, 0, &[&at_hour(1), &at_hour(2)]);
    rows.seal_now(&logs).await.unwrap();
    (rows, logs)
}

fn live(rows: &Rows, topic: &TopicInfo) -> Vec<Arc<SegmentMeta>> {
    rows.segments(topic).into_iter().map(|(_, meta)| meta).collect()
}

fn ids(metas: &[Arc<SegmentMeta>]) -> Vec<SegmentId> {
    metas.iter().map(|meta| meta.id).collect()
}

/// Removes the files of segments. Nobody notices.
fn lose(rows: &Rows, lost: &[Arc<SegmentMeta>]) {
    for meta in lost {
        std::fs::remove_file(rows.segment_here(ID, meta.id).unwrap().path()).unwrap();
    }
}

async fn remake(rows: &Rows, topic: &TopicInfo, lost: &[Arc<SegmentMeta>]) -> Result<u64, stratalog_proto::Error> {
    let shard = rows.replicas.led_in(ID).unwrap();
    let hosted = shard.log.topics().into_iter().find(|hosted| hosted.id == topic.id).unwrap();
    let remaker = Remaker::new(RowsOptions::default(), CancellationToken::new());
    remaker.remake(&shard, &hosted, lost.to_vec()).await
}

fn holds(rows: &Rows, topic: &TopicInfo) {
    assert!(rows.coverage(topic).iter().all(|(_, coverage)| coverage.holds()), "{:?}", rows.coverage(topic));
}

#[tokio::test]
async fn s1_each_lost_segment_is_made_again_with_the_rows_that_it_had_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, logs) = sealed(&MemLog::new(dir.path())).await;
    let (before, all) = (rows_of(&rows, &logs).await, live(&rows, &logs));
    assert!(all.len() >= 5 && before.len() == 7, "{all:#?}");
    for lost in &all {
        lose(&rows, std::slice::from_ref(lost));
        assert_eq!(remake(&rows, &logs, std::slice::from_ref(lost)).await.unwrap(), lost.rows);
        let now = live(&rows, &logs);
        assert!(now.len() == all.len() && !ids(&now).contains(&lost.id));
        assert!(
            now.iter().any(|meta| (meta.bucket, meta.rows, &meta.ranges) == (lost.bucket, lost.rows, &lost.ranges))
        );
        assert_eq!(rows_of(&rows, &logs).await, before);
        holds(&rows, &logs);
    }
    rows.stop().await;
}

#[tokio::test]
async fn l5_segments_that_nobody_has_are_made_again_by_whoever_leads() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, logs) = sealed(&MemLog::new(dir.path())).await;
    rows.merge_now(&logs).await.unwrap();
    let (before, all) = (rows_of(&rows, &logs).await, live(&rows, &logs));
    lose(&rows, &all);
    for meta in &all {
        let handle = Arc::new(SegmentHandle::new(Arc::new(RealDisk), dir.path(), ID, meta.clone()));
        handle.verify().unwrap_err();
        rows.suspect(&handle);
    }
    let is_remade = || live(&rows, &logs).iter().all(|meta| !ids(&all).contains(&meta.id));
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !is_remade() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("they are made again");
    assert_eq!(rows_of(&rows, &logs).await, before);
    holds(&rows, &logs);
    rows.stop().await;
}

#[tokio::test]
async fn l5_what_is_lost_waits_for_what_is_not_here_and_has_rows_at_the_same_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, logs) = sealed(&MemLog::new(dir.path())).await;
    let all = live(&rows, &logs);
    let meets = |one: &Arc<SegmentMeta>, other: &Arc<SegmentMeta>| {
        let meet = |range: &OffsetRange| {
            let same =
                |of: &OffsetRange| of.partition == range.partition && of.first < range.next && range.first < of.next;
            other.ranges.iter().any(same)
        };
        one.id != other.id && one.ranges.iter().any(meet)
    };
    let pair = all.iter().flat_map(|one| all.iter().map(move |other| (one, other)));
    let (lost, beside) = pair.clone().find(|(one, other)| meets(one, other)).expect("hours of the same records");
    let (apart, from) = pair.clone().find(|(one, other)| one.id != other.id && !meets(one, other)).expect("two seals");
    let waits = |missing: &[&Arc<SegmentMeta>], lost: &[&Arc<SegmentMeta>]| {
        let owned = |metas: &[&Arc<SegmentMeta>]| metas.iter().copied().cloned().collect::<Vec<_>>();
        super::waits_for_others(&owned(missing), &owned(lost))
    };
    assert!(waits(&[lost, beside], &[lost]));
    assert!(!waits(&[lost, beside], &[lost, beside]) && !waits(&[lost], &[lost]));
    assert!(!waits(&[apart, from], &[apart]));
    rows.stop().await;
}

#[tokio::test]
async fn s1_rows_of_a_bucket_that_was_dropped_do_not_come_back_with_a_lost_one() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, logs) = sealed(&MemLog::new(dir.path())).await;
    let first_hour = live(&rows, &logs).iter().map(|meta| meta.bucket.end_ns).min().unwrap();
    assert!(!rows.drop_before(&logs, first_hour, false).await.unwrap().segments.is_empty());
    let (before, all) = (rows_of(&rows, &logs).await, live(&rows, &logs));
    lose(&rows, &all);
    remake(&rows, &logs, &all).await.unwrap();
    assert_eq!(rows_of(&rows, &logs).await, before);
    holds(&rows, &logs);
    rows.stop().await;
}

#[tokio::test]
async fn s1_settings_that_make_other_rows_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemLog::new(dir.path());
    let (rows, logs) = sealed(&log).await;
    let put = internal::PutTopic {
        topic: logs.id.to_bytes(),
        partitions: (0..logs.partitions).collect(),
        config: Some(TopicConfig::default().to_internal()),
    };
    log.apply(&[Command::PutTopic(put)])[0].as_ref().unwrap();
    let all = live(&rows, &logs);
    let hour = all.iter().max_by_key(|meta| meta.bucket.start_ns).unwrap();
    lose(&rows, std::slice::from_ref(hour));
    let refused = remake(&rows, &logs, std::slice::from_ref(hour)).await.unwrap_err();
    assert!(refused.code == Code::CorruptData && refused.message.contains("S1"), "{refused}");
    assert_eq!(ids(&live(&rows, &logs)), ids(&all));
    rows.stop().await;
}
