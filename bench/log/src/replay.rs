//! The whole log through the SDK, beside the network alone and the disk alone.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, Node, Report, mb_per_s, own_cpu, raw};
use stratalog_client::{Client, ConsumerOptions, Stop};

use crate::produce::TOPIC;

/// What a replay brought.
struct Replayed {
    bytes: u64,
    took: Duration,
}

/// Reads the topic twice: as far as memory holds it, then from the disk.
pub(crate) async fn run(node: &Node) -> Result<(), Failure> {
    let report = Report::new("replay");
    let files = log_files(node)?;
    // Brings into memory what fits.
    let (raw_bytes, _) = raw::read_all(&files)?;
    let (_, took) = raw::read_all(&files)?;
    let (own_before, node_before) = (own_cpu()?, node.cpu()?);
    let cached = replay(node).await?;
    let (client_cpu, node_cpu) = (own_cpu()? - own_before, node.cpu()? - node_before);
    let per_gb = |cpu: Duration| cpu.as_secs_f64() / (cached.bytes as f64 / 1e9);
    report.goal("from memory", mb_per_s(cached.bytes, cached.took), "MB/s", Goal::AtLeast(1_000.0));
    report.figure("reading the files alone, from memory", mb_per_s(raw_bytes, took), "MB/s");
    report.figure("network alone (loopback TCP)", mb_per_s(4 << 30, raw::loopback(4 << 30)?), "MB/s");
    report.figure("processor time of the node", per_gb(node_cpu), "s/GB");
    report.figure("processor time of the client", per_gb(client_cpu), "s/GB");

    let before = raw::steady(|| cold_mb_per_s(&files))?;
    raw::forget(&files)?;
    let cold = replay(node).await?;
    let after = cold_mb_per_s(&files)?;
    let (speed, disk) = (mb_per_s(cold.bytes, cold.took), (before + after) / 2.0);
    report.figure("from the disk", speed, "MB/s");
    report.figure("reading the files alone, from the disk, before, once steady", before, "MB/s");
    report.figure("reading the files alone, from the disk, after", after, "MB/s");
    report.goal("of the disk's sequential read", speed / disk * 100.0, "%", Goal::AtLeast(80.0));
    let (_, most) = node.memory_bytes()?;
    report.figure("memory of the node, at the most", most as f64 / 1e6, "MB");
    Ok(())
}

fn cold_mb_per_s(files: &[PathBuf]) -> Result<f64, Failure> {
    raw::forget(files)?;
    let (bytes, took) = raw::read_all(files)?;
    Ok(mb_per_s(bytes, took))
}

fn log_files(node: &Node) -> Result<Vec<PathBuf>, Failure> {
    let mut files = raw::files(node.data(), ".rec")?;
    files.extend(raw::files(node.data(), ".log")?);
    Ok(files)
}

/// Reads every record, with its checksum verified by the SDK.
async fn replay(node: &Node) -> Result<Replayed, Failure> {
    let client = Client::connect(node.endpoint()).await?;
    let options = ConsumerOptions { stop: Stop::AtEnd, ..ConsumerOptions::default() };
    let started = Instant::now();
    let mut consumer = client.consumer(TOPIC, options).await?;
    let mut bytes = 0;
    while let Some(records) = consumer.next().await? {
        bytes += records.iter().flat_map(|record| &record.value).map(|value| value.len() as u64).sum::<u64>();
    }
    Ok(Replayed { bytes, took: started.elapsed() })
}
