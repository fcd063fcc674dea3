//! The roller step by step over a running shard, with kills between its steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, ReplicaId, ShardId, Term, TopicId, TopicPartition};
use stratalog_storage::{Io, Lane, LaneOptions, RealDisk, RecMeta, StateFiles, Votes, rec_file_name};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::peers::{PeerSegments, SegmentSources};
use super::roller::Worker;
use super::testing::batch;
use super::{Member, NoSegments, RecStore, ReplayOptions, Roller, RollerOptions};
use crate::metrics::Metrics;
use crate::pull::{SegmentBytes, Way};
use crate::raft::{Known, Logs, LogsOptions, NoPeers};
use crate::shard::testing::{append, host};
use crate::shard::{Admission, Shard, ShardOptions};

mod fetching;
mod trouble;

const ID: ShardId = ShardId(1);
const FILE_BYTES: u64 = 64 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_a_group_that_nobody_looks_after_keeps_its_log_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir).await;
    let topic = host(&node.shard, 2).await;
    node.append(topic, 60).await;
    let logs = Arc::clone(&node.worker.logs);
    let roller = node.roller(Vec::new());
    // It has let go of what it believes that nobody needs.
    roller.remove(ShardId(9)).await.unwrap();
    let held = node.shard.group().log().retained();
    assert!(held.first == RaftIndex(0) && held.oldest_file == Some(1), "L4: {held:?}");
    assert_eq!(roller.roll_through(ID, held.last.unwrap()).await.unwrap_err().code, Code::Internal);

    roller.add(Member::Shard(node.shard.clone())).await.unwrap();
    roller.roll_through(ID, held.last.unwrap()).await.unwrap();
    roller.save_state(ID).await.unwrap();
    assert!(node.shard.group().log().retained().oldest_file > held.oldest_file);
    roller.remove(ID).await.unwrap();
    assert_eq!(roller.save_state(ID).await.unwrap_err().code, Code::Internal);
    roller.stop().await;
    node.shard.stop().await;
    logs.forget(ID).unwrap();
    assert_eq!(logs.oldest_files(), []);
}

fn from(peers: Arc<dyn PeerSegments>) -> SegmentSources {
    SegmentSources { peers, way: Arc::new(Way::new(0)) }
}

/// Waits until something is so.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("it takes too long until {what}"));
}

/// A shard on its own lane, and a roller that does what it is told.
struct Node {
    lane: Arc<Lane>,
    shard: Arc<Shard>,
    worker: Worker,
}

impl Node {
    async fn start(dir: &TempDir) -> Self {
        Self::start_with(dir, Arc::new(NoSegments)).await
    }

    async fn start_with(dir: &TempDir, peers: Arc<dyn PeerSegments>) -> Self {
        Self::start_on(Arc::new(RealDisk), dir, peers).await
    }

    async fn start_on(disk: Arc<dyn Io>, dir: &TempDir, peers: Arc<dyn PeerSegments>) -> Self {
        let path = |name: &str| dir.path().join(name);
        let lane_options = LaneOptions { file_bytes: FILE_BYTES, ..LaneOptions::default() };
        let (lane, recovery) = Lane::open(disk.clone(), &path("lane"), lane_options).unwrap();
        let votes = Arc::new(Votes::open(disk.clone(), &path("votes")).unwrap());
        let states = Arc::new(StateFiles::open(disk.clone(), &path("state"), ID).unwrap());
        let keep = Arc::new(()) as Arc<dyn Send + Sync>;
        let known = [Known { replica: ReplicaId(1), states: states.clone() }];
        let logs = LogsOptions { lane: lane.clone(), votes, cache_bytes: 0, keep: keep.clone() };
        let logs = Logs::recover(logs, &known, &BTreeMap::new(), &recovery).unwrap();
        disk.create_dir_all(&path("segments")).unwrap();
        let second = Duration::from_secs(1);
        let metrics = Metrics::new();
        let options = ShardOptions {
            id: ID,
            io: disk.clone(),
            segments_dir: path("segments"),
            recs: Arc::new(RecStore::new(disk, &path("segments"), ID, keep)),
            states,
            peers: Arc::new(NoPeers),
            admission: Arc::new(Admission::new(1 << 20, 10 * second, 30 * second)),
            stages: metrics.stages().clone(),
            form: true,
            recovery_timeout: 30 * second,
        };
        let shard = Shard::start(options, logs.get(ID).unwrap()).await.unwrap();
        let manifest = shard.read(|state| state.manifest().clone());
        shard.recs().reconcile(manifest.recs(), None).unwrap();
        let options = RollerOptions {
            replay: ReplayOptions { roll_bytes: 40_000, lane_bytes: 2 * FILE_BYTES, ..ReplayOptions::default() },
            lane: lane.clone(),
            logs,
            file_bytes: FILE_BYTES,
            members: vec![Member::Shard(shard.clone())],
            sources: from(peers),
            metrics: metrics.replay().clone(),
        };
        Self { lane, shard, worker: Worker::new(options, CancellationToken::new()) }
    }

