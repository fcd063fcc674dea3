//! `kill -9`, SIGTERM, and all at once.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::trial::{Load, kill_for, light, under_load};

/// Nobody wants more than one node to lose a leader; a restart and its elections on a busy machine take a while.
const BETWEEN: Duration = Duration::from_millis(1500);

#[test]
fn l1_kill_of_leaders_loses_nothing() {
    under_load(light("leaders"), 2, |cluster, ledger, round| {
        ledger.wait_for(cluster, 300);
        let leader = cluster.leader_of(1 + (round % 4) as u32);
        let before = Instant::now();
        cluster.kill(leader);
        ledger.wait_for(cluster, 300);
        eprintln!("round {round}: node {leader} was killed, no acknowledgement for {:?}", ledger.longest_gap(before));
        cluster.launch(leader);
        cluster.wait_whole();
    });
}

#[test]
fn l1_kill_of_followers_stops_nobody() {
    under_load(light("followers"), 1, |cluster, ledger, _| {
        let leader = cluster.leader_of(1);
        let follower = cluster.numbers().into_iter().find(|number| *number != leader).unwrap();
        cluster.kill(follower);
        ledger.wait_for(cluster, 1000);
        cluster.launch(follower);
        cluster.wait_whole();
    });
}

#[test]
fn l1_kill_of_all_nodes_loses_nothing() {
    under_load(light("all"), 2, |cluster, ledger, _| {
        ledger.wait_for(cluster, 500);
        let all = cluster.numbers();
        kill_for(cluster, &all, Duration::ZERO);
        ledger.wait_for(cluster, 300);
    });
}

/// Kills that come whenever they come: in the middle of a roll, a seal, a merge, the fetch of a segment, a snapshot.
#[test]
fn l1_s2_kills_in_the_middle_of_background_work() {
    under_load(Load { writers: 3, ..light("work") }, 3, |cluster, _, round| {
        sleep(Duration::from_millis(700 + 311 * (round % 7)));
        kill_for(cluster, &[1 + round % 3], BETWEEN);
    });
}

#[test]
fn a_rolling_restart_under_load_refuses_nothing() {
    under_load(light("rolling"), 1, |cluster, ledger, _| {
        for number in cluster.numbers() {
            ledger.wait_for(cluster, 200);
            let before = Instant::now();
            cluster.stop(number);
            cluster.launch(number);
            cluster.wait_whole();
            ledger.refused_nothing();
            eprintln!("restart of node {number}: no acknowledgement for {:?}", ledger.longest_gap(before));
        }
    });
}
