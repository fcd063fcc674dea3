//! `stratalog-bench-allocations`: counts what produce and fetch allocate, with an allocator that counts.
//!
//! A broker, its gRPC listener and a client share this process. Each path runs with small and with large batches: what the
//! large ones allocate more is what a record costs, the rest is the cost of a batch.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use stratalog_bench_log::{Failure, Goal, Noise, RECORD_BYTES, Report};
use stratalog_broker::{Broker, BrokerOptions, FetchRequest, ReadFrom};
use stratalog_client::{Client, Compression, ConsumerOptions, OutRecord, ProducerOptions, Stop};
use stratalog_gateway::{Gateway, GatewayOptions, serve_grpc};
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::{Offset, PartitionId};
use tokio::net::TcpListener;

/// Records of a small and of a large batch.
const SMALL: usize = 64;
const LARGE: usize = 512;
/// Batches of each measurement.
const BATCHES: usize = 200;
/// A vector that grows by doubling allocates now and then: less than one allocation for so many records is none for each.
const NEGLIGIBLE: f64 = 0.02;

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: each call is the system allocator's own, with the arguments that came; counting touches no allocated memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn count(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Counts the allocations of produce and fetch, in the broker alone and through the SDK.
#[derive(Parser)]
struct Arguments {
    /// Where the broker keeps its files.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("stratalog-bench-allocations: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What a path allocated.
#[derive(Clone, Copy)]
struct Cost {
    allocations: u64,
    bytes: u64,
}

impl Cost {
    /// Since the process started.
    fn so_far() -> Self {
        Self { allocations: ALLOCATIONS.load(Ordering::Relaxed), bytes: BYTES.load(Ordering::Relaxed) }
    }

    fn since(start: Self) -> Self {
        let now = Self::so_far();
        Self { allocations: now.allocations - start.allocations, bytes: now.bytes - start.bytes }
    }
}

/// What [`BATCHES`] batches of one size cost on each path.
struct Costs {
    produce: Cost,
    fetch: Cost,
    sdk_produce: Cost,
    sdk_consume: Cost,
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let broker = Broker::start(BrokerOptions::new(dir.path())).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let gateway = Gateway::new(Arc::clone(&broker), GatewayOptions::default());
    tokio::spawn(serve_grpc(gateway, listener, std::future::pending()));
    let client = Client::connect(&address).await?;

    // The first round fills caches and pools.
    costs(&broker, &client, "warm", SMALL).await?;
    let small = costs(&broker, &client, "small", SMALL).await?;
    let large = costs(&broker, &client, "large", LARGE).await?;
    let report = Report::new("allocations");
    type Path = fn(&Costs) -> Cost;
    let paths: [(&str, Path); 4] = [
        ("produce, broker", |costs| costs.produce),
        ("fetch, broker", |costs| costs.fetch),
        ("produce, SDK to broker", |costs| costs.sdk_produce),
        ("fetch, broker to SDK", |costs| costs.sdk_consume),
    ];
    for (name, cost) in paths {
        tell(&report, name, cost(&small), cost(&large));
    }
    broker.stop().await;
    Ok(())
}

fn tell(report: &Report, path: &str, small: Cost, large: Cost) {
    let each = |cost: Cost| cost.allocations as f64 / BATCHES as f64;
    let record = (each(large) - each(small)) / (LARGE - SMALL) as f64;
    let bytes = large.bytes as f64 / (BATCHES * LARGE * RECORD_BYTES) as f64;
    report.figure(&format!("{path}: allocations of a batch of {SMALL} records"), each(small), "");
    report.figure(&format!("{path}: allocations of a batch of {LARGE} records"), each(large), "");
    report.goal(&format!("{path}: allocations of a record"), record, "", Goal::AtMost(NEGLIGIBLE));
    report.figure(&format!("{path}: bytes allocated for each byte"), bytes, "");
}

async fn costs(broker: &Broker, client: &Client, name: &str, records: usize) -> Result<Costs, Failure> {
    let direct = format!("{name}-direct");
    let sdk = format!("{name}-sdk");
    for topic in [&direct, &sdk] {
        let config = TopicConfig { format: Format::Raw, ..TopicConfig::default() };
        broker.create_topic(topic, 1, config).await?;
    }
    Ok(Costs {
        produce: produce(broker, &direct, records).await?,
        fetch: fetch(broker, &direct, records).await?,
        sdk_produce: sdk_produce(client, &sdk, records).await?,
        sdk_consume: sdk_consume(client, &sdk, records).await?,
    })
}

async fn produce(broker: &Broker, topic: &str, records: usize) -> Result<Cost, Failure> {
    let batch = Noise::new(0).batch(records);
    let start = Cost::so_far();
    for _ in 0..BATCHES {
        broker.produce(topic, PartitionId(0), batch.clone()).await?;
    }
    Ok(Cost::since(start))
}

async fn fetch(broker: &Broker, topic: &str, records: usize) -> Result<Cost, Failure> {
    let start = Cost::so_far();
    let mut next = 0;
    while next < (BATCHES * records) as u64 {
        let request = FetchRequest {
            topic: topic.to_owned(),
            partitions: vec![(PartitionId(0), Offset(next))],
            // One batch, of whatever size.
            max_bytes: 1,
            max_wait: std::time::Duration::ZERO,
            from: ReadFrom::Leader,
        };
        for fetched in broker.fetch(request).await? {
            next += (fetched.result?.len() * records) as u64;
        }
    }
    Ok(Cost::since(start))
}

async fn sdk_produce(client: &Client, topic: &str, records: usize) -> Result<Cost, Failure> {
    let options = ProducerOptions {
        compression: Compression::None,
        // The last record of a batch brings it just above.
        batch_bytes: (records - 1) * (RECORD_BYTES + 8),
        ..ProducerOptions::default()
    };
    let producer = client.producer(topic, options).await?;
    let mut noise = Noise::new(1);
    let start = Cost::so_far();
    for _ in 0..BATCHES * records {
        // What becomes of it, closing tells.
        drop(producer.send(OutRecord::new(noise.record())).await?);
    }
    producer.close().await?;
    Ok(Cost::since(start))
}

async fn sdk_consume(client: &Client, topic: &str, records: usize) -> Result<Cost, Failure> {
    let options =
        ConsumerOptions { stop: Stop::AtEnd, max_bytes: (records * RECORD_BYTES) as u32, ..ConsumerOptions::default() };
    let mut consumer = client.consumer(topic, options).await?;
    let start = Cost::so_far();
    let mut count = 0;
    while let Some(records) = consumer.next().await? {
        count += records.len();
    }
    assert_eq!(count, BATCHES * records, "every record comes back");
    Ok(Cost::since(start))
}
