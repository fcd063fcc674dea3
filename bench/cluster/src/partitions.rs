//! 10,000 partitions over 16 shards against 16 partitions, small batches from many tasks: on one node, then on three.

use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, Noise, Report};
use stratalog_client::{Client, Compression, OutRecord, ProducerOptions};
use stratalog_proto::PartitionId;

use crate::cluster::{Cluster, Site, nodes};
use crate::load::{raw_topic, tell};

const FEW: u32 = 16;
const MANY: u32 = 10_000;
const SHARDS: u32 = 16;
const TASKS: u32 = 64;
/// How often each is measured.
const TURNS: u32 = 2;
const WARM_UP: Duration = Duration::from_secs(2);

pub(crate) async fn run(site: &Site, length: Duration) -> Result<(), Failure> {
    let report = Report::new("partitions");
    for count in [1, 3] {
        let [few, many] = measure(site, &report, count, length).await?;
        let name = |what: &str| format!("{}: 10,000 of 16, {what}", nodes(count));
        let (throughput, p99) = (many.0 / few.0 * 100.0, many.1 / few.1);
        if count == 1 {
            report.figure(&name("throughput"), throughput, "%");
            report.figure(&name("p99"), p99, "times");
        } else {
            report.goal(&name("throughput"), throughput, "%", Goal::AtLeast(80.0));
            report.goal(&name("p99"), p99, "times", Goal::AtMost(1.5));
        }
    }
    Ok(())
}

/// Records a second and p99 in milliseconds, of few partitions and of many: alternating, twice each, the means, since the disk
/// is not the same for long.
async fn measure(site: &Site, report: &Report, count: usize, length: Duration) -> Result<[(f64, f64); 2], Failure> {
    let cluster = Cluster::start(site, count, SHARDS).await?;
    let client = cluster.client().await?;
    let topics = [("few", FEW), ("many", MANY)];
    for (name, partitions) in topics {
        raw_topic(&client, name, partitions).await?;
        write(&client, name, partitions, WARM_UP).await?;
    }
    let mut measured = [(0.0, 0.0); 2];
    for _ in 0..TURNS {
        for ((name, partitions), sum) in topics.into_iter().zip(&mut measured) {
            let started = Instant::now();
            let mut times = write(&client, name, partitions, length / TURNS).await?;
            let speed = times.len() as f64 / started.elapsed().as_secs_f64();
            let name = |what| format!("{}, {partitions} partitions: {what}", nodes(count));
            report.figure(&name("acknowledged"), speed, "records/s");
            let p99 = tell(report, &name("acknowledgement"), &mut times);
            *sum = (sum.0 + speed / f64::from(TURNS), sum.1 + p99 / f64::from(TURNS));
        }
    }
    Ok(measured)
}

/// Each task sends one record at a time, each to another partition; the times, in microseconds.
async fn write(client: &Client, topic: &str, partitions: u32, length: Duration) -> Result<Vec<u32>, Failure> {
    let end = Instant::now() + length;
    let writing: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(write_one(client.clone(), topic.to_owned(), task, partitions, end)))
        .collect();
    let mut times = Vec::new();
    for task in writing {
        times.extend(task.await.map_err(|error| Failure(error.to_string()))??);
    }
    Ok(times)
}

async fn write_one(
    client: Client,
    topic: String,
    task: u32,
    partitions: u32,
    end: Instant,
) -> Result<Vec<u32>, Failure> {
    let options =
        ProducerOptions { compression: Compression::None, linger: Duration::ZERO, ..ProducerOptions::default() };
    let producer = client.producer(&topic, options).await?;
    let mut noise = Noise::new(task.into());
    let (mut times, mut partition) = (Vec::new(), task % partitions);
    while Instant::now() < end {
        let record = OutRecord { partition: Some(PartitionId(partition)), ..OutRecord::new(noise.record()) };
        times.push(producer.send(record).await?.await?.latency.as_micros() as u32);
        partition = (partition + TASKS) % partitions;
    }
    producer.close().await?;
    Ok(times)
}
