//! One run of a scenario: a cluster, clients, faults, the last reads, the verdict.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::chaos::{Chaos, NO_NODE_ENDS};
use crate::check::{Report, Verdict, check};
use crate::cluster::{Capability, Cluster, Library, Network, Site, WHOLE_WITHIN, knows_scrub, room_for};
use crate::explain::explain;
use crate::failure::Failure;
use crate::history::{FORMAT, Header, Line, Probe, Process, Reader, Versions, When, Writer};
use crate::kafka::{self, Clients};
use crate::logs;
use crate::scenario::{NO_THREAD_PANICS, Scenario, named};
use crate::workload::{Group, Shared, WORDS, Workload, finish, processes};

const HISTORY: &str = "history.jsonl";
const ASKED: &str = "run.json";
const REPORT: &str = "report.json";

/// What was asked for: the same again is the same run, as far as processes on a machine can be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) nodes: u64,
    pub(crate) minutes: Option<f64>,
    pub(crate) short: bool,
    /// Whether it is judged how fast the cluster is back.
    pub(crate) times: bool,
    pub(crate) binary: PathBuf,
    pub(crate) other_binary: Option<PathBuf>,
    /// A bug that is planted in the nodes, of a binary that has it.
    #[serde(default)]
    pub(crate) sabotage: Option<String>,
    /// Whether clients through librdkafka take part also where a scenario can do without.
    #[serde(default)]
    pub(crate) kafka: bool,
    /// The Python that runs them.
    #[serde(default)]
    pub(crate) kafka_python: PathBuf,
}

/// A run that came to its end.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) seed: u64,
    pub(crate) report: Report,
    pub(crate) dir: PathBuf,
}

/// What this machine can inject, and what it cannot, with the reason.
pub(crate) fn capabilities(dir: &Path, python: &Path) -> Vec<(Capability, Result<(), String>)> {
    Capability::ALL.map(|capability| (capability, capability.probe(dir, python))).into()
}

/// Runs a scenario in a new directory, and says what came of it. Nothing but files in the directory is left behind.
///
/// # Errors
/// If the run could not be made; no verdict follows.
pub(crate) async fn run(asked: &Asked, dir: &Path) -> Result<Ran, Failure> {
    let scenario = named(&asked.scenario).map_err(Failure)?;
    let version = version_of(&asked.binary)?;
    let dir = new_directory(dir)?;
    std::fs::write(dir.join(ASKED), serde_json::to_string_pretty(asked).map_err(|error| Failure(error.to_string()))?)?;
    let length = scenario.length(asked.minutes, asked.short);
    eprintln!("{}, seed {}, {:?}: {}", scenario.name, asked.seed, length, scenario.what);
    let capabilities = capabilities(&dir, &asked.kafka_python);
    let network = network(scenario, asked.seed, &capabilities)?;
    let with_kafka = scenario.has_kafka_clients(asked.kafka);
    let kafka_version = with_kafka.then(|| kafka::version(&asked.kafka_python)).transpose();
    let kafka_version = kafka_version.map_err(|why| Failure(format!("there is no Kafka client: {why}")))?;
    let levers =
        scenario.needs.contains(&Capability::Levers).then(|| Library::make(&dir)).transpose().map_err(Failure)?;
    let (sabotage, scrubs) = (asked.sabotage.clone(), scenario.scrubs && knows_scrub(&asked.binary, &dir));
    let (disks, binary, home) = (scenario.disks, asked.binary.clone(), dir.clone());
    // A machine that is too busy for times to be judged is given more of it.
    let patience = if asked.times { WHOLE_WITHIN } else { 5 * WHOLE_WITHIN };
    let (room, memory) = (room_for(length), scenario.memory);
    let site = Site { network, disks, room, patience, memory, levers, sabotage, scrubs, binary, home };
    let mut cluster =
        Cluster::start(site, asked.nodes).await.map_err(|error| error.context("cannot start a cluster"))?;
    let versions = Versions { harness: env!("CARGO_PKG_VERSION").to_owned(), node: version, kafka: kafka_version };
    let header = header(asked, scenario, length, &cluster, &capabilities, versions);
    let python = with_kafka.then_some(&asked.kafka_python);
    let start = |python: &PathBuf| Clients::new(python, &dir, cluster.bootstrap(), &header.topic);
    let kafka = python.map(start).transpose()?;
    perform(asked, scenario, length, &mut cluster, (header, kafka), &dir.join(HISTORY)).await?;
    drop(cluster);
    let report = judge(&dir.join(HISTORY))?;
    let text = serde_json::to_string_pretty(&report).map_err(|error| Failure(error.to_string()))?;
    std::fs::write(dir.join(REPORT), text)?;
    if report.verdict == Verdict::Pass {
        forget_data(&dir)?;
    }
    Ok(Ran { seed: asked.seed, report, dir })
}

