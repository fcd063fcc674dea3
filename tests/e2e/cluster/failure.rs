//! What a test of a cluster tells when it fails. What went wrong comes last, behind what the nodes told: whoever reads it in CI
//! has the end of the output, and no directory to look into.

use std::panic::{set_hook, take_hook};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use stratalog_proto::v1::{ClusterReplica, ClusterShard};

use super::nodes::Cluster;

/// The name of the threads that a cluster's clients run on.
pub(super) const WORKERS: &str = "clients";
/// Lines of each node's log.
const LINES: usize = 25;

/// Thread and words of each panic since the last cluster was started.
static PANICS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// From now on panics are remembered, beside being told as ever.
pub(super) fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = take_hook();
        set_hook(Box::new(move |panic| {
            let thread = thread::current().name().unwrap_or_default().to_owned();
            lock().push((thread, panic.to_string()));
            tell(panic);
        }));
    });
    lock().clear();
}

/// What went wrong in this test: on its thread, or in what it started.
pub(super) fn what_failed() -> String {
    let here = thread::current().name().unwrap_or_default().to_owned();
    let panics = lock();
    let of_test = panics.iter().filter(|(thread, _)| *thread == here || thread == WORKERS);
    of_test.map(|(thread, words)| format!("on thread {thread}: {words}\n")).collect()
}

/// The last lines of a node's log that tell of trouble.
pub(super) fn troubles(log: &str) -> String {
    let signs = [" WARN ", " ERROR ", "panicked", "error: "];
    let mut lines: Vec<&str> = log.lines().filter(|line| signs.iter().any(|sign| line.contains(sign))).collect();
    let skipped = lines.len().saturating_sub(LINES);
    lines.drain(..skipped);
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// The cluster in the eyes of each node that runs, a line for each of its shards.
pub(super) fn seen(cluster: &Cluster) -> String {
    let running = cluster.numbers().into_iter().filter(|number| cluster.is_running(*number));
    let of_node = |number| match cluster.status_of(number) {
        Some(status) => status.shards.iter().map(|shard| format!("node {number} sees {}\n", line_of(shard))).collect(),
        None => format!("node {number} does not answer\n"),
    };
    running.map(of_node).collect()
}

fn line_of(shard: &ClusterShard) -> String {
    let of = |replica: &ClusterReplica| {
        let (node, role, applied) = (replica.node, &replica.role, replica.applied);
        format!(", {role} on {node} at {applied} lacks {}", replica.missing_segments)
    };
    let replicas: String = shard.replicas.iter().map(of).collect();
    format!("shard {}: leader {} in term {}{replicas}", shard.shard, shard.leader_node, shard.term)
}

fn lock() -> MutexGuard<'static, Vec<(String, String)>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}
