//! Power cuts at every step that the disk takes in an install and in a release.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use stratalog_proto::RaftIndex;
use stratalog_storage::simulation::{Op, SimDisk};
use tokio::time::{Duration, sleep};

use super::cluster::{Cluster, simulate};
use super::installs::{behind, install};
use super::machine::Segments;
use super::network::ChannelNetwork;
use super::replica::Replica;

pub(super) type Entries = BTreeMap<u64, (u64, Bytes)>;

/// What is left after a power cut before each change of a disk, from now on.
pub(super) fn record_power_cuts(disk: &SimDisk) -> Arc<Mutex<Vec<SimDisk>>> {
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let (recorded, cut) = (Arc::clone(&cuts), disk.clone());
    disk.set_fault(move |op, _| {
        if op != Op::View {
            recorded.lock().push(cut.after_power_cut_by_seed());
        }
        Ok(())
    });
    cuts
}

/// The entries of a replica's log: term and payload by index.
pub(super) fn entries(replica: &Replica) -> Entries {
    let held = replica.log().window(0..u64::MAX, usize::MAX).unwrap();
    held.into_iter().map(|(entry, payload)| (entry.index, (entry.term, payload))).collect()
}

/// Recovers what a power cut left, twice, and checks that it has all that was durable: in the log, or below the frontier
/// of its state.
async fn recover(id: u64, disk: SimDisk, segments: &Segments, durable: &Entries) -> (RaftIndex, u64) {
    let mut left = disk;
    let mut found = Vec::new();
    for _ in 0..2 {
        let alone = ChannelNetwork::new(0);
        let replica = Replica::start(id, left, Arc::clone(segments), alone).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        let held = entries(&replica);
        let frontier = replica.log().snapshot_frontier();
        for (index, entry) in durable.iter().filter(|(index, _)| **index > frontier.0) {
            assert_eq!(held.get(index), Some(entry), "L1: entry {index}, which was durable, above {frontier}");
        }
        let restored = replica.machine.applied();
        assert!((frontier.0 + 1..=restored.0).all(|index| held.contains_key(&index)), "L4: {frontier} to {restored}");
        found.push((restored, replica.log().last_index().unwrap_or(0)));
        left = replica.crash(true).await.0;
    }
    assert_eq!(found[0], found[1], "what was recovered is durable");
    found[0]
}

async fn install_is_atomic(seed: u64, over_frontier: bool) {
    let (mut cluster, leader, behind) = behind(seed, over_frontier).await;
    cluster.network.isolate(behind);
    let durable = entries(cluster.at(behind));
    let before = cluster.at(behind).machine.read(|state| state.replay_frontier());
    let cuts = record_power_cuts(&cluster.at(behind).disk);
    install(&cluster, leader, behind).await;
    cluster.at(behind).disk.clear_fault();
    let installed = cluster.at(behind).machine.applied();
    let segments = Arc::clone(&cluster.at(behind).segments);
    cuts.lock().push(cluster.at(behind).disk.after_power_cut_by_seed());
    let cuts = std::mem::take(&mut *cuts.lock());
    assert!(cuts.len() >= 8, "{} steps", cuts.len());
    let mut ends = std::collections::BTreeSet::new();
    for cut in cuts {
        let (restored, _) = recover(behind, cut, &segments, &durable).await;
        assert!(restored == installed || restored <= before, "either the old state or the new one, not {restored}");
        ends.insert(restored);
    }
    assert!(ends.len() > 1, "both were seen");
    cluster.settle().await;
    cluster.check();
}

#[test]
fn l1_a_power_cut_at_any_step_of_an_install_leaves_the_log_before_it_or_the_snapshot() {
    (0..3).for_each(|seed| simulate(install_is_atomic(seed, true)));
    (0..3).for_each(|seed| simulate(install_is_atomic(seed, false)));
}

#[test]
fn l4_a_power_cut_at_any_step_of_a_release_leaves_a_log_that_its_state_file_continues() {
    simulate(async {
        let mut cluster = Cluster::start(9).await;
        // Enough for several files of the lane.
        cluster.produce_some(300).await;
        cluster.roll(1).await.unwrap();
        cluster.produce_some(5).await;
        let leader = cluster.leader().unwrap();
        cluster.at(leader).compact().await.unwrap();
        cluster.produce_some(300).await;
        cluster.roll(2).await.unwrap();
        let durable = entries(cluster.at(leader));
        let (log, segments) = (cluster.at(leader).log().clone(), Arc::clone(&cluster.at(leader).segments));
        log.all_durable().await.unwrap();
        let cuts = record_power_cuts(&cluster.at(leader).disk);
        cluster.at(leader).compact().await.unwrap();
        cluster.produce_some(40).await;
        cluster.at(leader).disk.clear_fault();
        let cuts = std::mem::take(&mut *cuts.lock());
        for cut in cuts.into_iter().step_by(3) {
            recover(leader, cut, &segments, &durable).await;
        }
        cluster.settle().await;
        cluster.check();
    });
}
