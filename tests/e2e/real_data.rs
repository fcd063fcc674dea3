//! The shared real data, where it is: produced, replayed byte for byte, queried and searched, against answers that a few
//! lines of plain Rust work out from the same file. A part of each file, so that a debug build stays quick;
//! `E2E_REAL_LINES` asks for more.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

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
        _ => Box::new(flate2::read::MultiGzDecoder::new(file)),
    };
    let wanted = std::env::var("E2E_REAL_LINES").map_or(LINES, |lines| lines.parse().unwrap());
    Some(BufReader::new(plain).lines().take(wanted).map(Result::unwrap).collect())
}

/// A node whose topic `t` holds the lines, in one partition, and which gave them back byte for byte.
fn node_with(data: &std::path::Path, lines: &[String], create: &[&str]) -> Node {
    let node = Node::start(data);
    node.run(&[&["topic", "create", "t", "--partitions", "1"], create].concat()).ok();
    let text = lines.join("\n") + "\n";
    node.run_with(&["produce", "t"], text.as_bytes()).ok();
    let replayed = node.run(&["consume", "t"]).ok().stdout;
    assert!(replayed == text, "the replay differs from the file");
    assert_eq!(node.value("SELECT count(*) FROM t"), lines.len());
    node
}

fn parsed(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn count(values: &[Value], keep: impl Fn(&Value) -> bool) -> usize {
    values.iter().filter(|value| keep(value)).count()
}

#[test]
fn train_ticket_logs() {
    let Some(lines) = lines("trainticket-logs.ndjson.zst") else { return };
    let data = data_dir();
    let node = node_with(data.path(), &lines, &["--time-field", "timestamp"]);
    let logs = parsed(&lines);
    let mut by_node: BTreeMap<&str, u64> = BTreeMap::new();
    for log in &logs {
        *by_node.entry(log["node"].as_str().unwrap()).or_default() += 1;
    }
    // Twice: from the tail, and, after a drop of nothing has sealed it, from segments.
    for state in ["tail", "sealed"] {
        let rows = node.sql("SELECT node, count(*) AS n FROM t GROUP BY node ORDER BY node");
        let counted: BTreeMap<&str, u64> =
            rows.iter().map(|row| (row["node"].as_str().unwrap(), row["n"].as_u64().unwrap())).collect();
        assert_eq!(counted, by_node, "{state}");
        for word in ["TravelServiceImpl", "Success", "ERROR"] {
            let expected = count(&logs, |log| {
                let text = log["message"].as_str().unwrap().to_lowercase();
                text.split(|c: char| !c.is_alphanumeric()).any(|part| part == word.to_lowercase())
            });
            assert_eq!(
                node.value(&format!("SELECT count(*) FROM t WHERE MATCH(message, '{word}')")),
                expected,
                "{word} {state}"
            );
            let negated = format!("SELECT count(*) FROM t WHERE NOT MATCH(message, '{word}')");
            assert_eq!(node.value(&negated), logs.len() - expected, "NOT {word} {state}");
        }
        let trace = logs[logs.len() / 2]["trace_id"].as_str().unwrap();
        let expected = count(&logs, |log| log["trace_id"] == *trace);
        assert_eq!(node.value(&format!("SELECT count(*) FROM t WHERE trace_id = '{trace}'")), expected, "{state}");
        node.run(&["retention", "drop", "t", "--before", "2000-01-01"]).ok();
    }
    node.stop();
}

#[test]
fn zeek_dns_with_dotted_names() {
    let Some(lines) = lines("zeek-dns.ndjson.gz") else { return };
    let data = data_dir();
    let node = node_with(data.path(), &lines, &["--time-field", "ts"]);
    let events = parsed(&lines);
    for state in ["tail", "sealed"] {
        let expected = count(&events, |event| event["id.resp_p"] == 53);
        assert_eq!(node.value("SELECT count(*) FROM t WHERE id.resp_p = 53"), expected, "{state}");
        let expected = count(&events, |event| event["rejected"] == true);
        assert_eq!(node.value("SELECT count(*) FROM t WHERE rejected"), expected, "{state}");
        let expected = count(&events, |event| event.get("answers").is_none_or(Value::is_null));
        assert_eq!(node.value("SELECT count(*) FROM t WHERE answers IS NULL"), expected, "{state}");
        let sum: u64 = events.iter().filter_map(|event| event["trans_id"].as_u64()).sum();
        assert_eq!(node.value("SELECT sum(trans_id) FROM t"), sum, "{state}");
        node.run(&["retention", "drop", "t", "--before", "2000-01-01"]).ok();
    }
    node.stop();
}

#[test]
fn kafka_broker_log_as_text() {
    let Some(lines) = lines("kafka-broker.log.gz") else { return };
    let data = data_dir();
    let node = node_with(data.path(), &lines, &["--format", "text"]);
    let expected = lines.iter().filter(|line| line.contains("DEBUG")).count();
    for state in ["tail", "sealed"] {
        assert_eq!(node.value("SELECT count(*) FROM t WHERE message LIKE '%DEBUG%'"), expected, "{state}");
        let phrase =
            lines.iter().filter(|line| line.to_lowercase().contains("need to trigger partition rebalance")).count();
        let matched = "SELECT count(*) FROM t WHERE MATCH('\"need to trigger partition rebalance\"')";
        assert_eq!(node.value(matched), phrase, "{state}");
        node.run(&["retention", "drop", "t", "--before", "2000-01-01"]).ok();
    }
    node.stop();
}
