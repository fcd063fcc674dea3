//! Durable produce through the SDK: one node, then three, whose disks are one.

use std::time::Instant;

use stratalog_bench_log::{Failure, RECORD_BYTES, Report, mb_per_s, own_cpu, raw};

use crate::cluster::{Cluster, Site};
use crate::load::{TOPIC, produce, raw_topic, tell};

const PARTITIONS: u32 = 16;
const SHARDS: u32 = 4;
const PRODUCERS: u64 = 2;
const TIMED_EACH: u64 = 500;
/// The baseline writes so much.
const RAW_BYTES: u64 = 1 << 30;
const RAW_BLOCK: usize = 1 << 20;

pub(crate) async fn run(site: &Site, bytes: u64) -> Result<(), Failure> {
    let report = Report::new("produce");
    let one = measure(site, &report, 1, bytes).await?;
    let disk = raw::steady(|| {
        Ok(mb_per_s(RAW_BYTES, raw::write_and_sync(&site.dir, RAW_BLOCK, RAW_BYTES / RAW_BLOCK as u64)?))
    })?;
    let three = measure(site, &report, 3, bytes).await?;
    report.figure("raw write + fdatasync of 1 MiB", disk, "MB/s");
    report.figure(
        "3 nodes: of what the disk takes if each byte goes there three times",
        three / (disk / 3.0) * 100.0,
        "%",
    );
    report.figure("3 nodes of 1 node", three / one * 100.0, "%");
    Ok(())
}

/// Megabytes of records that were acknowledged a second.
async fn measure(site: &Site, report: &Report, nodes: usize, bytes: u64) -> Result<f64, Failure> {
    let cluster = Cluster::start(site, nodes, SHARDS).await?;
    let client = cluster.client().await?;
    raw_topic(&client, TOPIC, PARTITIONS).await?;
    let records = bytes / RECORD_BYTES as u64 / PRODUCERS;
    let (cpu, own, started) = (cluster.cpu()?, own_cpu()?, Instant::now());
    let producing = (0..PRODUCERS).map(|seed| tokio::spawn(produce(client.clone(), seed, records, TIMED_EACH)));
    let mut times = Vec::new();
    for producer in producing.collect::<Vec<_>>() {
        times.extend(producer.await.map_err(|error| Failure(error.to_string()))??);
    }
    let produced = records * PRODUCERS * RECORD_BYTES as u64;
    let (speed, gigabytes) = (mb_per_s(produced, started.elapsed()), produced as f64 / 1e9);
    let name = |what: &str| format!("{nodes} node{}: {what}", if nodes == 1 { "" } else { "s" });
    report.figure(&name("acknowledged"), speed, "MB/s");
    tell(report, &name("acknowledgement"), &mut times);
    report.figure(&name("processor time of all nodes"), (cluster.cpu()? - cpu).as_secs_f64() / gigabytes, "s/GB");
    report.figure(&name("processor time of the client"), (own_cpu()? - own).as_secs_f64() / gigabytes, "s/GB");
    Ok(speed)
}
