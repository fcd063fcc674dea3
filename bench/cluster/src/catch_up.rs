//! A fresh node gets the replicas of another, beside a load.

use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, RECORD_BYTES, Report, mb_per_s};

use crate::cluster::{Cluster, Site};
use crate::load::{Paced, TOPIC, produce, raw_topic, tell};

const PARTITIONS: u32 = 16;
const SHARDS: u32 = 4;
const PACE: f64 = 5e6;

pub(crate) async fn run(site: &Site, bytes: u64, length: Duration) -> Result<(), Failure> {
    let report = Report::new("catch-up");
    let mut cluster = Cluster::start(site, 3, SHARDS).await?;
    let client = cluster.client().await?;
    raw_topic(&client, TOPIC, PARTITIONS).await?;
    produce(client.clone(), 0, bytes / RECORD_BYTES as u64, 1_000).await?;

    let paced = Paced::begin(client.clone(), PACE).await;
    tokio::time::sleep(length).await;
    let alone = tell(&report, "acknowledgement at 5 MB/s", &mut paced.end().await?);

    let fresh = cluster.add()?;
    cluster.wait_whole().await?;
    let paced = Paced::begin(client.clone(), PACE).await;
    let started = Instant::now();
    client.drain_node(3, false).await?;
    // Metadata stays on every node as long as it is in the cluster.
    let moved = |node: u64, shard: &stratalog_proto::v1::ClusterShard| {
        let has = |node: u64| shard.replicas.iter().any(|replica| replica.node == node);
        shard.shard == 0 || (!has(3) && has(node) && shard.replicas.iter().all(|replica| replica.role == "voter"))
    };
    cluster.wait("node 3 is drained", |status| status.shards.iter().all(|shard| moved(fresh, shard))).await?;
    let took = started.elapsed();
    let beside = tell(&report, "acknowledgement at 5 MB/s while a replica catches up", &mut paced.end().await?);
    report.goal("a fresh node gets everything", mb_per_s(bytes, took), "MB/s", Goal::AtLeast(150.0));
    report.goal("p99 beside it", beside / alone, "times", Goal::AtMost(2.0));
    Ok(())
}
