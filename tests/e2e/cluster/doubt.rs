//! A node that may have lost the end of its log, while another one is gone for good.

use std::path::Path;

use super::alone;
use super::ledger::Ledger;
use super::nodes::Cluster;
use crate::harness::run;

const SECTOR: usize = 512;
/// Every write of the log ends with such a mark, at the end of a sector.
const MARK: usize = 8;
/// So many bytes of the last frame are lost with it.
const LOST: usize = 16;

/// The last write to the log of a node that is stopped loses its end, as if that had never reached the medium.
fn lose_end(data: &Path) {
    let files = std::fs::read_dir(data.join("lanes/0")).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|found| found == "log")).collect();
    logs.sort();
    let lost = logs.iter().rev().find_map(|path| {
        let mut bytes = std::fs::read(path).unwrap();
        let used = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map(|last| last + 1);
        // The first sector says what file it is, and nothing more is in one that is prepared.
        let end = used(&bytes).filter(|end| *end > SECTOR)?;
        let frames = used(&bytes[..end - MARK])?;
        bytes[frames - LOST..end].fill(0);
        std::fs::write(path, bytes).unwrap();
        Some(())
    });
    lost.expect("the log has something");
}

/// What `cluster status` tells an operator to do, with the words of docs/OPERATIONS.md.
#[test]
fn l1_a_node_in_doubt_beside_a_lost_one_votes_when_an_operator_accepts_the_end_of_its_log() {
    let _alone = alone();
    let mut cluster = Cluster::start(3);
    let ledger = Ledger::begin(&cluster, "doubted", 2);
    ledger.wait_for(&cluster, 300);
    cluster.kill(3);
    std::fs::remove_dir_all(&cluster.member(3).data).unwrap();
    cluster.forget(3);
    // What is acknowledged now is on two nodes, of which one loses its last write.
    ledger.wait_for(&cluster, 300);
    cluster.kill(1);
    cluster.kill(2);
    let data = cluster.member(2).data.clone();
    lose_end(&data);
    cluster.launch(1);
    cluster.launch(2);
    cluster.wait("node 2 is shown to be in doubt", |cluster| {
        let status = cluster.status_of(2).ok_or("it does not answer")?;
        let mut replicas = status.shards.iter().flat_map(|shard| &shard.replicas);
        let is_shown = replicas.any(|replica| replica.node == 2 && replica.in_doubt);
        if is_shown { Ok(()) } else { Err("no replica of it is".into()) }
    });
    let log = |arguments: &[&str]| run(&[&["log"], arguments, &[data.to_str().unwrap(), "--force"]].concat(), b"");
    log(&["accept-end"]).failed(1);
    cluster.stop(2);
    let said = log(&["accept-end"]).ok().stdout;
    assert!(said.contains("counts as complete"), "{said}");
    cluster.launch(2);
    ledger.wait_for(&cluster, 300);
    cluster.run(&["cluster", "remove-node", "3", "--force"]).ok();
    cluster.add(4);
    cluster.launch(4);
    cluster.wait_whole();
    ledger.check(&cluster);
}
