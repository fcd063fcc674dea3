//! Queries that ask for too much: each gets a right answer or a clear error within its budget, while ingest goes on.

use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Node, data_dir};

const ROWS: u64 = 40_000;

/// A node whose queries have little memory, and a topic of many distinct values.
fn node(data: &std::path::Path) -> Node {
    let file = data.join("stratalog.toml");
    std::fs::write(&file, "[query]\nmemory = \"64MiB\"\n").unwrap();
    let node = Node::start_with(data, &["--config", file.to_str().unwrap()]);
    node.run(&["topic", "create", "t", "--partitions", "2"]).ok();
    let lines: String =
        (0..ROWS).map(|n| format!("{{\"n\":{n},\"g\":{},\"s\":\"value number {n}\"}}\n", n % 100)).collect();
    node.run_with(&["produce", "t"], lines.as_bytes()).ok();
    node
}

/// The node takes records and shows them.
fn goes_on(node: &Node) {
    let before = node.value("SELECT count(*) FROM t").as_u64().unwrap();
    node.run_with(&["produce", "t"], b"{\"n\":-1}\n").ok();
    assert_eq!(node.value("SELECT count(*) FROM t"), before + 1);
}

fn sql(node: &Node, statement: &str) -> reqwest::blocking::RequestBuilder {
    let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(120)).build().unwrap();
    client.post(format!("{}/v1/sql", node.http)).json(&json!({"sql": statement}))
}

#[test]
fn groups_sorts_and_joins_of_everything_are_right_or_refused() {
    let data = data_dir();
    let node = node(data.path());
    let cases = [
        ("SELECT count(*) AS n FROM (SELECT s, n, count(*) FROM t WHERE n >= 0 GROUP BY s, n)", ROWS),
        ("SELECT count(*) AS n FROM (SELECT *, row_number() OVER (ORDER BY s DESC) FROM t WHERE n >= 0)", ROWS),
        ("SELECT count(*) AS n FROM t a JOIN t b ON a.n = b.n WHERE a.n >= 0", ROWS),
        ("SELECT count(*) AS n FROM t a JOIN t b ON a.g = b.g", ROWS * (ROWS / 100)),
    ];
    for (statement, expected) in cases {
        let answer: Value = sql(&node, statement).send().unwrap().json().unwrap();
        match answer["error"]["code"].as_str() {
            None => assert_eq!(answer["rows"][0]["n"], expected, "{statement}"),
            Some(code) => assert_eq!(code, "QUERY_BUDGET_EXCEEDED", "{statement}: {answer}"),
        }
        goes_on(&node);
    }
    node.stop();
}

#[test]
fn ten_thousand_terms_are_right_or_refused() {
    let data = data_dir();
    let node = node(data.path());
    let terms = |format: &dyn Fn(u64) -> String, or: &str| (0..10_000).map(format).collect::<Vec<_>>().join(or);
    let statements = [
        format!("SELECT count(*) AS n FROM t WHERE {}", terms(&|n| format!("n = {n}"), " OR ")),
        format!("SELECT count(*) AS n FROM t WHERE n IN ({})", terms(&|n| n.to_string(), ",")),
    ];
    for statement in statements {
        let answer: Value = sql(&node, &statement).send().unwrap().json().unwrap();
        let shown = answer.to_string();
        let is_right = answer["rows"][0]["n"] == 10_000;
        let is_refused = answer["error"]["message"].as_str().is_some_and(|message| message.len() > 20);
        assert!(is_right || is_refused, "{}", &shown[..shown.len().min(500)]);
        goes_on(&node);
    }
    let search = terms(&|n| format!("s:{n}"), " OR ");
    let ran = node.run(&["search", "t", &search, "--limit", "5"]);
    assert!(ran.code == 0 || (ran.code == 1 && ran.stderr.contains("error: ")), "{}", ran.stderr);
    goes_on(&node);
    node.stop();
}

#[test]
fn a_client_that_leaves_and_a_deadline_end_a_query() {
    let data = data_dir();
    let node = node(data.path());
    let endless = "SELECT a.s, b.s FROM t a CROSS JOIN t b";
    let mut answer = sql(&node, endless).send().unwrap();
    answer.read_exact(&mut [0; 4096]).unwrap();
    drop(answer);
    goes_on(&node);
    let count = "SELECT count(*) FROM t a CROSS JOIN t b CROSS JOIN t c WHERE a.n + b.n + c.n = 7";
    let late = node.run(&["sql", count, "--timeout", "300ms"]).failed(1);
    assert!(late.contains("deadline") || late.contains("time"), "{late}");
    goes_on(&node);
    node.stop();
}
