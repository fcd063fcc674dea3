//! The roller where something stands against it: a full disk, a segment that does not come, blocks that rotted.

use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use stratalog_proto::RaftIndex;
use stratalog_proto::entry::Command;
use stratalog_proto::internal;
use stratalog_storage::simulation::{Op, SimDisk};

use super::fetching::Directory;
use super::*;
use crate::replay::member::{Care, Step};

/// Longer than the first pause after a failure, and than the second.
const PAUSE: Duration = Duration::from_millis(1_100);

fn oldest_file(node: &Node) -> Option<u64> {
    node.shard.group().log().retained().oldest_file
}

/// One round, which has to end.
async fn round(node: &mut Node) {
    tokio::time::timeout(Duration::from_secs(60), node.worker.round()).await.expect("a round ends");
}

/// Changes a byte in the middle of each replay segment; the same again undoes it.
fn flip(dir: &TempDir) {
    for name in files(dir, ".rec") {
        flip_in(&dir.path().join("segments").join(name), 5_000);
    }
}

pub(super) fn flip_in(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolls_add_nothing_to_the_log_while_no_snapshot_can_be_saved() {
    let (disk, dir) = (SimDisk::seeded(1), tempfile::tempdir().unwrap());
    let mut node = Node::start_on(Arc::new(disk.clone()), &dir, Arc::new(NoSegments)).await;
    node.worker.options.lane_bytes = 0;
    let topic = host(&node.shard, 2).await;
    node.append(topic, 100).await;
    disk.set_fault(|_, path| match path.to_string_lossy().contains(".state") {
        true => Err(ErrorKind::StorageFull.into()),
        false => Ok(()),
    });
    round(&mut node).await;
    let (applied, frontier) = (node.shard.applied(), node.shard.read(|state| state.replay_frontier()));
    assert!(frontier > RaftIndex(0), "what has batches is rolled");
    assert!(node.shard.group().log().snapshot_frontier() == RaftIndex(0) && oldest_file(&node) == Some(1));
    for _ in 0..3 {
        tokio::time::sleep(PAUSE).await;
        round(&mut node).await;
        assert_eq!(node.shard.applied(), applied, "a Roll of nothing but the last Roll");
    }
    node.check(topic, 100);

    disk.clear_fault();
    node.worker.cares[0].ended(Step::Snapshot, &Ok(()));
    round(&mut node).await;
    assert!(oldest_file(&node) > Some(1) && node.lane.usage().first_file > 1, "{:?}", node.lane.usage());
    node.check(topic, 100);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolls_add_nothing_to_the_log_while_a_segment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir).await;
    node.worker.options.lane_bytes = 0;
    let topic = host(&node.shard, 2).await;
    node.append(topic, 100).await;
    while node.worker.next_range(&node.shard).is_some_and(|range| range.through.0 - range.after.0 > 1) {
        node.worker.roll(0).await.unwrap();
    }
    node.stop().await;
    lose_segments(&dir);

    let mut node = Node::start(&dir).await;
    node.worker.options.lane_bytes = 0;
    // No segment can be made where there is no directory for it.
    let (segments, away) = (dir.path().join("segments"), dir.path().join("away"));
    std::fs::rename(&segments, &away).unwrap();
    let applied = node.shard.applied();
    round(&mut node).await;
    assert!(node.shard.recs().is_waiting());
    assert!(node.shard.applied().0 <= applied.0 + 1, "{applied} and {}", node.shard.applied());
    let applied = node.shard.applied();
    round(&mut node).await;
    assert_eq!(node.shard.applied(), applied);
    std::fs::rename(&away, &segments).unwrap();
    tokio::time::sleep(PAUSE).await;
    round(&mut node).await;
    assert!(!node.shard.recs().is_waiting() && oldest_file(&node) > Some(1));
    node.check(topic, 100);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_a_rotten_block_of_a_segment_is_found_before_the_log_goes_that_can_make_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let topic = rolled(&dir).await;
    flip(&dir);

    let mut node = Node::start(&dir).await;
    assert!(node.shard.recs().is_waiting(), "its footer is whole, and it is not");
    round(&mut node).await;
    node.worker.snapshot(0).await.unwrap();
    assert!(node.shard.group().log().retained().first > RaftIndex(1), "the log is let go");
    node.check(topic, 100);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_what_a_segment_is_made_of_and_the_device_does_not_read_is_asked_of_others_and_kept() {
    let (disk, dir) = (SimDisk::seeded(1), tempfile::tempdir().unwrap());
    let start = || Node::start_on(Arc::new(disk.clone()), &dir, Arc::new(NoSegments));
    let mut node = start().await;
    let topic = host(&node.shard, 2).await;
    node.append(topic, 60).await;
    node.worker.roll(0).await.unwrap();
    let recs = node.recs();
    node.stop().await;
    recs.iter().for_each(|meta| disk.remove(&dir.path().join("segments").join(rec_file_name(meta.id))).unwrap());

    let mut node = start().await;
    disk.set_fault(|op, path| match op == Op::View && path.extension().is_some_and(|name| name == "log") {
        true => Err(std::io::Error::other("medium error")),
        false => Ok(()),
    });
    node.worker.tend().await;
    assert_eq!(node.shard.recs().wanted(&recs), recs);
    assert!(node.shard.recs().is_waiting(), "L4: the log stays");
    disk.clear_fault();
    tokio::time::sleep(PAUSE).await;
    node.worker.tend().await;
    assert!(!node.shard.recs().is_waiting(), "the device has come to itself");
    node.check(topic, 60);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_the_log_stays_while_a_segment_that_another_replica_rolled_is_not_here() {
    let dir = tempfile::tempdir().unwrap();
    let topic = saved(&dir).await;
    let peer = Directory::of(&dir);
    peer.hide(true);

    // As after the install of a snapshot: the state names the segments, and no entry asks for them.
    let mut node = Node::start_with(&dir, Arc::clone(&peer) as _).await;
    let (log, missing) = (node.shard.group().log().clone(), node.recs()[0].id);
    let first = log.retained().first;
    node.append(topic, 100).await;
    round(&mut node).await;
    assert!(node.shard.read(|state| state.replay_frontier()) > log.snapshot_frontier(), "it is rolled all the same");
    let refused = node.worker.snapshot(0).await.unwrap_err();
    assert!(refused.code == Code::Unavailable && refused.message.contains("L4"), "{refused}");
    assert_eq!(log.retained().first, first);

    peer.hide(false);
    eventually("it is here", || node.shard.recs().has(missing)).await;
    node.worker.snapshot(0).await.unwrap();
    assert!(log.retained().first > first);
    node.check(topic, 200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_a_segment_that_is_found_damaged_while_it_is_read_is_replaced_by_a_whole_copy() {
    let dir = tempfile::tempdir().unwrap();
    let topic = saved(&dir).await;
    let node = Node::start_with(&dir, Directory::copy_of(&dir) as _).await;
    let (store, meta) = (node.shard.recs().clone(), node.recs()[0].clone());
    let suspect = store.get(&meta).unwrap();
    flip(&dir);
    suspect.verify().unwrap_err();
    let get = || store.get(&meta).expect("what is whole of it is read meanwhile");
    eventually("a whole copy is here", || !Arc::ptr_eq(&get(), &suspect)).await;
    assert!(get().verify().is_ok() && store.missing([&meta]).is_empty());
    node.check(topic, 100);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_the_log_stays_for_a_damaged_segment_only_while_it_has_entries_of_it() {
    for has_entries in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let topic = if has_entries { rolled(&dir).await } else { saved(&dir).await };
        let peer = Directory::copy_of(&dir);
        let mut node = Node::start_with(&dir, Arc::clone(&peer) as _).await;
        peer.hide(true);
        let (store, recs) = (node.shard.recs().clone(), node.recs());
        flip(&dir);
        assert!(recs.iter().all(|meta| store.get(meta).unwrap().verify().is_err()));
        eventually("they are known to be damaged", || store.missing(&recs).len() == recs.len()).await;
        node.append(topic, 100).await;
        node.worker.tend().await;
        assert_eq!(node.worker.snapshot(0).await.is_err(), has_entries, "L4: the log may be the last good copy");
        peer.hide(false);
        eventually("whole copies are here", || store.missing(&recs).is_empty()).await;
        node.worker.snapshot(0).await.unwrap();
        node.check(topic, 200);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_a_damaged_segment_that_nobody_else_can_have_stays_in_use() {
    let dir = tempfile::tempdir().unwrap();
    saved(&dir).await;
    let mut node = Node::start(&dir).await;
    let (store, meta) = (node.shard.recs().clone(), node.recs()[0].clone());
    flip(&dir);
    store.get(&meta).unwrap().verify().unwrap_err();
    round(&mut node).await;
    assert!(store.missing([&meta]).is_empty() && store.get(&meta).is_ok());
    flip(&dir);
    assert!(store.look_into_suspects().is_empty());
    assert!(store.get(&meta).unwrap().damage().is_none(), "the device has come to itself");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_replica_that_lost_a_segment_for_good_still_lets_go_of_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let topic = saved(&dir).await;
    lose_segments(&dir);
    let mut node = Node::start(&dir).await;
    let first = node.shard.group().log().retained().first;
    node.append(topic, 100).await;
    round(&mut node).await;
    assert!(node.shard.group().log().retained().first > first);
    assert!(node.shard.recs().get(&node.recs()[0]).is_err());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_that_could_not_go_with_its_snapshot_goes_without_another_roll() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir).await;
    let topic = host(&node.shard, 2).await;
    node.append(topic, 60).await;
    node.worker.roll(0).await.unwrap();
    // The state is saved, and then openraft takes too long.
    let taken = node.shard.group().snapshot().await.unwrap();
    assert!(node.shard.group().log().retained().first <= taken.frontier);
    (node.worker.options.roll_bytes, node.worker.options.lane_bytes) = (u64::MAX, u64::MAX);
    round(&mut node).await;
    assert_eq!(node.shard.group().log().snapshot_frontier(), taken.frontier, "no snapshot was due");
    assert!(node.shard.group().log().retained().first > taken.frontier);
    node.check(topic, 60);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_that_a_snapshot_on_its_way_needs_stays_as_long_as_there_is_log_to_spare() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir).await;
    let topic = host(&node.shard, 2).await;
    node.append(topic, 60).await;
    node.worker.roll(0).await.unwrap();
    let _on_its_way = node.shard.group().begin_to_send();
    let log = node.shard.group().log().clone();
    let first = log.retained().first;
    node.worker.snapshot(0).await.unwrap();
    round(&mut node).await;
    assert!(log.snapshot_frontier() > first && log.retained().first == first, "{:?}", log.retained());
    node.worker.options.lane_bytes = 0;
    round(&mut node).await;
    assert!(log.retained().first > first);
    node.check(topic, 60);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_does_not_wait_for_a_snapshot_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir).await;
    let topic = host(&node.shard, 2).await;
    node.append(topic, 60).await;
    let _on_its_way = node.shard.group().begin_to_send();
    let roller = node.roller(vec![Member::Shard(node.shard.clone())]);
    let scrubbed = tokio::time::timeout(Duration::from_secs(30), roller.scrub()).await;
    scrubbed.expect("it waits for nobody").unwrap();
    assert!(node.lane.usage().first_file > 1);
    roller.stop().await;
    node.check(topic, 60);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_read_keeps_its_log_and_adds_nothing_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir).await;
    let topic = host(&node.shard, 2).await;
    node.append(topic, 60).await;
    let (log, applied) = (dir.path().join("lane/00000000000000000001.log"), node.shard.applied());
    flip_in(&log, 5 * 4096 + 1_000);
    for _ in 0..2 {
        round(&mut node).await;
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!((node.shard.applied(), oldest_file(&node), node.recs().len()), (applied, Some(1), 0));
    assert_eq!(files(&dir, ".rec"), [""; 0]);
    flip_in(&log, 5 * 4096 + 1_000);
    node.worker.cares[0].ended(Step::Roll, &Ok(()));
    round(&mut node).await;
    assert!(!node.recs().is_empty());
    node.check(topic, 60);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_packed_segment_does_not_keep_others_from_being_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir).await;
    let [kept, gone] = [host(&node.shard, 2).await, host(&node.shard, 2).await];
    for _ in 0..2 {
        node.append(kept, 4).await;
        node.append(gone, 12).await;
        node.worker.roll(0).await.unwrap();
    }
    let packed = node.recs();
    assert!(packed.len() == 2 && packed.iter().all(|meta| meta.is_packed()), "{packed:?}");
    let damaged = dir.path().join("segments").join(rec_file_name(packed[0].id));
    // What is kept comes before or after what goes, as the ids of the topics fell.
    let whole = std::fs::read(&damaged).unwrap();
    let len = whole.len() as u64;
    for at in (1_000..len * 9 / 10).step_by(1_000) {
        flip_in(&damaged, at);
    }
    node.shard.propose(Command::RemoveTopic(internal::RemoveTopic { topic: gone.to_bytes() })).await.unwrap();
    let repacked = node.worker.repack(0).await;
    assert_eq!(repacked.map_err(|error| error.code), Err(Code::CorruptData), "it is told of");
    let recs = node.recs();
    assert!(recs.len() == 2 && recs.iter().any(|meta| meta.id == packed[0].id), "{recs:?}");
    assert!(!recs.iter().any(|meta| meta.id == packed[1].id), "the second one is rewritten");
    assert!(node.worker.repack(0).await.is_ok(), "the first is not tried again in the same manifest");

    std::fs::write(&damaged, whole).unwrap();
    node.append(kept, 4).await;
    node.worker.roll(0).await.unwrap();
    node.worker.repack(0).await.unwrap();
    assert!(!node.recs().iter().any(|meta| meta.id == packed[0].id), "it can be read again");
    node.check(kept, 12);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_was_not_needed_has_no_size() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir).await;
    let mut care = Care::new(Member::Shard(node.shard.clone()), None);
    care.snapshot_taken(700);
    care.snapshot_taken(0);
    let view = care.view(&ReplayOptions::default(), std::time::Instant::now());
    assert_eq!(view.snapshot_bytes, 700);
    node.stop().await;
}
