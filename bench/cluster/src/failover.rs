//! The time without an acknowledgement after the leader is killed.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, Report, percentile};
use stratalog_client::{Client, OutRecord, ProducerOptions};

use crate::cluster::{Cluster, Site};
use crate::load::{TOPIC, ms, raw_topic};

/// One partition, so that every record needs the leader that is killed.
const PARTITIONS: u32 = 1;
const SHARDS: u32 = 4;
/// Between two records.
const PAUSE: Duration = Duration::from_millis(5);
/// After a kill, the first acknowledgement comes within this time.
const WATCH: Duration = Duration::from_secs(6);

type Times = Arc<Mutex<Vec<Instant>>>;

pub(crate) async fn run(site: &Site, kills: u32) -> Result<(), Failure> {
    let report = Report::new("failover");
    let mut cluster = Cluster::start(site, 3, SHARDS).await?;
    let client = cluster.client().await?;
    raw_topic(&client, TOPIC, PARTITIONS).await?;
    let shard = client.describe_topic(TOPIC).await?.partitions.first().map_or(1, |partition| partition.shard);
    let times = Times::default();
    let writing = tokio::spawn(write(client, times.clone()));
    let mut gaps = Vec::new();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let leader = cluster.leader(shard).await?;
        let killed = Instant::now();
        cluster.kill(leader)?;
        tokio::time::sleep(WATCH).await;
        gaps.push(gap(&times, killed).as_micros() as u32);
        cluster.launch(leader)?;
        cluster.wait_whole().await?;
    }
    writing.abort();
    report.figure("kills of the leader", f64::from(kills), "");
    report.figure("without an acknowledgement, p50", ms(percentile(&mut gaps, 0.5)), "ms");
    report.goal("without an acknowledgement, p99", ms(percentile(&mut gaps, 0.99)), "ms", Goal::AtMost(2_000.0));
    Ok(())
}

/// One record after the other, many in flight; notes when each is acknowledged.
async fn write(client: Client, times: Times) -> Result<(), Failure> {
    let options = ProducerOptions { linger: Duration::ZERO, ..ProducerOptions::default() };
    let producer = client.producer(TOPIC, options).await?;
    let mut ticks = tokio::time::interval(PAUSE);
    loop {
        ticks.tick().await;
        let (delivery, times) = (producer.send(OutRecord::new("failover")).await?, times.clone());
        tokio::spawn(async move {
            if delivery.await.is_ok() {
                times.lock().expect("nobody panics with it").push(Instant::now());
            }
        });
    }
}

/// The longest pause between two acknowledgements since `from`.
fn gap(times: &Times, from: Instant) -> Duration {
    let mut since: Vec<Instant> = times.lock().expect("nobody panics with it").clone();
    since.retain(|time| *time >= from);
    since.extend([from, Instant::now()]);
    since.sort();
    since.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}
