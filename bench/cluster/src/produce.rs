//! Durable produce through the SDK: one node, then three, whose disks are one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, RECORD_BYTES, Report, mb_per_s, own_cpu, raw};

use crate::cluster::{Cluster, Site, nodes};
use crate::load::{TOPIC, produce, raw_topic, tell};

const PARTITIONS: u32 = 16;
const SHARDS: u32 = 4;
const PRODUCERS: u64 = 2;
const TIMED_EACH: u64 = 500;
/// The baseline writes so much.
const RAW_BYTES: u64 = 1 << 30;
const RAW_BLOCK: usize = 1 << 20;
/// Threads that take less, in seconds a gigabyte, are not told of.
const WORTH_TELLING: f64 = 0.05;

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
    let before = Spent::now(&cluster)?;
    let producing = (0..PRODUCERS).map(|seed| tokio::spawn(produce(client.clone(), seed, records, TIMED_EACH)));
    let mut times = Vec::new();
    for producer in producing.collect::<Vec<_>>() {
        times.extend(producer.await.map_err(|error| Failure(error.to_string()))??);
    }
    let produced = records * PRODUCERS * RECORD_BYTES as u64;
    let speed = mb_per_s(produced, before.at.elapsed());
    let name = |what: &str| format!("{}: {what}", self::nodes(nodes));
    report.figure(&name("acknowledged"), speed, "MB/s");
    tell(report, &name("acknowledgement"), &mut times);
    before.report(report, &name, &Spent::now(&cluster)?, produced as f64 / 1e9);
    Ok(speed)
}

/// Processor time that was used up to a moment.
struct Spent {
    at: Instant,
    client: Duration,
    nodes: Duration,
    /// Of the nodes, by the names of their threads.
    threads: BTreeMap<String, Duration>,
}

impl Spent {
    fn now(cluster: &Cluster) -> Result<Self, Failure> {
        let (client, nodes, threads) = (own_cpu()?, cluster.cpu()?, cluster.cpu_by_thread()?);
        Ok(Self { at: Instant::now(), client, nodes, threads })
    }

    /// Tells what was used up to `later`, for each of so many gigabytes.
    fn report(&self, report: &Report, name: &impl Fn(&str) -> String, later: &Self, gigabytes: f64) {
        let tell = |what: &str, before: Duration, after: Duration| {
            report.figure(&name(what), after.saturating_sub(before).as_secs_f64() / gigabytes, "s/GB");
        };
        tell("processor time of the client", self.client, later.client);
        tell("processor time of all nodes", self.nodes, later.nodes);
        for (thread, after) in &later.threads {
            let before = self.threads.get(thread).copied().unwrap_or_default();
            if after.saturating_sub(before).as_secs_f64() / gigabytes >= WORTH_TELLING {
                tell(&format!("… in threads {thread}"), before, *after);
            }
        }
    }
}
