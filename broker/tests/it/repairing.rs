//! Nodes whose logs were damaged while they did not run.

use std::path::PathBuf;

use stratalog_broker::ReplayOptions;

use super::cluster::{Node, check, check_replicas, cluster_of, three, until};
use super::restarting::{again_with, figure, stop, until_ready, write};
use super::*;

/// The files of a node's log.
fn log_files(node: &Node) -> Vec<PathBuf> {
    let names = std::fs::read_dir(node.dir.path().join("lanes/0")).unwrap();
    let mut paths: Vec<PathBuf> = names.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == "log"));
    paths.sort();
    paths
}

/// Flips bits, so far into what is written of the log in hundredths: of two sectors, one has more than padding.
fn damage(node: &Node, hundredths: usize) {
    let files: Vec<(PathBuf, Vec<u8>)> =
        log_files(node).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    let used = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut at = files.iter().map(|(_, bytes)| used(bytes)).sum::<usize>() * hundredths / 100;
    for (path, mut bytes) in files {
        let end = used(&bytes);
        if at < end {
            let at = at / 512 * 512;
            bytes[at..(at + 1024).min(end)].iter_mut().for_each(|byte| *byte ^= 0x10);
            return std::fs::write(path, bytes).unwrap();
        }
        at -= end;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_a_node_whose_log_is_damaged_gets_what_is_missing_from_the_others_and_keeps_the_damaged_files() {
    let nodes = three();
    stop(cluster_of(&nodes).await).await;
    let replay = ReplayOptions { roll_bytes: 256 << 10, ..ReplayOptions::default() };
    let options = |node: &Node| BrokerOptions { replay: replay.clone(), ..node.options() };
    let start = |node| again_with(move || options(node));
    let mut brokers = futures::future::join_all(nodes.iter().map(start)).await;
    until_ready(&brokers).await;
    brokers[0].create_topic("t", 4, TopicConfig::default()).await.unwrap();
    brokers[0].create_topic("more", 4, TopicConfig::default()).await.unwrap();
    let mut acknowledged = vec![Vec::new(); 4];
    // The first time before anything was rolled, then before and behind what the saved states need.
    for (round, hundredths) in [30, 15, 60].into_iter().enumerate() {
        let first = round as i64 * 40;
        write(&brokers, first..first + 20, &mut acknowledged).await;
        for n in 0..if round > 0 { 24 } else { 0 } {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.push(0, None, Some(&vec![n as u8; 40 << 10]), &[]);
            brokers[0].produce("more", PartitionId(n % 4), builder.finish()).await.unwrap();
        }
        brokers.remove(round).stop().await;
        damage(&nodes[round], hundredths);
        write(&brokers, first + 20..first + 30, &mut acknowledged).await;
        brokers.insert(round, start(&nodes[round]).await);
        assert!(figure(&brokers[round], "stratalog_lane_set_aside_bytes") > 0, "round {round}: it was damaged");
        until_ready(&brokers).await;
        until("leaders that have sent what was lost", || async {
            let lost = figure(&brokers[round], "stratalog_log_lost");
            check(lost == 0, format!("{lost} replicas lack something"))
        })
        .await;
        write(&brokers, first + 30..first + 40, &mut acknowledged).await;
        check_replicas(&brokers.iter().collect::<Vec<_>>(), &acknowledged).await;
    }
    drop(brokers);
    let brokers = futures::future::join_all(nodes.iter().map(start)).await;
    until_ready(&brokers).await;
    check_replicas(&brokers.iter().collect::<Vec<_>>(), &acknowledged).await;
    stop(brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_a_single_node_whose_log_is_damaged_does_not_start_and_changes_nothing() {
    let node = Node::new(&[]);
    let broker = node.start().await;
    broker.create_topic("t", 4, TopicConfig::default()).await.unwrap();
    write(std::slice::from_ref(&broker), 0..20, &mut vec![Vec::new(); 4]).await;
    stop(vec![broker]).await;
    damage(&node, 50);
    let before: Vec<Vec<u8>> = log_files(&node).into_iter().map(|path| std::fs::read(path).unwrap()).collect();
    let refused = loop {
        let error = Broker::start(node.options()).await.err().expect("nobody else has what it lacks");
        // A process that another test begins may have the lock for a moment.
        if error.code != Code::Unavailable {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(refused.code, Code::CorruptData, "{refused}");
    assert!(refused.message.contains(".log is damaged at offset"), "{refused}");
    let after: Vec<Vec<u8>> = log_files(&node).into_iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(before == after && !node.dir.path().join("lanes/0/damaged").exists());
    let marks = std::fs::read_dir(node.dir.path().join("lanes/0/votes")).unwrap();
    assert!(marks.map(|entry| entry.unwrap().path()).all(|path| path.extension().is_none_or(|found| found != "lost")));
}
