//! From the acknowledgement of a record to the first answer that shows it, on an idle node and under load.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stratalog_bench_log::{Failure, Goal, Node, Report, mb_per_s, percentile};
use stratalog_client::{Client, Compression, OutRecord, Producer, ProducerOptions};
use stratalog_proto::v1;

use crate::logs::Logs;
use crate::rows::{ms, number};

const TOPIC: &str = "logs";
const PARTITIONS: u32 = 4;
/// The load, in bytes of raw JSON a second.
const LOAD: f64 = 20e6;
/// Between two records that are looked for.
const PAUSE: Duration = Duration::from_millis(20);
/// Under load the first moments are not counted: pools and connections fill.
const WARM_UP: Duration = Duration::from_secs(2);
/// How far back is looked.
const LOOK_BACK_NS: i64 = 60_000_000_000;
/// How many lines are sent before it is looked at the clock.
const STEP: usize = 32;

/// Times from the acknowledgement, in microseconds.
#[derive(Default)]
struct Times {
    sql: Vec<u32>,
    search: Vec<u32>,
}

/// Measures for `length`, idle, then with a producer beside it that sends [`LOAD`] to the same topic.
pub(crate) async fn run(binary: &Path, dir: &Path, logs: &Logs, length: Duration) -> Result<(), Failure> {
    let report = Report::new("freshness");
    let data = tempfile::tempdir_in(dir)?;
    let node = Node::start(binary, data.path())?;
    let client = Client::connect(node.endpoint()).await?;
    client.create_topic(TOPIC, PARTITIONS, &[]).await?;
    probe(&client, "warm", PAUSE * 20).await?;

    tell(&report, "idle", probe(&client, "idle", length).await?, 10.0);
    let stop = AtomicBool::new(false);
    let loading = async {
        let sent = load(&client, logs, &stop).await;
        stop.store(true, Ordering::Relaxed);
        sent
    };
    let probing = async {
        tokio::time::sleep(WARM_UP).await;
        let times = probe(&client, "load", length).await;
        stop.store(true, Ordering::Relaxed);
        times
    };
    let (sent, times) = tokio::join!(loading, probing);
    let (bytes, took) = sent?;
    report.figure("load", mb_per_s(bytes, took), "MB/s");
    tell(&report, "under load", times?, 50.0);
    report.figure("memory of the node, at the most", node.memory_bytes()?.1 as f64 / 1e6, "MB");
    Ok(())
}

fn tell(report: &Report, when: &str, times: Times, goal_ms: f64) {
    for (what, mut times) in [("SQL", times.sql), ("search", times.search)] {
        report.figure(&format!("{when}: records looked for by {what}"), times.len() as f64, "");
        report.figure(&format!("{when}: shown by {what}, p50"), ms(percentile(&mut times, 0.5)), "ms");
        let p99 = ms(percentile(&mut times, 0.99));
        report.goal(&format!("{when}: shown by {what}, p99"), p99, "ms", Goal::AtMost(goal_ms));
    }
}

/// Sends the logs at an even pace until told to stop; the bytes, and what it took.
async fn load(client: &Client, logs: &Logs, stop: &AtomicBool) -> Result<(u64, Duration), Failure> {
    let producer = producer(client, Duration::from_millis(5)).await?;
    let started = Instant::now();
    let mut bytes = 0;
    for step in logs.lines().chunks(STEP).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        for line in step {
            drop(producer.send(OutRecord::new(line.clone())).await?);
            bytes += line.len() as u64;
        }
        let due = started + Duration::from_secs_f64(bytes as f64 / LOAD);
        tokio::time::sleep_until(due.into()).await;
    }
    let took = started.elapsed();
    producer.close().await?;
    Ok((bytes, took))
}

/// Sends single records, and asks for each as soon as it is acknowledged.
async fn probe(client: &Client, name: &str, length: Duration) -> Result<Times, Failure> {
    let producer = producer(client, Duration::ZERO).await?;
    let end = Instant::now() + length;
    let mut times = Times::default();
    let mut number: u64 = 0;
    while Instant::now() < end {
        let mark = format!("{name}probe{number}");
        let acknowledged = send(&producer, &mark).await?;
        let shown = if number.is_multiple_of(2) { sql(client, &mark).await } else { search(client, &mark).await };
        let took = shown?.duration_since(acknowledged).as_micros() as u32;
        if number.is_multiple_of(2) {
            times.sql.push(took)
        } else {
            times.search.push(took)
        }
        number += 1;
        tokio::time::sleep(PAUSE).await;
    }
    producer.close().await?;
    Ok(times)
}

async fn producer(client: &Client, linger: Duration) -> Result<Producer, Failure> {
    let options = ProducerOptions { compression: Compression::Lz4, linger, ..ProducerOptions::default() };
    Ok(client.producer(TOPIC, options).await?)
}

/// When the record was acknowledged.
async fn send(producer: &Producer, mark: &str) -> Result<Instant, Failure> {
    let record = format!(r#"{{"trace_id":"{mark}","message":"looked for by {mark}"}}"#);
    producer.send(OutRecord::new(record)).await?.await?;
    Ok(Instant::now())
}

/// When the answer came that shows the record. The statement asks for the last minute, as somebody would who looks at
/// what just happened.
async fn sql(client: &Client, mark: &str) -> Result<Instant, Failure> {
    let from_ns = now_ns() - LOOK_BACK_NS;
    let sql =
        format!("SELECT count(*) FROM {TOPIC} WHERE trace_id = '{mark}' AND _time >= to_timestamp_nanos({from_ns})");
    while number(client, &sql).await? == 0 {}
    Ok(Instant::now())
}

async fn search(client: &Client, mark: &str) -> Result<Instant, Failure> {
    let request = v1::SearchRequest {
        topic: TOPIC.to_owned(),
        query: mark.to_owned(),
        from_ns: Some(now_ns() - LOOK_BACK_NS),
        limit: 10,
        ..v1::SearchRequest::default()
    };
    loop {
        let (_, batches, _) = client.search(request.clone()).await?.collect().await?;
        if batches.iter().any(|batch| batch.num_rows() > 0) {
            return Ok(Instant::now());
        }
    }
}

fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
