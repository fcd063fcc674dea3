//! `stratalog-bench-log [BENCHMARK…]`: the speed of the log, each figure beside a baseline of the same run.

mod partitions;
mod produce;
mod replay;
mod restart;
mod writers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use stratalog_bench_log::{Failure, Node};

/// Measures the log. Prints a JSON line for each figure, and a table on standard error.
#[derive(Parser)]
struct Arguments {
    /// Which benchmarks; all of them without a name. What a node holds for `replay` and `restart`, `produce` writes first.
    benchmarks: Vec<Benchmark>,
    /// Record bytes that the node is given, in 10⁹ bytes.
    #[arg(long, default_value_t = 10)]
    gigabytes: u64,
    /// How long the benchmarks run that have no given amount.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Where files are written: a directory on the device to measure.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// The node.
    #[arg(long, default_value = "target/release/stratalog")]
    binary: PathBuf,
    /// For ourselves: the load of `partitions` on a topic with so many, in a process of its own.
    #[arg(long, hide = true)]
    partitions: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// Durable produce through the SDK.
    Produce,
    /// The whole log through the SDK, from memory and from the disk.
    Replay,
    /// Start of a node that was killed.
    Restart,
    /// 64 writers of single records, in process.
    Writers,
    /// 10,000 partitions against 16, in process.
    Partitions,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started");
    match runtime.block_on(run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("stratalog-bench-log: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let seconds = Duration::from_secs(arguments.seconds);
    if let Some(count) = arguments.partitions {
        return partitions::run_one(count, &arguments.dir, seconds).await;
    }
    let wanted = |benchmark| arguments.benchmarks.is_empty() || arguments.benchmarks.contains(&benchmark);
    if wanted(Benchmark::Writers) {
        writers::run(&arguments.dir, seconds).await?;
    }
    if wanted(Benchmark::Partitions) {
        partitions::run(&arguments.dir, seconds)?;
    }
    let [produce, replay, restart] = [Benchmark::Produce, Benchmark::Replay, Benchmark::Restart].map(wanted);
    if produce || replay || restart {
        let data = tempfile::tempdir_in(&arguments.dir)?;
        let node = Node::start(&arguments.binary, data.path())?;
        produce::run(&node, arguments.gigabytes * 1_000_000_000).await?;
        if replay {
            replay::run(&node).await?;
        }
        if restart {
            restart::run(node, &arguments.binary).await?;
        }
    }
    Ok(())
}