/// Checks a history, tells what was found, and explains what is wrong.
///
/// # Errors
/// If it is no history.
pub(crate) fn judge(history: &Path) -> Result<Report, Failure> {
    let unreadable = |error: crate::history::HistoryError| Failure(error.to_string());
    let report = check(&mut Reader::open(history).map_err(unreadable)?).map_err(unreadable)?;
    print!("{}", report.summary());
    if report.verdict == Verdict::Fail {
        print!("{}", explain(history, &report, history.parent()).map_err(unreadable)?);
    }
    println!("verdict: {}", report.verdict);
    Ok(report)
}

/// Reads what was asked for in a run: its directory, or the file in it.
///
/// # Errors
/// If there is none.
pub(crate) fn asked_in(run: &Path) -> Result<Asked, Failure> {
    let file = if run.is_dir() { run.join(ASKED) } else { run.to_owned() };
    let unreadable = |error: String| Failure(format!("cannot read {}: {error}", file.display()));
    let text = std::fs::read_to_string(&file).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))
}

fn new_directory(dir: &Path) -> Result<PathBuf, Failure> {
    let tried = |error: std::io::Error| Failure(format!("cannot make {}: {error}", dir.display()));
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(tried)?;
    }
    std::fs::create_dir(dir).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure(format!("there is a run in {} already: give another --seed or --dir", dir.display()))
        }
        _ => tried(error),
    })?;
    // Nodes run elsewhere in the file system.
    std::path::absolute(dir).map_err(tried)
}

fn network(
    scenario: &Scenario,
    seed: u64,
    capabilities: &[(Capability, Result<(), String>)],
) -> Result<Network, Failure> {
    for (capability, probed) in capabilities {
        if let Err(why) = probed
            && scenario.needs.contains(capability)
        {
            let (name, what) = (scenario.name, capability.name());
            return Err(Failure(format!(
                "scenario {name} needs {what}, which is not to be had here (is this root?): {why}"
            )));
        }
    }
    if scenario.needs.contains(&Capability::Router) {
        Network::routed(seed).map_err(Failure)
    } else if scenario.needs.contains(&Capability::Namespaces) {
        Network::namespaces().map_err(Failure)
    } else {
        Ok(Network::loopback())
    }
}

