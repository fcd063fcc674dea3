//! The shared real data, where it is: each file produced, replayed byte for byte, queried and searched, in the tail and in
//! segments. The answers are worked out from the same lines by a few lines of plain Rust, and by `jq` and `grep` where they
//! are installed. A part of each file, so that a debug build stays quick; `E2E_REAL_LINES` asks for more.

mod network;
mod services;
mod text;
mod tools;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Node, data_dir, repository};

const LINES: usize = 10_000;

/// The first lines of a shared file; `None`, with a message, where it is missing.
fn lines(name: &str) -> Option<Vec<String>> {
    let path: PathBuf = repository().join("../shared/data").join(name);
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("skipped: {} is not here", path.display());
        return None;
    };
    let plain: Box<dyn Read> = match path.extension().and_then(|e| e.to_str()) {
        Some("zst") => Box::new(zstd::Decoder::new(file).unwrap()),
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        _ => Box::new(file),
    };
    let wanted = std::env::var("E2E_REAL_LINES").map_or(LINES, |lines| lines.parse().unwrap());
    // An empty line is no record of text.
    let lines = BufReader::new(plain).lines().take(wanted).map(Result::unwrap);
    Some(lines.filter(|line| !line.is_empty()).collect())
}

fn parsed(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A node with the lines in a topic `t`.
struct Loaded {
    node: Node,
    _data: tempfile::TempDir,
}

impl Loaded {
    fn new(lines: &[String], create: &[&str]) -> Self {
        Self::with_dead(lines, create, 0)
    }

    /// The same, where so many lines are dead letters.
    fn with_dead(lines: &[String], create: &[&str], dead: usize) -> Self {
        let data = data_dir();
        let node = Node::start(data.path());
        let this = Self { node, _data: data };
        this.add("t", lines, create);
        assert_eq!(this.node.value("SELECT count(*) FROM t WHERE _dead IS NOT NULL"), dead);
        this
    }

    /// Adds a topic of one partition, so that it can be compared byte for byte with what is replayed.
    fn add(&self, topic: &str, lines: &[String], create: &[&str]) {
        self.node.run(&[&["topic", "create", topic, "--partitions", "1"], create].concat()).ok();
        let text = lines.join("\n") + "\n";
        self.node.run_with(&["produce", topic], text.as_bytes()).ok();
        let replayed = self.node.run(&["consume", topic]).ok().stdout;
        assert!(replayed == text, "the replay of `{topic}` differs from the file");
        // A query without a token waits for what is not yet a row, but not for ever.
        let (all, deadline) = (format!("SELECT count(*) FROM {topic}"), Instant::now() + Duration::from_secs(120));
        while self.node.value(&all) != lines.len() {
            assert!(Instant::now() < deadline, "not every line of `{topic}` became a row");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Checks the same in the tail, and from segments.
    fn check(self, topics: &[&str], check: impl Fn(&Node)) {
        check(&self.node);
        for topic in topics {
            self.node.run(&["topic", "seal", topic]).ok();
            let sealed = format!("SELECT sum(rows) FROM system.segments WHERE topic = '{topic}'");
            assert_eq!(self.node.value(&sealed), self.node.value(&format!("SELECT count(*) FROM {topic}")));
        }
        check(&self.node);
        self.node.stop();
    }
}

/// The rows of a statement with a name and a number, by name. A row whose name is null has the name "null".
fn counted(node: &Node, sql: &str) -> BTreeMap<String, u64> {
    let row = |row: &Value| -> (String, u64) {
        let columns = row.as_object().unwrap_or_else(|| panic!("{row} is a row"));
        let number = columns.values().find_map(Value::as_u64).unwrap_or_else(|| panic!("{row} has a number"));
        (name_of(columns.values().find(|value| !value.is_u64()).unwrap_or(&Value::Null)), number)
    };
    node.sql(sql).iter().map(row).collect()
}

/// How many there are of each name.
fn count_by(values: &[Value], name: impl Fn(&Value) -> &Value) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    values.iter().for_each(|value| *counts.entry(name_of(name(value))).or_default() += 1);
    counts
}

fn name_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn count(values: &[Value], keep: impl Fn(&Value) -> bool) -> usize {
    values.iter().filter(|value| keep(value)).count()
}

/// Whether a text has the word, whatever its case.
fn has_word(text: &str, word: &str) -> bool {
    text.to_lowercase().split(|c: char| !c.is_alphanumeric()).any(|part| part == word.to_lowercase())
}

/// How many rows a search finds, at most 10,000.
fn found(node: &Node, topic: &str, query: &str) -> usize {
    let hits = node.json(&["search", topic, query, "--limit", "10000"]);
    hits.as_array().unwrap_or_else(|| panic!("{hits} are hits")).len()
}

#[track_caller]
fn is_close(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{found} is a number"));
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found} instead of {expected}");
}
