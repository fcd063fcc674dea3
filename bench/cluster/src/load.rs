//! Loads that several benchmarks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Noise, RECORD_BYTES, Report, percentile};
use stratalog_client::{Client, Compression, Delivery, OutRecord, ProducerOptions};
use tokio::task::JoinHandle;

/// The topic of the benchmarks, whose records are not made into rows.
pub(crate) const TOPIC: &str = "bench";
/// What is sent before it is looked at the clock.
const STEP: u64 = 16;
/// The first moments are not counted: connections are made, pools fill.
const WARM_UP: Duration = Duration::from_secs(2);

pub(crate) async fn raw_topic(client: &Client, name: &str, partitions: u32) -> Result<(), Failure> {
    client.create_topic(name, partitions, &[("format".to_owned(), "raw".to_owned())]).await?;
    Ok(())
}

fn options() -> ProducerOptions {
    ProducerOptions { compression: Compression::None, ..ProducerOptions::default() }
}

/// So many records as fast as they are acknowledged; times of one in `timed_each`, in microseconds.
pub(crate) async fn produce(client: Client, seed: u64, records: u64, timed_each: u64) -> Result<Vec<u32>, Failure> {
    let producer = client.producer(TOPIC, options()).await?;
    let mut noise = Noise::new(seed);
    let mut timed: Vec<Delivery> = Vec::new();
    for number in 0..records {
        let delivery = producer.send(OutRecord::new(noise.record())).await?;
        if number % timed_each == 0 {
            timed.push(delivery);
        }
    }
    producer.close().await?;
    latencies(timed).await
}

/// Records at an even pace, until it is told to stop.
pub(crate) struct Paced {
    stop: Arc<AtomicBool>,
    sending: JoinHandle<Result<Vec<u32>, Failure>>,
}

impl Paced {
    /// Begins, and waits until the first moments are over.
    pub(crate) async fn begin(client: Client, bytes_per_s: f64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sending = tokio::spawn(send_paced(client, bytes_per_s, stop.clone()));
        tokio::time::sleep(WARM_UP).await;
        Self { stop, sending }
    }

    /// Ends; the times of the acknowledgements, in microseconds.
    pub(crate) async fn end(self) -> Result<Vec<u32>, Failure> {
        self.stop.store(true, Ordering::Release);
        self.sending.await.map_err(|error| Failure(error.to_string()))?
    }
}

async fn send_paced(client: Client, bytes_per_s: f64, stop: Arc<AtomicBool>) -> Result<Vec<u32>, Failure> {
    let producer = client.producer(TOPIC, options()).await?;
    let mut noise = Noise::new(9);
    let (started, mut sent, mut timed) = (Instant::now(), 0_u64, Vec::new());
    while !stop.load(Ordering::Acquire) {
        for number in 0..STEP {
            let delivery = producer.send(OutRecord::new(noise.record())).await?;
            if number == 0 && started.elapsed() > WARM_UP {
                timed.push(delivery);
            }
        }
        sent += STEP * RECORD_BYTES as u64;
        tokio::time::sleep_until((started + Duration::from_secs_f64(sent as f64 / bytes_per_s)).into()).await;
    }
    producer.close().await?;
    latencies(timed).await
}

async fn latencies(timed: Vec<Delivery>) -> Result<Vec<u32>, Failure> {
    let mut times = Vec::with_capacity(timed.len());
    for delivery in timed {
        times.push(delivery.await?.latency.as_micros() as u32);
    }
    Ok(times)
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Prints p50 and p99 of `times`; the p99, in milliseconds.
pub(crate) fn tell(report: &Report, what: &str, times: &mut [u32]) -> f64 {
    let (p50, p99) = (ms(percentile(times, 0.5)), ms(percentile(times, 0.99)));
    report.figure(&format!("{what}, p50"), p50, "ms");
    report.figure(&format!("{what}, p99"), p99, "ms");
    p99
}
