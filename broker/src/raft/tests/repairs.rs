//! Logs that are damaged where they were durable: what others have comes again, and nobody votes who has lost it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft::raft::VoteRequest;
use stratalog_proto::Code;
use stratalog_storage::simulation::SimDisk;
use stratalog_storage::{DamagedLane, Io, LaneOptions};
use tokio::time::{sleep, timeout};

use super::cluster::{ALL, Cluster, simulate};
use super::crashes::{Entries, entries, record_power_cuts};
use super::network::ChannelNetwork;
use super::replica::Replica;
use crate::raft::types::{Vote, log_id};
use crate::raft::wire::Request;

/// The files of a lane, with their bytes.
fn lane_files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let of_lane = |path: &PathBuf| path.starts_with("/lane") && path.extension().is_some_and(|found| found == "log");
    let paths = disk.paths().into_iter().filter(of_lane);
    paths.map(|path| (path.clone(), disk.edit(&path, |bytes| bytes.clone()))).collect()
}

/// Flips a bit of a lane, so far from its start in hundredths of what is written in it, or a little behind: where it matters.
fn damage(disk: &SimDisk, hundredths: usize) {
    let used: Vec<(PathBuf, usize)> = lane_files(disk)
        .into_iter()
        .filter_map(|(path, bytes)| Some((path, bytes.iter().rposition(|byte| *byte != 0)? + 1)))
        .collect();
    let whole = used.iter().map(|(_, used)| used).sum::<usize>();
    for flipped in (whole * hundredths / 100..whole).step_by(24) {
        let mut at = flipped;
        let (path, _) = used
            .iter()
            .find(|(_, used)| {
                *used > at || {
                    at -= used;
                    false
                }
            })
            .unwrap();
        disk.edit(path, |bytes| bytes[at] ^= 4);
        let io: Arc<dyn Io> = Arc::new(disk.clone());
        if DamagedLane::look(&io, Path::new("/lane"), &LaneOptions::default()).unwrap().is_some() {
            return;
        }
        // Padding holds nothing.
        disk.edit(path, |bytes| bytes[at] ^= 4);
    }
    panic!("nothing behind {hundredths} hundredths matters");
}

/// Waits until a replica lacks nothing any more.
async fn until_told(cluster: &Cluster, id: u64) {
    let told = async {
        while cluster.at(id).log().is_doubted() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(30), told).await.expect("a leader tells");
    assert!(!cluster.at(id).log().is_lost());
}

/// Whether a replica lacks a part of its log, and gives nobody its vote.
async fn is_silent(cluster: &Cluster, id: u64) -> bool {
    let group = &cluster.at(id).group;
    let ask = VoteRequest::new(Vote::new(1_000, 1), Some(log_id(999, 999)));
    let refused = group.answer(Request::PreVote(ask.clone()).encode()).await.is_err()
        && group.answer(Request::Vote(ask).encode()).await.is_err();
    group.log().is_lost() && group.log().is_doubted() && refused
}

/// All entries that two replicas both hold are the same, byte for byte, and they end together.
fn assert_same(one: &Replica, other: &Replica) {
    let (one, other): (Entries, Entries) = (entries(one), entries(other));
    let from = *one.keys().next().unwrap().max(other.keys().next().unwrap());
    let end = *one.keys().last().unwrap().min(other.keys().last().unwrap());
    assert!(from <= end);
    let within =
        |all: &Entries| all.range(from..=end).map(|(index, entry)| (*index, entry.clone())).collect::<Entries>();
    assert_eq!(within(&one), within(&other));
}