    /// A roller beside the worker, which does only what it is asked to.
    fn roller(&self, members: Vec<Member>) -> Roller {
        let replay = self.worker.options.clone();
        Roller::start(RollerOptions {
            replay: ReplayOptions { interval: Duration::from_secs(3_600), ..replay },
            lane: self.lane.clone(),
            logs: Arc::clone(&self.worker.logs),
            file_bytes: FILE_BYTES,
            members,
            sources: from(Arc::new(NoSegments)),
            metrics: self.worker.metrics.clone(),
        })
    }

    /// Appends batches of one record each, one after the other.
    async fn append(&self, topic: TopicId, count: u8) {
        for n in 0..count {
            let tp = TopicPartition { topic, partition: PartitionId(u32::from(n % 2)) };
            append(&self.shard, tp, batch(n, 2_000)).await.unwrap();
        }
    }

    /// Stops without another step of the roller, as a kill would.
    async fn stop(self) {
        let Self { lane, shard, worker } = self;
        drop(worker);
        shard.stop().await;
        tokio::task::spawn_blocking(move || lane.close()).await.unwrap();
    }

    fn recs(&self) -> Vec<Arc<RecMeta>> {
        self.shard.read(|state| state.manifest().recs().to_vec())
    }

    /// Every offset is in one place: a whole replay segment, or a batch above the replay frontier that the log has.
    fn check(&self, topic: TopicId, records: u64) {
        let recs = self.recs();
        for meta in &recs {
            self.shard.recs().get(meta).unwrap().verify().unwrap();
        }
        let mut total = 0;
        for partition in [PartitionId(0), PartitionId(1)] {
            let mut next = Offset(0);
            for range in recs.iter().filter_map(|meta| meta.range(topic, partition)) {
                assert_eq!(range.first, next, "L2");
                next = range.next;
            }
            let state = self.shard.read(|state| state.partition(topic, partition).unwrap().clone());
            for slot in state.batches() {
                assert_eq!(slot.base_offset, next, "L2");
                next = slot.next_offset();
                self.shard.group().log().payload(slot.index).unwrap();
            }
            assert_eq!(next, state.high_watermark());
            total += next.0;
        }
        assert_eq!(total, records);
    }
}

fn files(dir: &TempDir, end: &str) -> Vec<String> {
    let names = std::fs::read_dir(dir.path().join("segments")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| name.ends_with(end)).collect()
}

/// Leaves a log whose hundred records are rolled and in no saved state: what a start applies rolls them again.
async fn rolled(dir: &TempDir) -> TopicId {
    let mut node = Node::start(dir).await;
    let topic = host(&node.shard, 2).await;
    node.append(topic, 100).await;
    node.worker.roll(0).await.unwrap();
    node.worker.roll(0).await.unwrap();
    node.stop().await;
    topic
}

/// Leaves a hundred records that are rolled, and the state that says so.
async fn saved(dir: &TempDir) -> TopicId {
    let mut node = Node::start(dir).await;
    let topic = host(&node.shard, 2).await;
    node.append(topic, 100).await;
    node.worker.roll(0).await.unwrap();
    node.worker.snapshot(0).await.unwrap();
    node.stop().await;
    topic
}

