//! 10,000 partitions over 16 shards against 16 partitions, small batches from many tasks.

use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, Noise, Report};
use stratalog_client::{Client, Compression, OutRecord, ProducerOptions};
use stratalog_proto::PartitionId;

use crate::cluster::{Cluster, Site};
use crate::load::{raw_topic, tell};

const FEW: u32 = 16;
const MANY: u32 = 10_000;
const SHARDS: u32 = 16;
const TASKS: u32 = 64;

pub(crate) async fn run(site: &Site, length: Duration) -> Result<(), Failure> {
    let report = Report::new("partitions");
    let cluster = Cluster::start(site, 3, SHARDS).await?;
    let client = cluster.client().await?;
    let mut measured = Vec::new();
    for (name, partitions) in [("few", FEW), ("many", MANY)] {
        raw_topic(&client, name, partitions).await?;
        write(&client, name, partitions, Duration::from_secs(2)).await?;
        let started = Instant::now();
        let mut times = write(&client, name, partitions, length).await?;
        let speed = times.len() as f64 / started.elapsed().as_secs_f64();
        report.figure(&format!("{partitions} partitions: acknowledged"), speed, "records/s");
        measured.push((speed, tell(&report, &format!("{partitions} partitions: acknowledgement"), &mut times)));
    }
    let [few, many] = [measured[0], measured[1]];
    report.goal("10,000 of 16, throughput", many.0 / few.0 * 100.0, "%", Goal::AtLeast(80.0));
    report.goal("10,000 of 16, p99", many.1 / few.1, "times", Goal::AtMost(1.5));
    Ok(())
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