/// One of three is damaged while it does not run; it comes back and has everything, whoever led.
async fn one_of_three(seed: u64, leads: bool, compacted: usize, hundredths: usize) {
    let (mut cluster, leader) = Cluster::agreed(seed, 30).await;
    for round in 0..compacted {
        cluster.roll(round as u64 + 1).await.unwrap();
        cluster.produce_some(20).await;
        cluster.agree(&ALL).await;
        for id in ALL {
            cluster.at(id).compact().await.unwrap();
        }
        cluster.produce_some(20).await;
        cluster.agree(&ALL).await;
    }
    let victim = if leads { leader } else { ALL.into_iter().find(|id| *id != leader).unwrap() };
    cluster.crash(victim, true).await;
    let disk = cluster.disk_of(victim);
    damage(&disk, hundredths);
    let before = lane_files(&disk);
    cluster.produce_some(5).await;
    cluster.restart(victim).await.unwrap();
    assert!(is_silent(&cluster, victim).await, "{hundredths}: L1: what is lost may have been acknowledged");
    let kept: Vec<Vec<u8>> = lane_files(&cluster.at(victim).disk).into_values().collect();
    let damaged = before.values().filter(|bytes| !kept.contains(bytes)).count();
    assert_eq!(damaged, 0, "{hundredths}: L5: no damaged file is written over");
    cluster.settle().await;
    until_told(&cluster, victim).await;
    let other = cluster.leader().filter(|leader| *leader != victim).unwrap_or(ALL[usize::from(victim == ALL[0])]);
    assert_same(cluster.at(victim), cluster.at(other));
    cluster.check();
    // And it stays so.
    cluster.crash(victim, true).await;
    cluster.restart(victim).await.unwrap();
    assert!(!cluster.at(victim).log().is_lost());
    cluster.settle().await;
    cluster.check();
}

#[test]
fn l5_a_log_that_is_damaged_in_its_middle_comes_again_from_the_others() {
    for (seed, hundredths) in (60..).zip([10, 30, 60, 95]) {
        for leads in [false, true] {
            simulate(one_of_three(seed, leads, 0, hundredths));
        }
    }
}

#[test]
fn l5_a_log_whose_state_needs_what_is_damaged_comes_again_with_a_state() {
    for (seed, hundredths) in (70..).zip([0, 20, 45, 70, 90]) {
        simulate(one_of_three(seed, seed % 2 == 0, 1 + seed as usize % 2, hundredths));
    }
}

#[test]
fn l5_a_damaged_log_of_which_nobody_else_votes_keeps_its_replica_from_starting_and_is_not_changed() {
    simulate(async {
        for hundredths in [2, 50, 90] {
            let mut cluster = Cluster::start_alone(61).await;
            cluster.produce_some(20).await;
            cluster.crash(1, true).await;
            let disk = cluster.disk_of(1);
            damage(&disk, hundredths);
            let before: Vec<_> =
                disk.paths().iter().map(|path| (path.clone(), disk.edit(path, |bytes| bytes.clone()))).collect();
            let error = cluster.restart(1).await.unwrap_err();
            assert_eq!(error.code, Code::CorruptData);
            assert!(error.message.contains("offset") && error.message.contains("Nothing was changed"), "{error}");
            let after: Vec<_> =
                disk.paths().iter().map(|path| (path.clone(), disk.edit(path, |bytes| bytes.clone()))).collect();
            assert!(before == after, "L5: something was changed");
        }
    });
}

