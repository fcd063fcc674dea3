//! The whole way of a record: acknowledged, parsed, sealed as columns with a text index.

use std::path::Path;
use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, Node, Report, mb_per_s, own_cpu, raw};
use stratalog_client::{Client, Compression, ProducerOptions};

use crate::logs::Logs;
use crate::rows::{number, seal, wait_for};

const TOPIC: &str = "logs";
const PARTITIONS: u32 = 4;
/// The baseline writes so much.
const RAW_BYTES: u64 = 256 << 20;
const RAW_BLOCK: usize = 1 << 20;

/// Produces about `bytes` of raw JSON, seals while it goes as the node's default settings say, and the rest at the end.
pub(crate) async fn run(binary: &Path, dir: &Path, logs: &Logs, bytes: u64) -> Result<(), Failure> {
    let report = Report::new("pipeline");
    let data = tempfile::tempdir_in(dir)?;
    let disk = mb_per_s(RAW_BYTES, raw::write_and_sync(data.path(), RAW_BLOCK, RAW_BYTES / RAW_BLOCK as u64)?);
    let node = Node::start(binary, data.path())?;
    let client = Client::connect(node.endpoint()).await?;
    client.create_topic(TOPIC, PARTITIONS, &[("time.field".to_owned(), "timestamp".to_owned())]).await?;
    let options = ProducerOptions {
        compression: Compression::Lz4,
        deadline: Duration::from_secs(120),
        ..ProducerOptions::default()
    };
    let producer = client.producer(TOPIC, options).await?;
    let own_before = own_cpu()?;

    let started = Instant::now();
    let (records, bytes) = logs.produce(producer, bytes).await?;
    let acknowledged = started.elapsed();
    let own = own_cpu()? - own_before;
    wait_for(&client, TOPIC, records).await?;
    let visible = started.elapsed();
    seal(&client, TOPIC).await?;
    let sealed = started.elapsed();

    wait_for(&client, TOPIC, records).await?;
    let per_gb = |cpu: Duration| cpu.as_secs_f64() / (bytes as f64 / 1e9);
    report.figure("raw JSON", bytes as f64 / 1e6, "MB");
    report.goal("acknowledged, parsed and sealed", mb_per_s(bytes, sealed), "MB/s", Goal::AtLeast(60.0));
    report.figure("acknowledged", mb_per_s(bytes, acknowledged), "MB/s");
    report.figure("visible", mb_per_s(bytes, visible), "MB/s");
    report.figure("raw write + fdatasync of 1 MiB", disk, "MB/s");
    report.figure("processor time of the node", per_gb(node.cpu()?), "s/GB");
    report.figure("processor time of the client", per_gb(own), "s/GB");
    let files = number(&client, "SELECT CAST(count(*) AS BIGINT) FROM system.segments").await?;
    let stored = number(&client, "SELECT CAST(sum(bytes) AS BIGINT) FROM system.segments").await?;
    report.figure("segments", files as f64, "");
    report.figure("segments, of raw JSON", stored as f64 / bytes as f64 * 100.0, "%");
    report.figure("written per byte of raw JSON", node.written_bytes()? as f64 / bytes as f64, "");
    report.figure("memory of the node, at the most", node.memory_bytes()?.1 as f64 / 1e6, "MB");
    Ok(())
}
