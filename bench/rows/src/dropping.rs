//! Dropping one time bucket of a hundred.

use std::path::Path;
use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, Node, Report};
use stratalog_client::{Client, Compression, OutRecord, ProducerOptions};

use crate::rows::{ms, number, seal, wait_for};

const BUCKETS: u64 = 100;
/// A seal makes at most 32.
const BUCKETS_A_SEAL: u64 = 25;
const HOUR_NS: u64 = 3_600_000_000_000;
const FIRST_NS: u64 = 1_700_000_000_000_000_000 / HOUR_NS * HOUR_NS;
/// Rows of a bucket, in topics of their own.
const ROWS: [u64; 3] = [100, 2_000, 40_000];
/// Buckets that are dropped, one after the other; the slowest counts.
const DROPS: u64 = 5;
const SETTINGS: [(&str, &str); 2] = [("STRATALOG_ROWS__SEAL_AGE", "1h"), ("STRATALOG_ROWS__SEAL_BYTES", "1GiB")];

/// For topics of few and of many rows a bucket: how long a drop takes.
pub(crate) async fn run(binary: &Path, dir: &Path) -> Result<(), Failure> {
    let report = Report::new("drop");
    let data = tempfile::tempdir_in(dir)?;
    let node = Node::start_with(binary, data.path(), &SETTINGS)?;
    let client = Client::connect(node.endpoint()).await?;
    for rows in ROWS {
        let topic = format!("rows{rows}");
        fill(&client, &topic, rows).await?;
        let slowest = drop_some(&client, &topic, rows).await?;
        report.goal(&format!("one bucket of 100, {rows} rows"), ms(slowest), "ms", Goal::AtMost(50.0));
    }
    Ok(())
}

async fn fill(client: &Client, topic: &str, rows: u64) -> Result<(), Failure> {
    client.create_topic(topic, 4, &[("time.field".to_owned(), "ts".to_owned())]).await?;
    for first in (0..BUCKETS).step_by(BUCKETS_A_SEAL as usize) {
        let options = ProducerOptions { compression: Compression::Lz4, ..ProducerOptions::default() };
        let producer = client.producer(topic, options).await?;
        for row in 0..rows * BUCKETS_A_SEAL {
            let time_ns = FIRST_NS + (first + row / rows) * HOUR_NS + row % rows;
            let record = format!(r#"{{"ts":{time_ns},"status":{},"path":"/api/v1/users/{}"}}"#, row % 7, row % 1_000);
            drop(producer.send(OutRecord::new(record)).await?);
        }
        producer.close().await?;
        seal(client, topic).await?;
    }
    wait_for(client, topic, rows * BUCKETS).await
}

/// The slowest of some drops, from the call to its answer.
async fn drop_some(client: &Client, topic: &str, rows: u64) -> Result<Duration, Failure> {
    let mut slowest = Duration::ZERO;
    for bucket in 1..=DROPS {
        let started = Instant::now();
        let dropped = client.drop_before(topic, (FIRST_NS + bucket * HOUR_NS) as i64, false).await?;
        slowest = slowest.max(started.elapsed());
        let left = number(client, &format!("SELECT count(*) FROM {topic}")).await? as u64;
        if (dropped.rows, left) != (rows, (BUCKETS - bucket) * rows) {
            return Err(Failure(format!("a drop of {rows} rows removed {} and left {left}", dropped.rows)));
        }
    }
    Ok(slowest)
}