/// Two of three are damaged, and the third never had the end: nobody leads until the files of one are put back.
async fn two_of_three(seed: u64, compact: bool) {
    let (mut cluster, holds) = Cluster::agreed(seed, 20).await;
    if compact {
        cluster.roll(1).await.unwrap();
        cluster.agree(&ALL).await;
        for id in ALL {
            cluster.at(id).compact().await.unwrap();
        }
    }
    let [held, never_had] =
        <[u64; 2]>::try_from(ALL.into_iter().filter(|id| *id != holds).collect::<Vec<_>>()).unwrap();
    cluster.network.isolate(never_had);
    cluster.produce_some(5).await;
    cluster.agree(&[holds, held]).await;
    for id in ALL {
        cluster.crash(id, false).await;
    }
    cluster.network.heal();
    let copies = [holds, held].map(|id| (id, cluster.disk_of(id).after_kill()));
    for (id, _) in &copies {
        damage(&cluster.disk_of(*id), 50);
    }
    for id in ALL {
        cluster.restart(id).await.unwrap();
    }
    for (id, _) in &copies {
        assert!(is_silent(&cluster, *id).await);
    }
    for _ in 0..2 {
        sleep(Duration::from_secs(60)).await;
        assert_eq!(cluster.leader(), None, "L1: one that never had the records leads");
        cluster.crash(held, true).await;
        cluster.restart(held).await.unwrap();
    }
    for (id, _) in &copies {
        assert!(is_silent(&cluster, *id).await);
    }
    let (id, copy) = copies.into_iter().next().unwrap();
    cluster.crash(id, false).await;
    cluster.set_disk(id, copy);
    cluster.restart(id).await.unwrap();
    let leader = timeout(Duration::from_secs(30), cluster.new_leader(0)).await.expect("two have what they had");
    assert_eq!(leader, id);
    cluster.settle().await;
    until_told(&cluster, held).await;
    cluster.check();
}

#[test]
fn l1_of_three_of_which_two_are_damaged_none_leads_until_what_one_of_them_had_is_put_back() {
    simulate(two_of_three(62, false));
    simulate(two_of_three(63, true));
}

/// The power is cut before each change that a start over a damaged lane makes, and once more in the start after that.
async fn cut_at_any_step(seed: u64, compact: bool) {
    let (mut cluster, leader) = Cluster::agreed(seed, 30).await;
    let victim = ALL.into_iter().find(|id| *id != leader).unwrap();
    if compact {
        cluster.roll(1).await.unwrap();
        cluster.produce_some(10).await;
        cluster.agree(&ALL).await;
        cluster.at(victim).compact().await.unwrap();
        cluster.produce_some(10).await;
        cluster.agree(&ALL).await;
    }
    cluster.crash(victim, true).await;
    let disk = cluster.disk_of(victim);
    damage(&disk, 40);
    let before = lane_files(&disk);
    let mut left = vec![disk.after_kill()];
    let mut steps = 0;
    for depth in 0..2 {
        let mut next = Vec::new();
        // Of the second time, some.
        for disk in left.into_iter().step_by(1 + 6 * depth) {
            let cuts = record_power_cuts(&disk);
            let segments = cluster.segments_of(victim);
            let replica = Replica::start(victim, disk.clone(), segments, ChannelNetwork::new(0)).await.unwrap();
            assert!(replica.log().is_lost(), "L1: what was cut may have been acknowledged");
            sleep(Duration::from_millis(20)).await;
            disk.clear_fault();
            let kept: Vec<Vec<u8>> = lane_files(&disk).into_values().collect();
            assert!(before.values().all(|bytes| kept.contains(bytes)), "L5: a damaged file is gone");
            replica.crash(true).await;
            next.append(&mut cuts.lock());
        }
        steps += next.len();
        left = next;
    }
    assert!(steps > 40, "{steps} steps");
    let last = left.pop().unwrap();
    cluster.set_disk(victim, last);
    cluster.restart(victim).await.unwrap();
    cluster.settle().await;
    cluster.check();
}

#[test]
fn l1_a_power_cut_at_any_step_of_a_repair_leaves_a_replica_that_does_not_vote() {
    simulate(cut_at_any_step(64, false));
    simulate(cut_at_any_step(65, true));
}

#[test]
fn what_was_set_aside_is_where_it_is_said_to_be() {
    simulate(async {
        let (mut cluster, leader) = Cluster::agreed(66, 10).await;
        cluster.crash(leader, false).await;
        damage(&cluster.disk_of(leader), 50);
        cluster.restart(leader).await.unwrap();
        let aside = Path::new("/lane/damaged/1");
        assert!(!cluster.at(leader).disk.list(aside).unwrap().is_empty());
        cluster.settle().await;
        cluster.check();
    });
}
