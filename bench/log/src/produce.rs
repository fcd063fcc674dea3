//! Durable produce through the SDK, over gRPC, beside a plain loop of write and fdatasync.

use std::path::Path;
use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, Node, Noise, RECORD_BYTES, Report, mb_per_s, own_cpu, percentile, raw};

use stratalog_client::{Client, Compression, Delivery, OutRecord, ProducerOptions};

/// The topic that the benchmarks of a node share.
pub(crate) const TOPIC: &str = "bench";
const PARTITIONS: u32 = 16;
const PRODUCERS: u64 = 2;
/// One record in so many is timed.
const TIMED_EACH: u64 = 1_000;
/// The baseline writes so much, before and after.
const RAW_BYTES: u64 = 1 << 30;
const RAW_BLOCK: usize = 1 << 20;
/// How long rolling may go on after the last record.
const SETTLE: Duration = Duration::from_secs(120);

/// Gives the node about `bytes` of records and reports how fast it acknowledged them.
pub(crate) async fn run(node: &Node, bytes: u64) -> Result<(), Failure> {
    let report = Report::new("produce");
    let client = Client::connect(node.endpoint()).await?;
    client.create_topic(TOPIC, PARTITIONS, &[("format".to_owned(), "raw".to_owned())]).await?;
    let before = raw::steady(|| raw_mb_per_s(node.data()))?;
    let (own_before, written_before) = (own_cpu()?, node.written_bytes()?);
    let node_before = node.cpu()?;

    let records = bytes / RECORD_BYTES as u64 / PRODUCERS;
    let started = Instant::now();
    let producing = (0..PRODUCERS).map(|seed| tokio::spawn(produce(client.clone(), seed, records)));
    let mut times = Vec::new();
    for producer in producing.collect::<Vec<_>>() {
        times.extend(producer.await.map_err(|error| Failure(error.to_string()))??);
    }
    let took = started.elapsed();

    let produced = records * PRODUCERS * RECORD_BYTES as u64;
    let per_gb = |cpu: Duration| cpu.as_secs_f64() / (produced as f64 / 1e9);
    let client_cpu = own_cpu()? - own_before;
    node.settle(SETTLE)?;
    let node_cpu = node.cpu()? - node_before;
    let after = raw_mb_per_s(node.data())?;
    let (speed, disk) = (mb_per_s(produced, took), (before + after) / 2.0);
    report.figure("acknowledged", speed, "MB/s");
    report.figure("acknowledged", (records * PRODUCERS) as f64 / took.as_secs_f64(), "records/s");
    report.figure("raw write + fdatasync of 1 MiB, before, once steady", before, "MB/s");
    report.figure("raw write + fdatasync of 1 MiB, after", after, "MB/s");
    report.figure("network alone (loopback TCP)", mb_per_s(4 << 30, raw::loopback(4 << 30)?), "MB/s");
    report.goal("of raw sequential bandwidth", speed / disk * 100.0, "%", Goal::AtLeast(40.0));
    let written = node.written_bytes()? - written_before;
    report.goal("written per byte produced", written as f64 / produced as f64, "", Goal::AtMost(2.2));
    report.figure("acknowledgement, p50", percentile(&mut times, 0.5).as_secs_f64() * 1e3, "ms");
    report.figure("acknowledgement, p99", percentile(&mut times, 0.99).as_secs_f64() * 1e3, "ms");
    report.figure("processor time of the node, rolling included", per_gb(node_cpu), "s/GB");
    report.figure("processor time of the client", per_gb(client_cpu), "s/GB");
    let (now, most) = node.memory_bytes()?;
    report.figure("memory of the node", now as f64 / 1e6, "MB");
    report.figure("memory of the node, at the most", most as f64 / 1e6, "MB");
    check(&client, records * PRODUCERS).await
}

/// One producer; the acknowledgement times of some of its records, in microseconds.
async fn produce(client: Client, seed: u64, records: u64) -> Result<Vec<u32>, Failure> {
    let options = ProducerOptions { compression: Compression::None, ..ProducerOptions::default() };
    let producer = client.producer(TOPIC, options).await?;
    let mut noise = Noise::new(seed);
    let mut timed: Vec<Delivery> = Vec::new();
    for number in 0..records {
        let delivery = producer.send(OutRecord::new(noise.record())).await?;
        if number % TIMED_EACH == 0 {
            timed.push(delivery);
        }
    }
    producer.close().await?;
    let mut times = Vec::with_capacity(timed.len());
    for delivery in timed {
        times.push(delivery.await?.latency.as_micros() as u32);
    }
    Ok(times)
}

/// Every record has its place: none was lost on the way, and none came twice.
async fn check(client: &Client, records: u64) -> Result<(), Failure> {
    let partitions = client.describe_topic(TOPIC).await?.partitions;
    let held: u64 = partitions.iter().map(|partition| partition.high_watermark).sum();
    if held == records {
        return Ok(());
    }
    Err(Failure(format!("{records} records were acknowledged, and the topic holds {held}")))
}

fn raw_mb_per_s(dir: &Path) -> Result<f64, Failure> {
    let blocks = RAW_BYTES / RAW_BLOCK as u64;
    Ok(mb_per_s(RAW_BYTES, raw::write_and_sync(dir, RAW_BLOCK, blocks)?))
}