fn header(
    asked: &Asked,
    scenario: &Scenario,
    length: Duration,
    cluster: &Cluster,
    capabilities: &[(Capability, Result<(), String>)],
    versions: Versions,
) -> Header {
    let load = scenario.load(asked.kafka);
    let names = |wanted: bool| {
        let of = capabilities.iter().filter(|(_, probed)| probed.is_ok() == wanted);
        of.map(|(capability, _)| capability.name().to_owned()).collect()
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Header {
        format: FORMAT,
        scenario: scenario.name.to_owned(),
        seed: asked.seed,
        length_s: length.as_secs(),
        started_ms: since.as_millis().try_into().unwrap_or(i64::MAX),
        versions,
        capabilities: names(true),
        missing: names(false),
        topic: load.topic.clone(),
        partitions: load.partitions,
        words: WORDS,
        processes: processes(&load, &cluster.numbers()),
        excuses: Vec::new(),
        requires: scenario.requires(length, asked.nodes, asked.short, asked.times, asked.kafka),
    }
}

fn version_of(binary: &Path) -> Result<String, Failure> {
    let asked = Command::new(binary).arg("--version").output();
    let hint = "build it with `cargo build --release -p stratalog`, or say where it is with --binary";
    let told = asked.map_err(|error| Failure(format!("cannot run {}: {error}; {hint}", binary.display())))?;
    Ok(String::from_utf8_lossy(&told.stdout).trim().to_owned())
}

/// Load, faults, the last reads. If that is broken off, the history tells of everything until then, and why.
async fn perform(
    asked: &Asked,
    scenario: &Scenario,
    length: Duration,
    cluster: &mut Cluster,
    (header, kafka): (Header, Option<Clients>),
    history: &Path,
) -> Result<(), Failure> {
    let processes = header.processes.clone();
    let shared = Shared::new(Writer::create(history, header)?, scenario.load(asked.kafka), asked.seed);
    let mut workload = Workload::start(shared, &processes, &cluster.addresses(), kafka.as_ref()).await?;
    let binaries = (asked.binary.clone(), asked.other_binary.clone());
    let wanted = scenario.faults(asked.short);
    let shared = Arc::clone(&workload.shared);
    let broken = {
        let group = workload.group.as_mut();
        let mut chaos = Chaos::new(cluster, (shared, group), asked.seed, length, wanted, binaries);
        chaos.run(scenario.nemesis).await.err()
    };
    eprintln!("  faults are over; {} records were acknowledged", workload.shared.known.lock().acked);
    let (shared, group) = workload.stop().await?;
    let broken = match broken {
        Some(broken) => Some(broken),
        None => last_reads(cluster, &shared, &processes).await.err(),
    };
    let broken = end_group(cluster, group, broken).await;
    if kafka.is_some() {
        shared.look_for_lost_clients();
    }
    look_for_ends(&shared, cluster)?;
    look_for_panics(&shared, history);
    let shared = Arc::into_inner(shared).ok_or_else(|| Failure::new("a client of the harness still runs"))?;
    Ok(shared.history.finish(broken.map(|broken| broken.0))?)
}

/// A node may end of what was asked of it before, when nobody breaks anything any more.
fn look_for_ends(shared: &Shared, cluster: &mut Cluster) -> Result<(), Failure> {
    let (what, now) = (NO_NODE_ENDS.to_owned(), shared.history.now());
    for detail in cluster.revive()? {
        shared.note(&Line::Probe(Probe { what: what.clone(), at: When(now, now), held: false, detail }));
    }
    Ok(())
}

/// A thread of a node may panic, and the node go on.
fn look_for_panics(shared: &Shared, history: &Path) {
    let panics = history.parent().map(logs::panics).unwrap_or_default();
    let now = shared.history.now();
    let (held, detail) = (panics.is_empty(), panics.join("; "));
    shared.note(&Line::Probe(Probe { what: NO_THREAD_PANICS.to_owned(), at: When(now, now), held, detail }));
}

async fn last_reads(cluster: &mut Cluster, shared: &Shared, processes: &[Process]) -> Result<(), Failure> {
    cluster.wait_whole().await?;
    let status = cluster.status(&[]).await.ok_or_else(|| Failure::new("no node answers"))?;
    finish(shared, processes, &cluster.addresses(), &status).await
}

/// Has a consumer group read what there is, unless the run was broken off, and ends it; why the run was broken off, if it was.
async fn end_group(cluster: &Cluster, group: Option<Group>, broken: Option<Failure>) -> Option<Failure> {
    let Some(group) = group else { return broken };
    let read = match &broken {
        Some(_) => Ok(()),
        None => group.read_all(cluster).await,
    };
    let ended = group.stop().await;
    broken.or(read.err()).or(ended.err())
}

/// What nodes had is of no use any more; history, settings and logs stay.
fn forget_data(dir: &Path) -> Result<(), Failure> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else if path.extension().is_some_and(|extension| extension == "img") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}
