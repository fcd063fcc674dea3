//! Segments that rot while their node runs: a scrub finds them, and they come back from the other nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use stratalog_broker::{ReplayOptions, ScrubOptions};

use super::cluster::{Node, check, cluster_of, three, until};
use super::restarting::{again_with, figure, read, stop, until_ready, write};
use super::*;

/// Scrubs all the time, as fast as it goes, and rolls early.
fn scrubbing(options: BrokerOptions) -> BrokerOptions {
    let scrub = ScrubOptions { rate_bytes: u64::MAX, every: Duration::from_millis(100) };
    let replay = ReplayOptions { roll_bytes: 128 << 10, ..ReplayOptions::default() };
    BrokerOptions { scrub, replay, ..options }
}

fn large(n: u32) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(0, None, Some(format!("{{\"text\":\"{}\"}}", "x".repeat(20 << 10 | n as usize)).as_bytes()), &[]);
    builder.finish()
}

/// The segments of both shards with their bytes.
fn segments(dir: &TempDir) -> BTreeMap<PathBuf, Vec<u8>> {
    let of = |shard: u32| std::fs::read_dir(dir.path().join(format!("shards/{shard:04}/segments"))).unwrap();
    let paths = (1..=2).flat_map(of).map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "rec" || kind == "col");
    paths.filter(is_segment).filter_map(|path| Some((path.clone(), std::fs::read(&path).ok()?))).collect()
}

fn names(node: &Node) -> Vec<String> {
    segments(&node.dir).keys().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// A flipped bit, a lost end, or no file at all.
fn damage(path: &PathBuf, bytes: &[u8], number: usize) {
    match number % 3 {
        0 => {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            std::fs::write(path, bytes).unwrap();
        }
        1 => std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
        _ => std::fs::remove_file(path).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_segments_that_rot_on_one_node_are_found_by_a_scrub_and_fetched_again() {
    let nodes = three();
    stop(cluster_of(&nodes).await).await;
    let start = |node| again_with(move || scrubbing(Node::options(node)));
    let brokers = futures::future::join_all(nodes.iter().map(start)).await;
    until_ready(&brokers).await;
    brokers[0].create_topic("t", 4, TopicConfig::default()).await.unwrap();
    brokers[0].create_topic("large", 4, TopicConfig::default()).await.unwrap();
    let mut acknowledged = vec![Vec::new(); 4];
    write(&brokers, 0..20, &mut acknowledged).await;
    for n in 0..40 {
        brokers[0].produce("large", PartitionId(n % 4), large(n)).await.unwrap();
    }
    for topic in ["t", "large"] {
        brokers[0].seal_topic(topic).await.unwrap();
    }
    until("the same segments everywhere", || async {
        let names: Vec<_> = nodes.iter().map(names).collect();
        let has = |kind| names[0].iter().any(|name| name.ends_with(kind));
        check(names.iter().all(|of| *of == names[0]) && has(".rec") && has(".col"), names)
    })
    .await;

    let whole = segments(&nodes[1].dir);
    whole.iter().enumerate().for_each(|(number, (path, bytes))| damage(path, bytes, number));
    until("whole segments", || async {
        let is_whole = |(path, bytes): (&PathBuf, &Vec<u8>)| std::fs::read(path).is_ok_and(|now| now == *bytes);
        check(whole.iter().all(is_whole), whole.keys().filter(|path| !path.exists()).count())
    })
    .await;
    assert!(figure(&brokers[1], "stratalog_scrub_damaged_total") > 0, "L5: it is counted");
    for (partition, expected) in acknowledged.iter().enumerate() {
        assert_eq!(read(&brokers[1], partition as u32).await.unwrap(), *expected);
    }
    assert_eq!(count(&brokers[1], vec![]).await, 20);
    stop(brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_what_a_scrub_cannot_have_replaced_is_counted_and_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(scrubbing(options(&dir))).await.unwrap();
    broker.create_topic("large", 1, TopicConfig::default()).await.unwrap();
    for n in 0..20 {
        broker.produce("large", P0, large(n)).await.unwrap();
    }
    let replay = || segments(&dir).into_iter().find(|(path, _)| path.extension().is_some_and(|kind| kind == "rec"));
    until("a replay segment", || async { check(replay().is_some(), "there is none") }).await;
    let (path, bytes) = replay().unwrap();
    damage(&path, &bytes, 0);
    until("damage that is found", || async {
        let text = broker.metrics();
        check(text.contains("stratalog_scrub_damaged_total{kind=\"rec\"}"), text)
    })
    .await;
    assert!(path.exists() && broker.ready().is_ok());
    broker.produce("large", P0, large(20)).await.expect("all else goes on");
    broker.stop().await;
}
