//! L1, L2, S1: `kill -9` in the middle of ingest loses no acknowledged record and repeats none.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde_json::Value;

use crate::harness::{Node, data_dir};

/// Rounds of kill and restart; `E2E_KILLS` asks for more.
const KILLS: u64 = 5;

#[test]
fn l1_s1_kill_during_ingest_loses_and_repeats_nothing() {
    let kills = std::env::var("E2E_KILLS").map_or(KILLS, |kills| kills.parse().expect("E2E_KILLS is a number"));
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t", "--partitions", "3"]).ok();
    node.stop();
    let mut acknowledged = 0;
    for round in 0..kills {
        acknowledged += ingest_until_killed(data.path(), round);
    }
    assert!(acknowledged > 0, "no round acknowledged anything: the test tested nothing");
    check(data.path(), acknowledged);
}

/// Writes blocks, each by a client that reports when all of it is acknowledged, and kills the node after some of them.
/// Returns the number of acknowledged records.
fn ingest_until_killed(data: &Path, round: u64) -> u64 {
    let node = Node::start_with(data, &[]);
    let blocks = 2 + round % 3;
    for block in 0..blocks {
        let records: String =
            (0..500).map(|n| format!("{{\"id\":\"{round}-{block}-{n}\",\"acked\":true}}\n")).collect();
        node.run_with(&["produce", "t"], records.as_bytes()).ok();
    }
    if round % 2 == 1 {
        // A seal and a drop that drops nothing: the manifest changes shortly before the kill.
        node.run(&["retention", "drop", "t", "--before", "2000-01-01"]).ok();
    }
    let mut unfinished = node.spawn(&["produce", "t"]);
    let mut input = unfinished.stdin.take().unwrap();
    for n in 0..20_000 {
        if writeln!(input, "{{\"id\":\"{round}-open-{n}\",\"acked\":false}}").is_err() {
            break;
        }
    }
    node.kill();
    drop(input);
    unfinished.kill().unwrap();
    unfinished.wait().unwrap();
    blocks * 500
}

fn check(data: &Path, acknowledged: u64) {
    let node = Node::start(data);
    let replay = node.run(&["consume", "t", "--output", "ndjson"]).ok().stdout;
    let mut ids: BTreeMap<String, u64> = BTreeMap::new();
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for line in BufReader::new(replay.as_bytes()).lines() {
        let record: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let offset = next.entry(record["partition"].as_u64().unwrap()).or_default();
        assert_eq!(record["offset"].as_u64().unwrap(), *offset, "L2: offsets are dense");
        *offset += 1;
        let value: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
        *ids.entry(value["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let repeated: Vec<_> = ids.iter().filter(|(_, count)| **count > 1).collect();
    assert!(repeated.is_empty(), "records were written twice: {repeated:?}");
    let kept = ids.keys().filter(|id| !id.contains("open")).count() as u64;
    assert_eq!(kept, acknowledged, "L1: every acknowledged record is there");
    assert_eq!(node.value("SELECT count(*) FROM t"), ids.len() as u64, "S1: each record is a row once");
    assert_eq!(node.value("SELECT count(DISTINCT id) FROM t"), ids.len() as u64);
    assert_eq!(node.value("SELECT count(*) FROM t WHERE acked"), acknowledged);
    node.stop();
}
