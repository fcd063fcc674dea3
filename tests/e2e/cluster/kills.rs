//! `kill -9`, SIGTERM, and all at once.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::nodes::Cluster;
use super::{alone, rounds};

/// Nobody wants more than one node to lose a leader; a restart and its elections on a busy machine take a while.
const BETWEEN: Duration = Duration::from_millis(1500);

#[test]
fn l1_kill_of_leaders_loses_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start(3);
    let ledger = Ledger::begin(&cluster, "leaders", 2);
    for round in 0..rounds(2) {
        ledger.wait_for(&cluster, 300);
        let leader = cluster.leader_of(1 + (round % 4) as u32);
        let before = Instant::now();
        cluster.kill(leader);
        ledger.wait_for(&cluster, 300);
        eprintln!("round {round}: node {leader} was killed, no acknowledgement for {:?}", ledger.longest_gap(before));
        cluster.launch(leader);
        cluster.wait_whole();
    }
    ledger.check(&cluster);
}

#[test]
fn l1_kill_of_followers_stops_nobody() {
    let _alone = alone();
    let mut cluster = Cluster::start(3);
    let ledger = Ledger::begin(&cluster, "followers", 2);
    for _ in 0..rounds(1) {
        let leader = cluster.leader_of(1);
        let follower = cluster.numbers().into_iter().find(|number| *number != leader).unwrap();
        cluster.kill(follower);
        ledger.wait_for(&cluster, 1000);
        cluster.launch(follower);
        cluster.wait_whole();
    }
    ledger.check(&cluster);
}

#[test]
fn l1_kill_of_all_nodes_loses_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start(3);
    let ledger = Ledger::begin(&cluster, "all", 2);
    for _ in 0..rounds(2) {
        ledger.wait_for(&cluster, 500);
        cluster.numbers().into_iter().for_each(|number| cluster.kill(number));
        cluster.numbers().into_iter().for_each(|number| cluster.launch(number));
        cluster.wait_whole();
    }
    ledger.wait_for(&cluster, 300);
    ledger.check(&cluster);
}

/// Kills that come whenever they come: in the middle of a roll, a seal, a merge, the fetch of a segment, a snapshot.
#[test]
fn l1_s2_kills_in_the_middle_of_background_work() {
    let _alone = alone();
    let mut cluster = Cluster::start(3);
    let ledger = Ledger::begin(&cluster, "work", 3);
    for round in 0..rounds(3) {
        sleep(Duration::from_millis(700 + 311 * (round % 7)));
        let number = 1 + round % 3;
        cluster.kill(number);
        sleep(BETWEEN);
        cluster.launch(number);
        cluster.wait_whole();
    }
    ledger.check(&cluster);
}

#[test]
fn a_rolling_restart_under_load_refuses_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start(3);
    let ledger = Ledger::begin(&cluster, "rolling", 2);
    for _ in 0..rounds(1) {
        for number in cluster.numbers() {
            ledger.wait_for(&cluster, 200);
            let before = Instant::now();
            cluster.stop(number);
            cluster.launch(number);
            cluster.wait_whole();
            eprintln!("restart of node {number}: no acknowledgement for {:?}", ledger.longest_gap(before));
        }
    }
    ledger.check(&cluster);
}
