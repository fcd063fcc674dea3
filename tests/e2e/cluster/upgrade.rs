//! A data directory of the last release, and what this build makes of it: one node first, and a cluster that grows from it.
//!
//! 0.1.0, the last release, knows no cluster: nodes of it and of this build cannot be in one. What can be mixed are the clients of
//! the one and the nodes of the other. From the next release on, this is the place for a cluster of both.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::alone;
use super::machine::ended_within;
use super::network::Network;
use super::nodes::Cluster;
use crate::harness::{Node, data_dir, repository, run_of};

/// Records of each writing.
const RECORDS: usize = 2_000;
const TOPIC: &str = "kept";
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// The binary of the last release: that of `E2E_RELEASE`, or one that is built from its commit, once.
fn last_release() -> PathBuf {
    if let Ok(binary) = std::env::var("E2E_RELEASE") {
        return binary.into();
    }
    let changes = fs::read_to_string(repository().join("CHANGELOG.md")).expect("it is there");
    let commit = changes.split("The release is commit `").nth(1).and_then(|rest| rest.split('`').next());
    let commit = commit.expect("the changelog names the commit of the last release");
    let home = repository().join("target/releases").join(commit);
    let binary = home.join("target/debug/stratalog");
    if !binary.exists() {
        let source = home.join("source");
        fs::create_dir_all(&source).unwrap();
        let unpack = format!("git archive {commit} | tar --extract --directory '{}'", source.display());
        must(Command::new("sh").args(["-c", &unpack]).current_dir(repository()));
        let build = ["build", "--locked", "--package", "stratalog"];
        must(Command::new("cargo").args(build).current_dir(&source).env("CARGO_TARGET_DIR", home.join("target")));
    }
    binary
}

fn must(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn records(name: &str) -> String {
    (0..RECORDS).map(|n| format!("{{\"id\":\"{name}-{n}\",\"text\":\"the word{} of {name}\"}}\n", n % 10)).collect()
}

/// Has the last release write to a directory of its own, seal a part, and end: in order, or killed.
fn write_before(release: &Path, data: &Path, killed: bool) {
    let node = Node::start_of(release, data, &[]);
    let run = |arguments: &[&str], input: &str| {
        run_of(release, &[&["--endpoint", &node.grpc], arguments].concat(), input.as_bytes()).ok();
    };
    run(&["topic", "create", TOPIC, "--partitions", "3"], "");
    run(&["produce", TOPIC], &records("sealed"));
    // It seals, and drops nothing.
    run(&["retention", "drop", TOPIC, "--before", "2000-01-01"], "");
    run(&["produce", TOPIC], &records("tail"));
    if killed { node.kill() } else { node.stop() }
}

/// L1, L2, S1: every record of these writings is there once, in the log and as a row, and search finds what it should.
fn check(endpoint: &str, writings: &[&str]) {
    let run =
        |arguments: &[&str]| crate::harness::run(&[&["--endpoint", endpoint], arguments].concat(), b"").ok().stdout;
    let replay = run(&["consume", TOPIC]);
    let read: Vec<&str> = replay.lines().collect();
    let written: Vec<String> = writings.iter().map(|name| records(name)).collect();
    let expected: BTreeSet<&str> = written.iter().flat_map(|records| records.lines()).collect();
    assert_eq!(read.len(), expected.len(), "L1, L2: {endpoint} has as many records as were written");
    assert_eq!(read.iter().copied().collect::<BTreeSet<_>>(), expected, "L1: {endpoint} has what was written");
    let count = |sql: &str| {
        let rows: Value = serde_json::from_str(&run(&["sql", sql, "--output", "json"])).expect("it is JSON");
        rows[0]["n"].as_u64().unwrap_or_else(|| panic!("{rows} has no number n"))
    };
    let all = expected.len() as u64;
    assert_eq!(count(&format!("SELECT count(DISTINCT id) AS n FROM {TOPIC}")), all, "S1: rows of {endpoint}");
    assert_eq!(count(&format!("SELECT count(*) AS n FROM {TOPIC}")), all, "S1: rows of {endpoint}");
    assert_eq!(count(&format!("SELECT count(*) AS n FROM {TOPIC} WHERE MATCH(text, 'word3')")), all / 10, "Q2");
}

/// Starts it, which has to end with an error.
fn refuses(release: &Path, data: &Path) {
    let mut serve = Command::new(release);
    serve.args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"]).arg(data);
    let mut child = serve.stdout(Stdio::null()).spawn().expect("it starts");
    let status = ended_within(&mut child, ENDS_WITHIN);
    let _ = child.kill();
    assert!(status.is_some_and(|status| !status.success()), "{serve:?} ended with {status:?}");
}

#[test]
#[ignore = "builds the last release, which takes minutes: `cargo test -p stratalog --test e2e upgrade -- --ignored`"]
fn l1_s1_a_directory_of_the_last_release_is_served_on() {
    let release = last_release();
    for killed in [false, true] {
        let data = data_dir();
        write_before(&release, data.path(), killed);
        let node = Node::start(data.path());
        check(&node.grpc, &["sealed", "tail"]);
        // A client of the last release still writes.
        run_of(&release, &["--endpoint", &node.grpc, "produce", TOPIC], records("since").as_bytes()).ok();
        check(&node.grpc, &["sealed", "tail", "since"]);
        node.kill();
        let node = Node::start(data.path());
        check(&node.grpc, &["sealed", "tail", "since"]);
        node.stop();
        // The last release does not open it again, and leaves it as it is.
        refuses(&release, data.path());
        let node = Node::start(data.path());
        check(&node.grpc, &["sealed", "tail", "since"]);
        node.stop();
    }
}

#[test]
#[ignore = "builds the last release, which takes minutes: `cargo test -p stratalog --test e2e upgrade -- --ignored`"]
fn l1_a_node_of_the_last_release_becomes_a_cluster() {
    let _alone = alone();
    let release = last_release();
    let cluster = Cluster::start_prepared(Network::loopback(), 3, |member| {
        if member.number == 1 {
            write_before(&release, &member.data, true);
        }
    });
    for number in cluster.numbers() {
        check(&cluster.member(number).grpc, &["sealed", "tail"]);
    }
    cluster.wait("all nodes use the newest feature level that they know", |cluster| {
        let status = cluster.status_of(1).ok_or("node 1 does not answer")?;
        let known = status.nodes.iter().map(|node| node.feature_level).min().unwrap_or_default();
        if status.feature_level == known { Ok(()) } else { Err(format!("it is {} of {known}", status.feature_level)) }
    });
}
