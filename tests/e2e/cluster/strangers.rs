//! Nodes that a cluster does not want, and what it tells them.

use super::alone;
use super::nodes::Cluster;

/// Starts node 9 with these settings, and waits until its log tells of `words`.
fn told(cluster: &mut Cluster, settings: &str, words: &str) {
    cluster.add_with(9, settings);
    cluster.launch(9);
    cluster.wait(&format!("node 9 tells: {words}"), |cluster| {
        let told = cluster.told(9);
        if told.contains(words) { Ok(()) } else { Err(told) }
    });
    cluster.kill(9);
    std::fs::remove_dir_all(&cluster.member(9).data).expect("it was made");
    cluster.forget(9);
}

#[test]
fn strangers_are_refused_with_the_words_that_help() {
    let _alone = alone();
    let mut cluster = Cluster::start(1);
    told(&mut cluster, "secret = \"another secret, not theirs\"", "wrong cluster secret");
    told(&mut cluster, "advertise = \"127.0.0.1:9\"", "127.0.0.1:9");
    told(&mut cluster, "node_id = 1", "node 1");
    cluster.wait_whole();
}

#[test]
fn a_cluster_is_begun_once() {
    let _alone = alone();
    let cluster = Cluster::start(1);
    let refused = cluster.run(&["cluster", "init"]).failed(1);
    assert!(refused.contains("cluster"), "{refused}");
}

/// The directory of a node is lost, and a new one comes with its id.
#[test]
fn a_wiped_node_is_refused_under_its_old_id() {
    let _alone = alone();
    let mut cluster = Cluster::start(3);
    cluster.kill(3);
    std::fs::remove_dir_all(&cluster.member(3).data).unwrap();
    cluster.forget(3);
    cluster.add_with(3, "node_id = 3");
    cluster.launch(3);
    cluster.wait("the wiped node is told so", |cluster| {
        let told = cluster.told(3);
        if told.contains("wiped") { Ok(()) } else { Err(told) }
    });
    // Without the old id it is a new node, and the old one is given up.
    cluster.kill(3);
    let _ = std::fs::remove_dir_all(&cluster.member(3).data);
    cluster.forget(3);
    cluster.add(4);
    cluster.launch(4);
    cluster.wait("the new node is in the cluster", |cluster| {
        let status = cluster.status_of(4).ok_or("it does not answer")?;
        if status.nodes.iter().any(|node| node.node == 4) { Ok(()) } else { Err("it is not there".into()) }
    });
    cluster.run(&["cluster", "remove-node", "3", "--force"]).ok();
    cluster.wait_whole();
}
