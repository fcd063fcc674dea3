//! What nodes with many partitions take while nobody asks anything.

use std::time::Duration;

use stratalog_bench_log::{Failure, Goal, Node, Report};

use crate::cluster::{Cluster, Site};
use crate::load::{TOPIC, raw_topic};

const PARTITIONS: u32 = 10_000;
const SHARDS: u32 = 16;
/// What follows the making of the topic is over by then.
const REST: Duration = Duration::from_secs(15);

pub(crate) async fn run(site: &Site, length: Duration) -> Result<(), Failure> {
    let report = Report::new("idle");
    for count in [1, 3] {
        measure(site, &report, count, length).await?;
    }
    Ok(())
}

async fn measure(site: &Site, report: &Report, count: usize, length: Duration) -> Result<(), Failure> {
    let cluster = Cluster::start(site, count, SHARDS).await?;
    raw_topic(&cluster.client().await?, TOPIC, PARTITIONS).await?;
    tokio::time::sleep(REST).await;
    let before: Vec<Duration> = cluster.nodes().map(Node::cpu).collect::<Result<_, _>>()?;
    tokio::time::sleep(length).await;
    for (at, (node, before)) in cluster.nodes().zip(before).enumerate() {
        let part = (node.cpu()? - before).as_secs_f64() / length.as_secs_f64() * 100.0;
        let name = |what: &str| format!("node {} of {count}, 10,000 partitions: {what}", at + 1);
        report.goal(&name("idle"), part, "% of a core", Goal::AtMost(2.0));
        report.figure(&name("memory"), node.memory_bytes()?.0 as f64 / 1e6, "MB");
    }
    Ok(())
}
