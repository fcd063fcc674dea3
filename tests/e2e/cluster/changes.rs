//! Nodes that come and go while records are written.

use std::time::Duration;

use super::ledger::Ledger;
use super::nodes::Cluster;
use super::trial::{light, under_load};
use super::{alone, rounds};

#[test]
fn l1_l4_a_cluster_grows_and_shrinks_under_load() {
    let _alone = alone();
    let mut cluster = Cluster::start(1);
    let grows = Ledger::begin(&cluster, "grows", 2);
    grows.wait_for(&cluster, 500);
    for number in [2, 3] {
        cluster.add(number);
        cluster.launch(number);
    }
    cluster.wait_whole();
    grows.wait_for(&cluster, 500);
    grows.check(&cluster);
    // Its writers know three nodes, one of which will go.
    let shrinks = Ledger::begin(&cluster, "shrinks", 2);
    for number in [4, 5] {
        cluster.add(number);
        cluster.launch(number);
    }
    cluster.wait_whole();
    cluster.run(&["cluster", "drain", "1"]).ok();
    cluster.run(&["cluster", "remove-node", "1"]).ok();
    cluster.stop(1);
    cluster.forget(1);
    shrinks.wait_for(&cluster, 500);
    shrinks.check(&cluster);
}

/// A dead node is replaced by one with another id; at its old id an empty directory is refused.
#[test]
fn l1_a_dead_node_is_replaced_while_records_are_written() {
    under_load(light("replaced"), 1, |cluster, ledger, round| {
        let (dead, new) = (cluster.numbers()[0], 4 + round);
        ledger.wait_for(cluster, 300);
        cluster.kill(dead);
        cluster.add(new);
        cluster.launch(new);
        cluster.wait("the new node is in the cluster", |cluster| {
            let status = cluster.status_of(new).ok_or("it does not answer")?;
            if status.nodes.iter().any(|node| node.node == new) { Ok(()) } else { Err("it is not there".into()) }
        });
        cluster.run(&["cluster", "remove-node", &dead.to_string(), "--force"]).ok();
        cluster.forget(dead);
        cluster.wait_whole();
        ledger.wait_for(cluster, 300);
    });
}

/// Kills of either side while replicas move.
#[test]
fn l1_kills_during_a_membership_change() {
    let _alone = alone();
    let mut cluster = Cluster::start(3);
    let ledger = Ledger::begin(&cluster, "moves", 2);
    ledger.wait_for(&cluster, 1000);
    cluster.add(4);
    cluster.launch(4);
    for round in 0..rounds(2) {
        std::thread::sleep(Duration::from_millis(400 + 300 * (round % 5)));
        let number = [4, cluster.leader_of(1)][(round % 2) as usize];
        cluster.kill(number);
        std::thread::sleep(Duration::from_millis(500));
        cluster.launch(number);
    }
    cluster.wait_whole();
    cluster.run(&["cluster", "drain", "2"]).ok();
    cluster.wait_whole();
    ledger.wait_for(&cluster, 300);
    ledger.check(&cluster);
}
