//! Replicas that get segments from another one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stratalog_proto::config::TopicConfig;
use stratalog_proto::{Code, Error, NodeId, SegmentId, ShardId, Term};
use stratalog_query::{Catalog, TopicInfo};
use stratalog_storage::SegmentMeta;
use stratalog_storage::col::segment_file_name;

use super::Puller;
use crate::pull::Way;
use crate::rows::Rows;
use crate::rows::copies::SegmentCopies;
use crate::rows::files::partial_file_name;
use crate::rows::garbage;
use crate::rows::log::RowLog;
use crate::rows::testing::{FakeCopies, FixedTopics, MemLog, rows_over, rows_with, topic, visible};
use crate::rows::tests::{at_hour, eventually, quiet, soon};

const SHARD: ShardId = ShardId(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// A leader with sealed segments, and another replica without their files.
struct Setup {
    dirs: [tempfile::TempDir; 2],
    leader: Arc<MemLog>,
    copies: Arc<FakeCopies>,
    log: Arc<MemLog>,
    logs: Arc<TopicInfo>,
    rows: Arc<Rows>,
}

impl Setup {
    async fn new(segments: usize) -> Self {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (leader, logs) = (MemLog::new(dirs[0].path()), topic("logs", 1, TopicConfig::default()));
        leader.create(&logs);
        let topics = Arc::new(FixedTopics(vec![logs.clone()]));
        let rows = rows_over([leader.clone()], topics.clone(), quiet()).await;
        for n in 0..segments {
            leader.produce(&logs, 0, &[&at_hour(n as i64)]);
            rows.seal_now(&logs).await.unwrap();
        }
        rows.stop().await;
        let (log, copies) = (leader.follower(dirs[1].path()), FakeCopies::of(dirs[0].path()));
        let rows = rows_with([log.clone()], copies.clone(), topics, quiet()).await;
        Self { dirs, leader, copies, log, logs, rows }
    }

    fn segments(&self) -> Vec<Arc<SegmentMeta>> {
        self.rows.segments(&self.logs).into_iter().map(|(_, meta)| meta).collect()
    }

    fn is_missing(&self) -> bool {
        !self.rows.missing(SHARD).is_empty()
    }

    fn has_same_files(&self) -> bool {
        let read = |dir: &Path, meta: &SegmentMeta| std::fs::read(dir.join(segment_file_name(meta.id))).unwrap();
        self.segments().iter().all(|meta| read(self.dirs[0].path(), meta) == read(self.dirs[1].path(), meta))
    }

    /// Has the puller look again, as it does after a rest.
    fn look_again(&self) {
        self.rows.replicas.get(SHARD).unwrap().wanted.notify_one();
    }
}

fn all(bytes: Vec<u8>) -> Vec<Result<Bytes, Error>> {
    vec![Ok(Bytes::from(bytes))]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_manifest_names_and_is_not_here_is_fetched() {
    let setup = Setup::new(3).await;
    assert_eq!(setup.rows.missing(SHARD).len(), 3);
    setup.look_again();
    eventually("the segments are here", || !setup.is_missing()).await;
    assert!(setup.has_same_files());
    setup.rows.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_breaks_off_goes_on_where_it_was() {
    let setup = Setup::new(1).await;
    *setup.copies.fetched.lock() = |bytes| {
        let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
        vec![Ok(half), Err(Error::new(Code::Unavailable, "the connection is lost"))]
    };
    setup.look_again();
    let part = setup.dirs[1].path().join(partial_file_name(setup.segments()[0].id));
    eventually("a half is here", || std::fs::metadata(&part).is_ok_and(|part| part.len() > 0)).await;
    *setup.copies.fetched.lock() = all;
    eventually("all of it is here", || {
        setup.look_again();
        !setup.is_missing()
    })
    .await;
    let offsets = setup.copies.offsets.lock().clone();
    assert_eq!(offsets[..2], [0, setup.segments()[0].bytes / 2]);
    assert!(setup.has_same_files() && !part.exists());
    setup.rows.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x1_bytes_that_are_not_what_the_manifest_means_are_not_kept() {
    let flipped = |mut bytes: Vec<u8>| {
        *bytes.last_mut().unwrap() ^= 1;
        all(bytes)
    };
    let more = |mut bytes: Vec<u8>| {
        bytes.push(0);
        all(bytes)
    };
    for damage in [flipped as fn(Vec<u8>) -> Vec<_>, more] {
        let setup = Setup::new(1).await;
        *setup.copies.fetched.lock() = damage;
        setup.look_again();
        eventually("it was tried", || !setup.copies.offsets.lock().is_empty()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(setup.is_missing());
        *setup.copies.fetched.lock() = all;
        eventually("it is fetched from the beginning", || {
            setup.look_again();
            !setup.is_missing()
        })
        .await;
        assert!(setup.has_same_files() && setup.copies.offsets.lock().iter().all(|offset| *offset == 0));
        setup.rows.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_a_segment_that_nobody_has_whole_does_not_hold_up_the_others() {
    let setup = Setup::new(6).await;
    let bad: Vec<SegmentId> = setup.segments().iter().take(5).map(|meta| meta.id).collect();
    setup.copies.bad.lock().extend(&bad);
    eventually("the only good one is here", || {
        setup.look_again();
        setup.rows.missing(SHARD).len() == 5
    })
    .await;
    setup.copies.bad.lock().clear();
    eventually("all are here", || {
        setup.look_again();
        !setup.is_missing()
    })
    .await;
    assert!(setup.has_same_files());
    setup.rows.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_a_file_that_is_found_damaged_is_fetched_again() {
    let setup = Setup::new(2).await;
    setup.log.lead(2, true);
    eventually("it leads", || setup.rows.leads(SHARD)).await;
    let snapshot = setup.rows.snapshot(&setup.logs, &[], soon()).await.unwrap();
    let segment = snapshot.shards[0].segments[0].clone();
    let good = std::fs::read(segment.path()).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 3] ^= 1;
    std::fs::write(segment.path(), bad).unwrap();
    segment.verify().unwrap_err();
    *setup.copies.fetched.lock() = |_| vec![Err(Error::new(Code::Unavailable, "nobody has it"))];
    eventually("it is counted", || setup.is_missing() && setup.rows.stats().segments_damaged == 1).await;
    garbage::collect(&setup.rows.replicas.led()[0]).await.unwrap();
    setup.rows.snapshot(&setup.logs, &[], soon()).await.expect("what is whole of it is read meanwhile");
    assert!(!setup.has_same_files() && segment.path().exists(), "nothing has taken its place");

    *setup.copies.fetched.lock() = all;
    eventually("a whole copy is here", || {
        setup.look_again();
        !setup.is_missing()
    })
    .await;
    let snapshot = setup.rows.snapshot(&setup.logs, &[], soon()).await.unwrap();
    assert_eq!(visible(&snapshot.shards[0]), [(0, 0), (0, 1)]);
    assert!(setup.has_same_files());
    setup.rows.stop().await;
}

/// A file that could not be read once, or was not there yet when somebody wanted to read it, is not damaged.
#[tokio::test(flavor = "multi_thread")]
async fn l5_a_file_that_is_whole_when_it_is_looked_into_stays() {
    let setup = Setup::new(2).await;
    setup.log.lead(2, true);
    eventually("it leads", || setup.rows.leads(SHARD)).await;
    let first = async || setup.rows.snapshot(&setup.logs, &[], soon()).await.unwrap().shards[0].segments[0].clone();
    let segment = first().await;
    let good = std::fs::read(segment.path()).unwrap();
    std::fs::write(segment.path(), &good[..good.len() / 2]).unwrap();
    segment.verify().unwrap_err();
    std::fs::write(segment.path(), good).unwrap();
    eventually("it was looked into", || !setup.rows.replicas.led()[0].files.has_suspects()).await;
    assert_eq!((setup.is_missing(), setup.rows.stats().segments_damaged), (false, 0));
    assert!(first().await.damage().is_none() && setup.has_same_files());
    setup.rows.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_answers_once_it_has_the_files() {
    let setup = Setup::new(2).await;
    setup.log.lead(2, true);
    eventually("it leads", || setup.rows.leads(SHARD)).await;
    let snapshot = setup.rows.snapshot(&setup.logs, &[], soon()).await.unwrap();
    assert_eq!(visible(&snapshot.shards[0]), [(0, 0), (0, 1)]);

    let setup = Setup::new(1).await;
    *setup.copies.fetched.lock() = |_| vec![Err(Error::new(Code::Unavailable, "nobody has it"))];
    setup.log.lead(2, true);
    eventually("it leads", || setup.rows.leads(SHARD)).await;
    let error = setup.rows.snapshot(&setup.logs, &[], Instant::now()).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.contains("1 column segments"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_what_is_held_for_a_leader_stays_until_a_later_term_or_its_release() {
    let setup = Setup::new(0).await;
    let topics = Arc::new(FixedTopics(vec![setup.logs.clone()]));
    let building = rows_with([setup.leader.clone()], setup.copies.clone(), topics, quiet()).await;
    let mut built = Vec::new();
    for n in 0..3 {
        setup.leader.produce(&setup.logs, 0, &[&at_hour(n)]);
        building.seal_now(&setup.logs).await.unwrap();
        built = building.segments(&setup.logs).into_iter().map(|(_, meta)| (*meta).clone()).collect();
    }
    // The follower has not applied any of the seals.
    setup.rows.hold(SHARD, Term(1), NodeId(1), built.clone(), PATIENCE).await.unwrap();
    let is_here = |n: usize| setup.dirs[1].path().join(segment_file_name(built[n].id)).exists();
    assert!((0..3).all(is_here));
    setup.rows.release(SHARD, Term(1), vec![built[0].id]).await.unwrap();
    assert!(!is_here(0) && is_here(1) && is_here(2));
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(is_here(1) && is_here(2), "no entry of a later term is applied");

    let old = setup.rows.hold(SHARD, Term(0), NodeId(1), vec![built[0].clone()], PATIENCE).await.unwrap_err();
    assert_eq!(old.code, Code::NotLeader);
    setup.log.lead(2, false);
    eventually("they are collected", || !is_here(1) && !is_here(2)).await;
    setup.log.follow(&setup.leader);
    assert_eq!(setup.rows.missing(SHARD).len(), 3, "they were named after all, and are fetched again");
    setup.look_again();
    eventually("all is here", || !setup.is_missing()).await;
    building.stop().await;
    setup.rows.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leader_gives_up_is_not_fetched_any_more() {
    let setup = Setup::new(0).await;
    let topics = Arc::new(FixedTopics(vec![setup.logs.clone()]));
    let building = rows_with([setup.leader.clone()], setup.copies.clone(), topics, quiet()).await;
    setup.leader.produce(&setup.logs, 0, &[&at_hour(0)]);
    building.seal_now(&setup.logs).await.unwrap();
    let built: Vec<SegmentMeta> = building.segments(&setup.logs).into_iter().map(|(_, meta)| (*meta).clone()).collect();
    *setup.copies.hangs.lock() = true;
    *setup.copies.fetched.lock() = |bytes| vec![Ok(Bytes::copy_from_slice(&bytes[..bytes.len() / 2]))];
    let wait = Duration::from_millis(50);
    let late = setup.rows.hold(SHARD, Term(1), NodeId(1), built.clone(), wait).await.unwrap_err();
    assert_eq!(late.code, Code::Timeout, "{late}");
    let before = setup.copies.offsets.lock().len();

    let (rows, wanted) = (setup.rows.clone(), built.clone());
    let holding = tokio::spawn(async move { rows.hold(SHARD, Term(1), NodeId(1), wanted, PATIENCE).await });
    eventually("it is fetched again", || setup.copies.offsets.lock().len() > before).await;
    setup.rows.release(SHARD, Term(1), vec![built[0].id]).await.unwrap();
    assert_eq!(holding.await.unwrap().unwrap_err().code, Code::Unavailable);
    let part = setup.dirs[1].path().join(partial_file_name(built[0].id));
    eventually("nothing of it is left", || !part.exists()).await;
    building.stop().await;
    setup.rows.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_is_not_lost_while_a_node_that_may_have_it_is_away() {
    let setup = Setup::new(1).await;
    let segment = setup.segments()[0].clone();
    std::fs::remove_file(setup.dirs[0].path().join(segment_file_name(segment.id))).unwrap();
    let replica = setup.rows.replicas.get(SHARD).unwrap();
    let puller = Puller::new(setup.copies.clone(), Arc::new(Way::new(0)));
    *setup.copies.silent.lock() = true;
    puller.give_up(&replica, vec![segment.id]).await;
    assert!(!replica.files.has_lost());
    *setup.copies.silent.lock() = false;
    puller.give_up(&replica, vec![segment.id]).await;
    assert!(replica.files.has_lost());
    setup.rows.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_leaves_the_manifest_leaves_no_file() {
    let setup = Setup::new(1).await;
    setup.look_again();
    eventually("it is here", || !setup.is_missing()).await;
    let segment = setup.segments()[0].clone();
    assert!(setup.copies.may_have(SHARD));
    let drop =
        stratalog_proto::internal::Drop { topic: setup.logs.id.to_bytes(), segments: vec![segment.id.to_bytes()] };
    setup.log.apply(&[stratalog_proto::entry::Command::Drop(drop)]).remove(0).unwrap();
    let path = setup.dirs[1].path().join(segment_file_name(segment.id));
    eventually("it is unlinked", || !path.exists()).await;
    assert!(setup.log.applied() > setup.leader.applied());
    setup.rows.stop().await;
}
