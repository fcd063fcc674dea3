//! Packets between nodes that do not arrive. Each node is in a network namespace of its own, which needs root.

use std::thread::sleep;
use std::time::Duration;

use super::ledger::Ledger;
use super::network::Network;
use super::nodes::Cluster;
use super::{alone, rounds};

const CUT_FOR: Duration = Duration::from_secs(6);

/// `None`, with a message, where there are no network namespaces.
fn cluster() -> Option<Cluster> {
    match Network::namespaces(&[1, 2, 3]) {
        Ok(network) => Some(Cluster::start_on(network, 3)),
        Err(why) => {
            eprintln!("skipped: no packets can be lost here: {why}");
            None
        }
    }
}

fn others(cluster: &Cluster, number: u64) -> Vec<u64> {
    cluster.numbers().into_iter().filter(|other| *other != number).collect()
}

#[test]
fn l1_a_leader_without_the_others_acknowledges_nothing_that_is_lost() {
    let _alone = alone();
    let Some(cluster) = cluster() else { return };
    let ledger = Ledger::begin(&cluster, "isolated", 2);
    for round in 0..rounds(1) {
        ledger.wait_for(&cluster, 300);
        let leader = cluster.leader_of(1 + (round % 4) as u32);
        let others = others(&cluster, leader);
        others.iter().for_each(|other| cluster.network.cut(leader, *other));
        others.iter().for_each(|other| cluster.network.cut(*other, leader));
        ledger.wait_for(&cluster, 300);
        sleep(CUT_FOR);
        others.iter().for_each(|other| cluster.network.mend(leader, *other));
        others.iter().for_each(|other| cluster.network.mend(*other, leader));
        cluster.wait_whole();
    }
    ledger.check(&cluster);
}

#[test]
fn l1_a_leader_that_is_heard_but_does_not_hear() {
    let _alone = alone();
    let Some(cluster) = cluster() else { return };
    let ledger = Ledger::begin(&cluster, "oneway", 2);
    for round in 0..rounds(1) {
        ledger.wait_for(&cluster, 300);
        let leader = cluster.leader_of(1 + (round % 4) as u32);
        let others = others(&cluster, leader);
        others.iter().for_each(|other| cluster.network.cut(*other, leader));
        sleep(CUT_FOR);
        ledger.wait_for(&cluster, 300);
        others.iter().for_each(|other| cluster.network.mend(*other, leader));
        cluster.wait_whole();
    }
    ledger.check(&cluster);
}

/// Each node reaches one that reaches all.
#[test]
fn l1_two_nodes_that_only_hear_of_each_other_through_the_third() {
    let _alone = alone();
    let Some(cluster) = cluster() else { return };
    let ledger = Ledger::begin(&cluster, "bridge", 2);
    for _ in 0..rounds(1) {
        ledger.wait_for(&cluster, 300);
        let leader = cluster.leader_of(1);
        let other = others(&cluster, leader)[0];
        cluster.network.cut(leader, other);
        cluster.network.cut(other, leader);
        sleep(CUT_FOR);
        ledger.wait_for(&cluster, 300);
        cluster.network.mend(leader, other);
        cluster.network.mend(other, leader);
        cluster.wait_whole();
    }
    ledger.check(&cluster);
}
