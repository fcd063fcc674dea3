//! 64 writers, each of one record of 1 KB at a time, in the process of the broker.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stratalog_bench_log::{Failure, Goal, Noise, Report, percentile, raw};
use stratalog_broker::{Broker, BrokerOptions};
use stratalog_proto::PartitionId;
use stratalog_proto::config::{Format, TopicConfig};

const TOPIC: &str = "bench";
const WRITERS: u32 = 64;
const PARTITIONS: u32 = 16;
/// The baseline writes the records of all writers at once, so often.
const RAW_BLOCKS: u64 = 2_000;

/// A broker with one topic whose records are not made into rows.
pub(crate) async fn broker(dir: &Path, partitions: u32) -> Result<Arc<Broker>, Failure> {
    let broker = Broker::start(BrokerOptions::new(dir)).await?;
    let config = TopicConfig { format: Format::Raw, ..TopicConfig::default() };
    broker.create_topic(TOPIC, partitions, config).await?;
    Ok(broker)
}

/// Measures for `length`, after a second of warming up.
pub(crate) async fn run(dir: &Path, length: Duration) -> Result<(), Failure> {
    let report = Report::new("writers");
    let dir = tempfile::tempdir_in(dir)?;
    let batch = Noise::new(0).batch(1);
    let raw = raw::write_and_sync(dir.path(), batch.len() * WRITERS as usize, RAW_BLOCKS)?;
    let raw_records = (RAW_BLOCKS * u64::from(WRITERS)) as f64 / raw.as_secs_f64();

    let broker = broker(dir.path(), PARTITIONS).await?;
    write(&broker, PARTITIONS, 1, Duration::from_secs(1)).await?;
    let started = Instant::now();
    let mut times = write(&broker, PARTITIONS, 1, length).await?;
    let records = times.len() as f64 / started.elapsed().as_secs_f64();
    report.goal("acknowledged, 64 writers", records, "records/s", Goal::AtLeast(60_000.0));
    report.figure("acknowledgement, p50", percentile(&mut times, 0.5).as_secs_f64() * 1e3, "ms");
    report.goal("acknowledgement, p99", percentile(&mut times, 0.99).as_secs_f64() * 1e3, "ms", Goal::AtMost(5.0));
    report.figure("raw write + fdatasync of 64 records at a time", raw_records, "records/s");
    broker.stop().await;
    Ok(())
}

/// All writers for `length`, each with batches of so many records: the time of each batch, in microseconds.
pub(crate) async fn write(
    broker: &Arc<Broker>,
    partitions: u32,
    records: usize,
    length: Duration,
) -> Result<Vec<u32>, Failure> {
    let end = Instant::now() + length;
    let mut noise = Noise::new(0);
    let writing = (0..WRITERS).map(|writer| {
        let (broker, batch) = (Arc::clone(broker), noise.batch(records));
        tokio::spawn(async move { writer_loop(&broker, batch, writer, partitions, end).await })
    });
    let mut times = Vec::new();
    for writer in writing.collect::<Vec<_>>() {
        times.extend(writer.await.map_err(|error| Failure(error.to_string()))??);
    }
    Ok(times)
}

/// Each batch goes to the next of the writer's partitions: together the writers use all of them.
async fn writer_loop(
    broker: &Broker,
    batch: Bytes,
    writer: u32,
    partitions: u32,
    end: Instant,
) -> Result<Vec<u32>, Failure> {
    let mut times = Vec::new();
    let mut partition = writer % partitions;
    while Instant::now() < end {
        let started = Instant::now();
        broker.produce(TOPIC, PartitionId(partition), batch.clone()).await?;
        times.push(started.elapsed().as_micros() as u32);
        partition = (partition + WRITERS) % partitions;
    }
    Ok(times)
}
