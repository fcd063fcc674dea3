//! The examples of docs/SQL.md, as they stand there: each has to run, and to show something.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::harness::{Node, data_dir, repository};

/// The statements of the section, one each.
fn examples() -> Vec<String> {
    let page = std::fs::read_to_string(repository().join("docs/SQL.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Examples\n")).expect("there are examples");
    let blocks = section.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap_or_default());
    let statements = blocks.flat_map(|block| block.split(";\n")).map(str::trim).filter(|one| !one.is_empty());
    statements.map(str::to_owned).collect()
}

/// Requests of two services over the last two hours, and the orders that some of them made.
fn records() -> (String, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (mut logs, mut orders) = (String::new(), String::new());
    for n in 0..2_400 {
        let time = now - 7_200 + n * 3;
        let status = [200, 200, 200, 404, 200, 503, 200][n as usize % 7];
        let level = if status == 503 { "error" } else { "info" };
        let service = ["checkout", "search"][n as usize % 2];
        let message = match status {
            503 => format!("upstream 10.0.0.{}:8080 timeout after {} ms", n % 5, 900 + n % 300),
            _ => format!("GET /api/v1/{service}/{n} done"),
        };
        let http =
            json!({"status": status, "latency": (n * 37 % 1_000) as f64 / 4.0, "path": format!("/api/v1/{service}")});
        let log = json!({
            "timestamp": time, "level": level, "service": service, "host": format!("web-{}", n % 3), "message": message,
            "http": http, "traceId": format!("t{}", n / 4), "orderId": format!("o{n}"), "tags": ["eu", service],
        });
        writeln!(logs, "{log}").unwrap();
        if n % 9 == 0 {
            writeln!(orders, "{}", json!({"id": format!("o{n}"), "total": n % 250, "at": time})).unwrap();
        }
    }
    logs.push_str("not json\n");
    (logs, orders)
}

#[test]
fn every_example_of_the_sql_page_runs_and_shows_something() {
    let (logs, orders) = records();
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "logs", "--time-field", "timestamp"]).ok();
    node.run(&["topic", "create", "orders.v1", "--time-field", "at"]).ok();
    node.run_with(&["produce", "logs"], logs.as_bytes()).ok();
    node.run_with(&["produce", "orders.v1"], orders.as_bytes()).ok();
    let examples = examples();
    assert!(examples.len() >= 12, "only {} examples were found", examples.len());
    for example in examples {
        let ran = node.run(&["sql", &example, "--output", "json"]);
        assert_eq!(ran.code, 0, "{example}\n{}", ran.stderr);
        let rows: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let rows = rows.as_array().unwrap();
        assert!(!rows.is_empty(), "{example} gives no row");
    }
    node.stop();
}
