//! 10,000 partitions against 16, under the same load.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stratalog_bench_log::{Failure, Goal, RECORD_BYTES, Report};

use crate::writers;

const FEW: u32 = 16;
const MANY: u32 = 10_000;
/// Runs of each, alternating; the median is what counts.
const RUNS: usize = 3;
/// Records of each batch that a writer sends.
const BATCH_RECORDS: usize = 8;

/// What one process measured.
#[derive(Clone, Copy, Deserialize, Serialize)]
struct Measured {
    mb_per_s: f64,
    /// Resident at the most, in bytes.
    memory_bytes: u64,
}

/// Runs the load in processes of its own, so that memory can be compared.
pub(crate) fn run(dir: &Path, length: Duration) -> Result<(), Failure> {
    let report = Report::new("partitions");
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        few.push(in_its_own_process(FEW, dir, length)?);
        many.push(in_its_own_process(MANY, dir, length)?);
    }
    let speed = |runs: &[Measured]| median(runs.iter().map(|run| run.mb_per_s).collect());
    let memory = |runs: &[Measured]| median(runs.iter().map(|run| run.memory_bytes as f64 / 1e6).collect());
    report.figure("acknowledged, 16 partitions", speed(&few), "MB/s");
    report.figure("acknowledged, 10,000 partitions", speed(&many), "MB/s");
    report.goal("10,000 of 16", speed(&many) / speed(&few) * 100.0, "%", Goal::AtLeast(90.0));
    report.figure("memory at the most, 16 partitions", memory(&few), "MB");
    report.figure("memory at the most, 10,000 partitions", memory(&many), "MB");
    report.goal("memory more", memory(&many) - memory(&few), "MB", Goal::AtMost(64.0));
    Ok(())
}

/// The load on a topic with so many partitions; prints what was measured.
pub(crate) async fn run_one(partitions: u32, dir: &Path, length: Duration) -> Result<(), Failure> {
    let dir = tempfile::tempdir_in(dir)?;
    let broker = writers::broker(dir.path(), partitions).await?;
    let started = Instant::now();
    let batches = writers::write(&broker, partitions, BATCH_RECORDS, length).await?.len();
    let took = started.elapsed();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    let measured = Measured {
        mb_per_s: (batches * BATCH_RECORDS * RECORD_BYTES) as f64 / 1e6 / took.as_secs_f64(),
        memory_bytes: most.unwrap_or(0) << 10,
    };
    println!("{}", serde_json::to_string(&measured).expect("plain values"));
    broker.stop().await;
    Ok(())
}

fn in_its_own_process(partitions: u32, dir: &Path, length: Duration) -> Result<Measured, Failure> {
    let run = Command::new(std::env::current_exe()?)
        .arg("--partitions")
        .arg(partitions.to_string())
        .arg("--seconds")
        .arg(length.as_secs().to_string())
        .arg("--dir")
        .arg(dir)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let measured = serde_json::from_slice(&run.stdout);
    measured.map_err(|error| {
        Failure(format!("the run with {partitions} partitions measured nothing ({}): {error}", run.status))
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
