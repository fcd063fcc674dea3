//! Start of a node that was killed.

use std::path::Path;
use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, Node, Report, raw};
use stratalog_client::Client;

use crate::produce::TOPIC;

/// Kills the node and starts it again: with its files in memory, then with none of them.
pub(crate) async fn run(node: Node, binary: &Path) -> Result<(), Failure> {
    let report = Report::new("restart");
    let data = node.data().to_owned();
    let held: u64 =
        Client::connect(node.endpoint()).await?.describe_topic(TOPIC).await?.partitions.iter().map(|p| p.bytes).sum();
    report.figure("record batches in the log", held as f64 / 1e9, "GB");
    node.kill()?;
    let (node, took) = start(binary, &data).await?;
    report.goal("serves again after kill -9", took.as_secs_f64(), "s", Goal::AtMost(3.0));
    node.kill()?;
    for ending in [".log", ".rec", ".col", ".state"] {
        raw::forget(&raw::files(&data, ending)?)?;
    }
    let (_node, took) = start(binary, &data).await?;
    report.goal("serves again after kill -9, nothing in memory", took.as_secs_f64(), "s", Goal::AtMost(3.0));
    Ok(())
}

/// From the start of the process to its first answer about the topic.
async fn start(binary: &Path, data: &Path) -> Result<(Node, Duration), Failure> {
    let started = Instant::now();
    let node = Node::start(binary, data)?;
    Client::connect(node.endpoint()).await?.describe_topic(TOPIC).await?;
    Ok((node, started.elapsed()))
}
