//! Inputs that cannot be read or do not go together: everything else is merged none the less.

use stratalog_proto::{Error, ShardId};

use super::*;
use crate::rows::testing::{FakeCopies, rows_with};

/// Damages the first block of a segment's file.
fn damage(dir: &Path, meta: &SegmentMeta) {
    let path = dir.join(stratalog_storage::col::segment_file_name(meta.id));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[70] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn l5_a_damaged_segment_stays_behind_and_the_others_are_merged() {
    let setup = Setup::new(1).await;
    for n in 0..4 {
        setup.seal(0, &[value(0, n, "")]).await;
    }
    damage(setup.dir.path(), &setup.segments()[1]);
    let merged = setup.rows.merge_now(&setup.logs).await.unwrap();
    assert_eq!((merged.replaced, merged.made, merged.left_apart), (3, 1, 1));
    assert_eq!(setup.segments().iter().map(|meta| meta.rows).collect::<Vec<_>>(), [1, 3]);
    setup.check().await;
    setup.rows.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_a_segment_that_was_damaged_is_merged_once_a_whole_copy_is_here() {
    let setup = Setup::new(1).await;
    for n in 0..3 {
        setup.seal(0, &[value(0, n, "")]).await;
    }
    let (segments, elsewhere) = (setup.segments(), tempfile::tempdir().unwrap());
    setup.rows.stop().await;
    for meta in &segments {
        let name = stratalog_storage::col::segment_file_name(meta.id);
        std::fs::copy(setup.dir.path().join(&name), elsewhere.path().join(&name)).unwrap();
    }
    damage(setup.dir.path(), &segments[1]);
    let copies = FakeCopies::of(elsewhere.path());
    *copies.fetched.lock() = |_| vec![Err(Error::new(Code::Unavailable, "nobody has it"))];
    let topics = Arc::new(FixedTopics(vec![setup.logs.clone()]));
    let rows = rows_with([setup.log.clone()], copies.clone(), topics, options()).await;
    let (shard, deadline) = (ShardId(1), Instant::now() + Duration::from_secs(60));
    rows.caught_up(deadline).await.unwrap();
    let merged = rows.merge_now(&setup.logs).await.unwrap();
    assert_eq!((merged.replaced, merged.left_apart), (2, 1));

    eventually("it is found damaged", || !rows.missing(shard).is_empty()).await;
    *copies.fetched.lock() = |bytes| vec![Ok(bytes.into())];
    eventually("a whole copy is here", || {
        rows.replicas.get(shard).unwrap().wanted.notify_one();
        rows.missing(shard).is_empty()
    })
    .await;
    let merged = rows.merge_now(&setup.logs).await.unwrap();
    assert_eq!((merged.replaced, merged.made, merged.left_apart), (2, 1, 0));
    rows.stop().await;
}

#[tokio::test]
async fn a_damaged_segment_of_one_topic_holds_back_no_other_topic_or_shard() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, later) = (MemLog::new(dir.path()), MemLog::of_shard(ShardId(2), other_dir.path()));
    let config = TopicConfig { time_field: Some("ts".to_owned()), ..TopicConfig::default() };
    let of = |name| topic(name, 1, config.clone());
    let there = TopicInfo { shards: vec![ShardId(2)], ..(*of("there")).clone() };
    let topics = [of("damaged"), of("whole"), Arc::new(there)];
    let hosts = [(&log, &topics[0]), (&log, &topics[1]), (&later, &topics[2])];
    hosts.iter().for_each(|(log, topic)| log.create(topic));
    let options = RowsOptions { merge_rate_bytes: 1 << 30, ..options() };
    let rows = rows_over([log.clone(), later.clone()], Arc::new(FixedTopics(topics.to_vec())), options).await;
    let count = |topic: &TopicInfo| rows.segments(topic).len();
    for n in 0..4 {
        for (log, topic) in hosts {
            log.produce(topic, 0, &[&value(0, n, "")]);
            rows.seal_now(topic).await.unwrap();
        }
        if n == 0 {
            damage(dir.path(), &rows.segments(&topics[0])[0].1);
        }
    }
    eventually("the topics that are whole are merged", || topics[1..].iter().all(|topic| count(topic) == 1)).await;
    // The damaged one stays apart, until its rows are made again.
    eventually("so is what is left of the other", || count(&topics[0]) <= 2).await;
    rows.stop().await;
}

#[tokio::test]
async fn q2_one_segment_that_goes_with_no_other_does_not_keep_the_others_apart() {
    let setup = Setup::new(1).await;
    for (n, x) in ["0.5", "1.5", "9007199254740993", "2.5", "3.5"].into_iter().enumerate() {
        setup.seal(0, &[value(0, n as i64, &format!(r#","x":{x}"#))]).await;
    }
    let before = setup.rows().await;
    let merged = setup.rows.merge_now(&setup.logs).await.unwrap();
    assert_eq!((setup.segments().len(), merged.left_apart, setup.rows().await), (2, 1, before));
    setup.seal(0, &[value(0, 9, r#","x":4.5"#)]).await;
    setup.rows.merge_now(&setup.logs).await.unwrap();
    assert_eq!(setup.segments().len(), 2, "what comes later is merged with the others");
    setup.check().await;
    setup.rows.stop().await;
}

#[tokio::test]
async fn seals_do_not_wait_for_garbage_that_waits_for_a_merge() {
    let setup = Setup::new(1).await;
    let shard = setup.rows.shards_of(&setup.logs).next().unwrap().clone();
    let merging = shard.merging.lock().await;
    let collecting = tokio::spawn({
        let shard = shard.clone();
        async move { crate::rows::garbage::collect(&shard).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let sealed = tokio::time::timeout(Duration::from_secs(10), setup.seal(0, &[value(0, 0, "")])).await;
    assert!(sealed.is_ok() && setup.segments().len() == 1 && !collecting.is_finished());
    drop(merging);
    collecting.await.unwrap().unwrap();
    setup.rows.stop().await;
}
