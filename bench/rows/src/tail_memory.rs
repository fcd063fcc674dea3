//! What rows cost in memory before they are sealed.

use std::path::Path;
use std::time::Duration;

use stratalog_bench_log::{Failure, Goal, Node, Report};
use stratalog_client::{Client, Compression, ProducerOptions};

use crate::logs::Logs;
use crate::rows::wait_for;

const TOPIC: &str = "logs";
/// Nothing is sealed by itself.
const SETTINGS: [(&str, &str); 3] = [
    ("STRATALOG_ROWS__SEAL_AGE", "1h"),
    ("STRATALOG_ROWS__SEAL_BYTES", "1GiB"),
    ("STRATALOG_ROWS__TAIL_BUDGET", "8GiB"),
];

/// Puts the file into the tail, once.
pub(crate) async fn run(binary: &Path, dir: &Path, logs: &Logs) -> Result<(), Failure> {
    let report = Report::new("tail-memory");
    let data = tempfile::tempdir_in(dir)?;
    let node = Node::start_with(binary, data.path(), &SETTINGS)?;
    let client = Client::connect(node.endpoint()).await?;
    client.create_topic(TOPIC, 4, &[("time.field".to_owned(), "timestamp".to_owned())]).await?;
    let (before, _) = node.memory_bytes()?;
    let options = ProducerOptions { compression: Compression::Lz4, ..ProducerOptions::default() };
    let (records, bytes) = logs.produce(client.producer(TOPIC, options).await?, logs.bytes()).await?;
    wait_for(&client, TOPIC, records).await?;
    // Until what was read and unpacked on the way is given back.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let tail = node.metric("stratalog_rows_tail_bytes")?;
    let (after, _) = node.memory_bytes()?;
    report.figure("raw JSON", bytes as f64 / 1e6, "MB");
    report.goal("tail, of raw JSON", tail / bytes as f64, "times", Goal::AtMost(3.0));
    report.figure(
        "growth of the node, log and buffers included, of raw JSON",
        after.saturating_sub(before) as f64 / bytes as f64,
        "times",
    );
    Ok(())
}
