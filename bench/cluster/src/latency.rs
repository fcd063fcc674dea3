//! Acknowledgements at an even pace, far below what the machine can do.

use std::time::Duration;

use stratalog_bench_log::{Failure, Report};

use crate::cluster::{Cluster, Site, nodes};
use crate::load::{Paced, TOPIC, raw_topic, tell};

const PARTITIONS: u32 = 16;
const SHARDS: u32 = 4;
const PACE: f64 = 10e6;

pub(crate) async fn run(site: &Site, length: Duration) -> Result<(), Failure> {
    let report = Report::new("latency");
    for count in [1, 3] {
        let cluster = Cluster::start(site, count, SHARDS).await?;
        let client = cluster.client().await?;
        raw_topic(&client, TOPIC, PARTITIONS).await?;
        let paced = Paced::begin(client, PACE).await;
        tokio::time::sleep(length).await;
        tell(&report, &format!("{}: acknowledgement at 10 MB/s", nodes(count)), &mut paced.end().await?);
    }
    Ok(())
}