fn lose_segments(dir: &TempDir) {
    for name in files(dir, ".rec") {
        std::fs::remove_file(dir.path().join("segments").join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_kept_short_and_a_restart_finds_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir).await;
    let topic = host(&node.shard, 2).await;
    for round in 1..=5 {
        node.append(topic, 100).await;
        node.worker.round().await;
        node.check(topic, round * 100);
        assert!(node.lane.usage().bytes <= 3 * FILE_BYTES, "{:?}", node.lane.usage());
    }
    let state = node.shard.read(|state| state.clone());
    node.stop().await;

    let node = Node::start(&dir).await;
    node.check(topic, 500);
    assert_eq!(node.recs(), state.manifest().recs());
    assert!(node.shard.group().log().retained().first > stratalog_proto::RaftIndex(400));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_after_each_step_of_a_roll_a_kill_loses_nothing() {
    for steps in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::start(&dir).await;
        let topic = host(&node.shard, 2).await;
        node.append(topic, 100).await;
        if steps >= 1 {
            node.worker.roll(0).await.unwrap();
        }
        if steps >= 2 {
            node.shard.group().snapshot().await.unwrap();
        }
        if steps >= 3 {
            node.worker.snapshot(0).await.unwrap();
        }
        let recs = node.recs();
        assert_eq!(recs.is_empty(), steps == 0);
        node.stop().await;

        let mut node = Node::start(&dir).await;
        assert_eq!(node.recs(), recs, "{steps}");
        node.check(topic, 100);
        node.append(topic, 50).await;
        node.worker.round().await;
        node.check(topic, 150);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_were_rolled_and_are_not_here_are_made_again_of_the_own_log() {
    let dir = tempfile::tempdir().unwrap();
    let topic = rolled(&dir).await;
    lose_segments(&dir);

    let mut node = Node::start(&dir).await;
    assert!(node.shard.recs().is_waiting());
    assert!(node.worker.snapshot(0).await.is_err(), "L4: no snapshot before they are here");
    node.worker.round().await;
    assert!(!node.shard.recs().is_waiting());
    node.check(topic, 100);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_of_a_topic_that_is_deleted_meanwhile_is_built_again_without_it() {
    use stratalog_proto::entry::Command;
    use stratalog_proto::internal;

    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir).await;
    let [kept, gone] = [host(&node.shard, 2).await, host(&node.shard, 2).await];
    node.append(kept, 10).await;
    node.append(gone, 10).await;
    let range = node.worker.next_range(&node.shard).unwrap();
    let placed = node.shard.read(|state| state.batches_between(range.after, range.through));
    let (store, log) = (node.shard.recs().clone(), node.shard.group().log().clone());
    let built = super::build::build(&store, &log, range, placed).unwrap();
    node.shard.propose(Command::RemoveTopic(internal::RemoveTopic { topic: gone.to_bytes() })).await.unwrap();
    let roll = internal::Roll {
        expect: range.after.0,
        next: range.through.0,
        segments: built.iter().map(internal::RecMeta::from).collect(),
    };
    let refused = node.shard.propose(Command::Roll(roll)).await.unwrap_err();
    assert_eq!(refused.code, Code::Conflict, "S2: {refused}");

    node.worker.roll(0).await.unwrap();
    let topics = |meta: &Arc<RecMeta>| meta.topics.iter().map(|topic| topic.topic).collect::<Vec<_>>();
    assert_eq!(node.recs().iter().map(topics).collect::<Vec<_>>(), [vec![kept]]);
    node.check(kept, 10);
    node.stop().await;
    let node = Node::start(&dir).await;
    assert_eq!(files(&dir, ".rec").len(), 1, "the files of the refused roll are garbage");
    node.check(kept, 10);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_what_was_built_for_a_roll_without_an_answer_goes_once_a_later_term_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir).await;
    let topic = host(&node.shard, 2).await;
    node.append(topic, 10).await;
    let now = node.shard.applied_term();
    for term in [Term(now.0 - 1), now] {
        let range = node.worker.next_range(&node.shard).unwrap();
        let placed = node.shard.read(|state| state.batches_between(range.after, range.through));
        let (store, log) = (node.shard.recs().clone(), node.shard.group().log().clone());
        for meta in super::build::build(&store, &log, range, placed).unwrap().into_iter().map(Arc::new) {
            store.adopt(Arc::clone(&meta));
            node.worker.cares[0].doubtful.push((term, meta));
        }
    }
    let in_flight = rec_file_name(node.worker.cares[0].doubtful[1].1.id);
    assert_eq!(files(&dir, ".rec").len(), 2);
    node.worker.tend().await;
    assert_eq!(files(&dir, ".rec"), [in_flight], "the other one may yet be named");
    node.check(topic, 10);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packed_segment_is_rewritten_when_most_of_it_is_dead() {
    use stratalog_proto::entry::Command;
    use stratalog_proto::internal;

    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir).await;
    let [kept, gone] = [host(&node.shard, 2).await, host(&node.shard, 2).await];
    node.append(kept, 4).await;
    node.append(gone, 12).await;
    node.worker.roll(0).await.unwrap();
    let packed = node.recs();
    assert!(packed.len() == 1 && packed[0].is_packed());
    node.shard.propose(Command::RemoveTopic(internal::RemoveTopic { topic: gone.to_bytes() })).await.unwrap();
    node.worker.round().await;
    let recs = node.recs();
    assert!(recs.len() == 1 && recs[0].id != packed[0].id && recs[0].bytes < packed[0].bytes, "{recs:?}");
    node.worker.round().await;
    assert_eq!(files(&dir, ".rec"), [rec_file_name(recs[0].id)]);
    node.check(kept, 4);
    node.stop().await;
    let node = Node::start(&dir).await;
    node.check(kept, 4);
    node.stop().await;
}
