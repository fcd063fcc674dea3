//! `stratalog-bench-cluster [BENCHMARK…]`: three nodes in processes of their own, beside one node in the same run, all on the
//! same machine. `docs/BENCHMARKS.md` says what each benchmark runs.

mod catch_up;
mod cluster;
mod failover;
mod idle;
mod latency;
mod load;
mod partitions;
mod produce;
mod query;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use stratalog_bench_log::Failure;

use cluster::Site;

/// Measures a cluster. Prints a JSON line for each figure, and a table on standard error.
#[derive(Parser)]
struct Arguments {
    /// Which benchmarks; all of them without a name.
    benchmarks: Vec<Benchmark>,
    /// Record bytes that `produce` and `catch-up` write, in 10⁶ bytes.
    #[arg(long, default_value_t = 2_000)]
    megabytes: u64,
    /// How long the benchmarks run that have no given amount.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How often `failover` kills a leader.
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// Where files are written: a directory on the device to measure.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// The node.
    #[arg(long, default_value = "target/release/stratalog")]
    binary: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// Durable produce through the SDK, every record three times on the disk.
    Produce,
    /// Acknowledgements at an even 10 MB/s.
    Latency,
    /// 10,000 partitions against 16, under the same load, on one node and on three.
    Partitions,
    /// What nodes take that nobody asks anything, one and three of them.
    Idle,
    /// How long nobody is acknowledged after the leader is killed.
    Failover,
    /// How fast a fresh replica gets everything.
    CatchUp,
    /// An aggregation over three nodes, against one.
    Query,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("stratalog-bench-cluster: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let site = Site { binary: arguments.binary.clone(), dir: arguments.dir.clone() };
    let length = Duration::from_secs(arguments.seconds);
    let bytes = arguments.megabytes * 1_000_000;
    let wanted = |benchmark| arguments.benchmarks.is_empty() || arguments.benchmarks.contains(&benchmark);
    let mut failed = Vec::new();
    for benchmark in Benchmark::value_variants().iter().copied().filter(|benchmark| wanted(*benchmark)) {
        let ran = match benchmark {
            Benchmark::Produce => produce::run(&site, bytes).await,
            Benchmark::Latency => latency::run(&site, length).await,
            Benchmark::Partitions => partitions::run(&site, length).await,
            Benchmark::Idle => idle::run(&site, length).await,
            Benchmark::Failover => failover::run(&site, arguments.kills).await,
            Benchmark::CatchUp => catch_up::run(&site, bytes, length).await,
            Benchmark::Query => query::run(&site).await,
        };
        // The others are measured all the same.
        if let Err(failure) = ran {
            eprintln!("  failed: {failure}");
            failed.push(failure.to_string());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure(failed.join("; "))) }
}
