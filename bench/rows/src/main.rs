//! `stratalog-bench-rows [BENCHMARK…]`: from records to queryable segments, on a node in a process of its own, with the SDK
//! over gRPC and real logs. `docs/BENCHMARKS.md` says what each benchmark runs.

mod dropping;
mod freshness;
mod logs;
mod pipeline;
mod rows;
mod tail_memory;
mod topics;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use stratalog_bench_log::Failure;

use logs::Logs;

/// Measures rows. Prints a JSON line for each figure, and a table on standard error.
#[derive(Parser)]
struct Arguments {
    /// Which benchmarks; all of them without a name.
    benchmarks: Vec<Benchmark>,
    /// Raw JSON that `pipeline` produces, in 10⁶ bytes: the file again and again.
    #[arg(long, default_value_t = 1_000)]
    megabytes: u64,
    /// How long each part of `freshness` runs.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Where files are written: a directory on the device to measure.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// The node.
    #[arg(long, default_value = "target/release/stratalog")]
    binary: PathBuf,
    /// JSON logs, one record a line, with a time in the field `timestamp`; compressed with zstd.
    #[arg(long, default_value = "../shared/data/trainticket-logs.ndjson.zst")]
    logs: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// Acknowledged, parsed, and sealed as columns with a text index.
    Pipeline,
    /// From the acknowledgement to the answer that shows the record.
    Freshness,
    /// Dropping one time bucket of a hundred.
    Drop,
    /// Memory of rows that are not sealed yet.
    TailMemory,
    /// 1,000 topics of a few records.
    Topics,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("stratalog-bench-rows: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (binary, dir) = (&*arguments.binary, &*arguments.dir);
    let wanted = |benchmark| arguments.benchmarks.is_empty() || arguments.benchmarks.contains(&benchmark);
    if [Benchmark::Pipeline, Benchmark::Freshness, Benchmark::TailMemory].into_iter().any(wanted) {
        let logs = Logs::read(&arguments.logs)?;
        if wanted(Benchmark::Pipeline) {
            pipeline::run(binary, dir, &logs, arguments.megabytes * 1_000_000).await?;
        }
        if wanted(Benchmark::Freshness) {
            freshness::run(binary, dir, &logs, Duration::from_secs(arguments.seconds)).await?;
        }
        if wanted(Benchmark::TailMemory) {
            tail_memory::run(binary, dir, &logs).await?;
        }
    }
    if wanted(Benchmark::Drop) {
        dropping::run(binary, dir).await?;
    }
    if wanted(Benchmark::Topics) {
        topics::run(binary, dir).await?;
    }
    Ok(())
}
