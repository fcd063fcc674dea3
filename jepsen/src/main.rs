//! `stratalog-jepsen`: breaks clusters of real `stratalog` processes, and checks what their clients saw. README.md beside this
//! crate says how to run it.
//!
//! - `scenario` is the acceptance matrix as data, `run` makes one run of a row of it; `sabotage` makes runs that have to fail.
//! - `cluster` are processes, networks and disks of this machine; `chaos` breaks them; `workload` keeps them busy.
//! - `kafka` are clients through librdkafka, in processes of their own.
//! - `history` is the file that all of them write to. `check` reads it, and nothing else: pure, and slow to believe. `explain` tells
//!   a person what it found.
//!
//! Nothing here knows the inside of a node: it imports the SDK and the public protocol, no more.

mod chaos;
mod check;
mod cluster;
mod explain;
mod failure;
mod history;
mod kafka;
mod logs;
mod matrix;
mod run;
mod sabotage;
mod scenario;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use check::Verdict;
use failure::Failure;
use matrix::Choice;
use run::Asked;

/// Breaks clusters of real stratalog processes, and checks what their clients saw
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = "Exit codes: 0 pass; 1 fail; 2 unknown, or it could not be run.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the scenarios, and what this machine can inject
    List {
        /// The Python that runs Kafka clients
        #[arg(long, default_value = kafka::PYTHON)]
        kafka_python: PathBuf,
    },
    /// Run one scenario
    Run {
        scenario: String,
        /// How long faults and load last; ten minutes if not given
        #[arg(long, value_parser = minutes)]
        minutes: Option<f64>,
        /// What is random follows from it; one of its own if not given
        #[arg(long)]
        seed: Option<u64>,
        /// Be content with fewer faults, in half a minute or so
        #[arg(long)]
        short: bool,
        #[command(flatten)]
        site: SiteArguments,
    },
    /// Run all scenarios, one after the other
    Matrix {
        /// Half a minute or so each, with fewer faults
        #[arg(long)]
        short: bool,
        #[arg(long)]
        seed: Option<u64>,
        /// Pass also if scenarios could not be run that need what this machine does not have
        #[arg(long)]
        skip_missing: bool,
        /// Only these, with commas between
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Run a scenario so often again that ended with unknown
        #[arg(long, default_value_t = 0)]
        again: u32,
        #[command(flatten)]
        site: SiteArguments,
    },
    /// Plant one bug after the other in a binary that has them, and see whether it is noticed
    Sabotage {
        /// Only this one
        #[arg(long)]
        bug: Option<String>,
        #[arg(long)]
        seed: Option<u64>,
        #[command(flatten)]
        site: SiteArguments,
    },
    /// Judge a history that is there
    Check { history: PathBuf },
    /// Do a run again: its directory, with the same seed and settings
    Replay {
        run: PathBuf,
        /// Where the new run goes; beside the old one if not given
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct SiteArguments {
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=9))]
    nodes: u64,
    /// The node
    #[arg(long, default_value = "target/release/stratalog")]
    binary: PathBuf,
    /// The node of another release, for upgrades
    #[arg(long)]
    other_binary: Option<PathBuf>,
    /// Where runs are kept, each in a directory of its own
    #[arg(long, default_value = "target/jepsen")]
    dir: PathBuf,
    /// Do not judge how fast the cluster is back: for machines that are busy with other things
    #[arg(long)]
    ignore_times: bool,
    /// Some producers and consumers beside the others go through librdkafka
    #[arg(long)]
    kafka: bool,
    /// The Python that runs them, with confluent-kafka: `jepsen/kafka-client --install target/kafka-client` makes it
    #[arg(long, default_value = kafka::PYTHON)]
    kafka_python: PathBuf,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.1..=10_000.0).contains(&minutes) { Ok(minutes) } else { Err("it is 0.1 to 10000".to_owned()) }
}

fn main() -> ExitCode {
    // The main thread starts the nodes, which end with it: what runs on it is not moved to a thread that may end sooner.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ran = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(until_interrupted(Cli::parse())));
    match ran {
        Ok(Verdict::Pass) => ExitCode::SUCCESS,
        Ok(Verdict::Fail) => ExitCode::from(1),
        Ok(Verdict::Unknown) => ExitCode::from(2),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(2)
        }
    }
}

/// An interrupted run ends its nodes and takes its networks down like any other.
async fn until_interrupted(cli: Cli) -> Result<Verdict, Failure> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        verdict = perform(cli.command) => verdict,
        _ = interrupted.recv() => Err(Failure::new("interrupted")),
        _ = terminated.recv() => Err(Failure::new("terminated")),
    }
}

async fn perform(command: Command) -> Result<Verdict, Failure> {
    match command {
        Command::List { kafka_python } => {
            matrix::list(&kafka_python);
            Ok(Verdict::Pass)
        }
        Command::Run { scenario, minutes, seed, short, site } => {
            let asked = site.asked(&scenario, seed, minutes, short);
            let dir = site.dir.join(format!("{scenario}-{}", asked.seed));
            run_one(&asked, dir).await
        }
        Command::Matrix { short, seed, skip_missing, only, again, site } => {
            let asked = |scenario: &str| (site.asked(scenario, seed, None, short), site.dir.clone());
            matrix::run_all(asked, &Choice { only, skip_missing, again }).await
        }
        Command::Sabotage { bug, seed, site } => {
            let seed = seed.unwrap_or_else(|| fastrand::u64(1..1_000_000));
            let asked = |scenario: &str, seed| (site.asked(scenario, Some(seed), None, true), site.dir.clone());
            sabotage::run_all(asked, bug.as_deref(), seed).await
        }
        Command::Check { history } => Ok(run::judge(&history)?.verdict),
        Command::Replay { run, dir } => {
            let asked = run::asked_in(&run)?;
            let beside = || PathBuf::from(format!("{}-again-{}", run.display(), fastrand::u32(..)));
            run_one(&asked, dir.unwrap_or_else(beside)).await
        }
    }
}

async fn run_one(asked: &Asked, dir: PathBuf) -> Result<Verdict, Failure> {
    let ran = run::run(asked, &dir).await?;
    matrix::tell_how_to_go_on(&ran);
    Ok(ran.report.verdict)
}

impl SiteArguments {
    fn asked(&self, scenario: &str, seed: Option<u64>, minutes: Option<f64>, short: bool) -> Asked {
        Asked {
            scenario: scenario.to_owned(),
            // Short enough to be typed.
            seed: seed.unwrap_or_else(|| fastrand::u64(1..1_000_000)),
            nodes: self.nodes,
            minutes,
            short,
            times: !self.ignore_times,
            binary: self.binary.clone(),
            other_binary: self.other_binary.clone(),
            sabotage: None,
            kafka: self.kafka,
            kafka_python: self.kafka_python.clone(),
        }
    }
}
