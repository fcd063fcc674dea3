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
/// Before a kill, and behind the pause after it, records are acknowledged for so long.
const STEADY: Duration = Duration::from_secs(1);
/// A pause that lasts so long is a failure.
const LOST: Duration = Duration::from_secs(60);
/// A single node is killed so often, for comparison.
const KILLS_OF_ONE: u32 = 5;

type Times = Arc<Mutex<Vec<Instant>>>;

pub(crate) async fn run(site: &Site, kills: u32) -> Result<(), Failure> {
    let report = Report::new("failover");
    let mut alone = measure(site, 1, kills.min(KILLS_OF_ONE)).await?;
    let name = "1 node, started again at once: without an acknowledgement";
    report.figure(&format!("{name}, p50"), ms(percentile(&mut alone, 0.5)), "ms");
    let mut gaps = measure(site, 3, kills).await?;
    let name = format!("3 nodes, {kills} kills of the leader: without an acknowledgement");
    report.figure(&format!("{name}, p50"), ms(percentile(&mut gaps, 0.5)), "ms");
    report.goal(&format!("{name}, p99"), ms(percentile(&mut gaps, 0.99)), "ms", Goal::AtMost(2_000.0));
    report.figure(&format!("{name}, the longest"), ms(percentile(&mut gaps, 1.0)), "ms");
    Ok(())
}

/// The longest pause after each kill, in microseconds.
async fn measure(site: &Site, nodes: usize, kills: u32) -> Result<Vec<u32>, Failure> {
    let mut cluster = Cluster::start(site, nodes, SHARDS).await?;
    let client = cluster.client().await?;
    raw_topic(&client, TOPIC, PARTITIONS).await?;
    let shard = client.describe_topic(TOPIC).await?.partitions.first().map_or(1, |partition| partition.shard);
    let times = Times::default();
    let writing = tokio::spawn(write(client, times.clone()));
    let mut gaps = Vec::new();
    for _ in 0..kills {
        tokio::time::sleep(STEADY).await;
        let leader = cluster.leader(shard).await?;
        let killed = Instant::now();
        cluster.kill(leader)?;
        if nodes == 1 {
            cluster.launch(leader)?;
        }
        resumed(&times, killed).await?;
        gaps.push(gap(&times, killed).as_micros() as u32);
        if nodes > 1 {
            cluster.launch(leader)?;
        }
        cluster.wait_whole().await?;
    }
    writing.abort();
    Ok(gaps)
}

/// Waits until records are acknowledged again, and have been for a while.
async fn resumed(times: &Times, killed: Instant) -> Result<(), Failure> {
    while killed.elapsed() < LOST {
        tokio::time::sleep(STEADY / 4).await;
        let now = Instant::now();
        let since =
            |from: Instant| times.lock().expect("nobody panics with it").iter().filter(|time| **time >= from).count();
        let expected = (STEADY.as_secs_f64() / PAUSE.as_secs_f64()) as usize;
        if now - killed >= 2 * STEADY && since(now - STEADY) * 2 >= expected {
            return Ok(());
        }
    }
    Err(Failure(format!("nothing is acknowledged {LOST:?} after a kill")))
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
