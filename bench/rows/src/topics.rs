//! Many small topics.

use std::path::Path;
use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, Node, Report};
use stratalog_client::{Client, OutRecord, ProducerOptions};

use crate::rows::{wait_for, wait_for_seals};

const TOPICS: usize = 1_000;
const RECORDS: usize = 20;
/// Topics that are written to at once.
const AT_ONCE: usize = 16;
/// So that sealing is seen as well, and soon.
const SETTINGS: [(&str, &str); 1] = [("STRATALOG_ROWS__SEAL_AGE", "20s")];

/// Creates the topics, writes a few records to each, and waits until they are sealed.
pub(crate) async fn run(binary: &Path, dir: &Path) -> Result<(), Failure> {
    let report = Report::new("topics");
    let data = tempfile::tempdir_in(dir)?;
    let node = Node::start_with(binary, data.path(), &SETTINGS)?;
    let client = Client::connect(node.endpoint()).await?;
    fill(&client, "first").await?;
    let (before, _) = node.memory_bytes()?;

    let started = Instant::now();
    let names: Vec<String> = (0..TOPICS).map(|number| format!("topic{number}")).collect();
    for step in names.chunks(AT_ONCE) {
        let filling = step.iter().map(|name| {
            let (client, name) = (client.clone(), name.clone());
            tokio::spawn(async move { fill(&client, &name).await })
        });
        for filled in filling.collect::<Vec<_>>() {
            filled.await.map_err(|error| Failure(error.to_string()))??;
        }
    }
    report.figure("1,000 topics created, each with 20 records", started.elapsed().as_secs_f64(), "s");
    let grown = |now: u64| now.saturating_sub(before) as f64 / 1e6;
    report.goal("memory more, in the tail", grown(node.memory_bytes()?.0), "MB", Goal::AtMost(100.0));
    wait_for_seals(&node).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (now, most) = node.memory_bytes()?;
    report.goal("memory more, once sealed", grown(now), "MB", Goal::AtMost(100.0));
    report.figure("memory more, at the most", grown(most), "MB");
    for name in names.iter().step_by(TOPICS / 10) {
        wait_for(&client, name, RECORDS as u64).await?;
    }
    Ok(())
}

async fn fill(client: &Client, topic: &str) -> Result<(), Failure> {
    client.create_topic(topic, 1, &[]).await?;
    let producer = client.producer(topic, ProducerOptions::default()).await?;
    for number in 0..RECORDS {
        let record = format!(r#"{{"level":"INFO","service":"{topic}","message":"request {number} took {number} ms"}}"#);
        drop(producer.send(OutRecord::new(record)).await?);
    }
    Ok(producer.close().await?)
}
