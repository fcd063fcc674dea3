//! The command line as users and scripts see it.

use serde_json::{Value, json};

use crate::harness::{ANY_PORTS, Node, data_dir, run, run_unread};

const EVENTS: &str = r#"{"ts":"2026-11-21T08:00:00Z","service":"cart","level":"info","ms":12.5,"message":"GET /api/v1/cart 200 OK"}
{"ts":"2026-11-21T08:30:00Z","service":"pay","level":"error","ms":7,"message":"payment declined for order-17","ctx":{"order":{"id":17}}}
{"ts":"2026-11-21T09:10:00Z","service":"pay","level":"info","ms":3,"message":"payment accepted for order-18","ctx":{"order":{"id":18}}}
"#;

fn node_with_events(data: &std::path::Path) -> Node {
    let node = Node::start(data);
    node.run(&["topic", "create", "logs", "--time-field", "ts", "--partitions", "2"]).ok();
    node.run_with(&["produce", "logs", "--key-field", "service"], EVENTS.as_bytes()).ok();
    // The figures of a topic do not wait for rows that are being made; a query does.
    assert_eq!(node.value("SELECT count(*) FROM logs"), 3);
    node
}

#[test]
fn main_job_from_produce_to_drop() {
    let data = data_dir();
    let node = node_with_events(data.path());
    let replayed = node.run(&["consume", "logs"]).ok().stdout;
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&replayed), sorted(EVENTS));
    let by_service = "SELECT service, count(*) AS n, sum(ms) AS ms FROM logs GROUP BY service ORDER BY service";
    assert_eq!(
        node.sql(by_service),
        [json!({"service": "cart", "n": 1, "ms": 12.5}), json!({"service": "pay", "n": 2, "ms": 10.0})]
    );
    assert_eq!(node.value("SELECT ctx.order.id FROM logs WHERE MATCH('declined')"), 17);
    let hits = node.json(&["search", "logs", "payment NOT declined"]);
    assert_eq!(hits[0]["message"], "payment accepted for order-18");
    assert_eq!(hits.as_array().unwrap().len(), 1);

    let drop = ["retention", "drop", "logs", "--before", "2026-11-21T09:00:00Z"];
    let listed = node.json(&[&drop[..], &["--dry-run"]].concat());
    let found = (&listed["rows"], &listed["tail_rows"], &listed["dry_run"]);
    assert_eq!(found, (&json!(0), &json!(2), &json!(true)), "nothing is sealed yet");
    assert_eq!(node.value("SELECT count(*) FROM logs"), 3);
    assert_eq!(node.json(&drop)["rows"], 2);
    assert_eq!(node.value("SELECT count(*) FROM logs"), 1);
    let segments = node.json(&["segments", "logs"]);
    assert_eq!(segments.as_array().unwrap().iter().map(|s| s["rows"].as_u64().unwrap()).sum::<u64>(), 1);
    node.stop();
}

#[test]
fn records_are_deleted_and_retention_is_applied_by_hand() {
    let data = data_dir();
    let node = node_with_events(data.path());
    let described = node.json(&["topic", "describe", "logs"]);
    let ends: Vec<Value> =
        described["partition_list"].as_array().unwrap().iter().map(|p| p["high_watermark"].clone()).collect();
    let beyond = node.run(&["retention", "delete-records", "logs", "--partition", "0", "--before", "99"]).failed(1);
    assert!(beyond.contains("it ends at"), "{beyond}");
    assert_eq!(node.value("SELECT count(*) FROM logs"), 3);
    let deleted = node.json(&["retention", "delete-records", "logs", "--before", "end"]);
    assert_eq!(deleted, json!([{"partition": 0, "log_start": ends[0]}, {"partition": 1, "log_start": ends[1]}]));
    assert_eq!(node.value("SELECT count(*) FROM logs"), 0);
    let applied = node.json(&["retention", "apply", "logs", "--dry-run"]);
    assert_eq!((&applied["rows"], &applied["segments"]), (&json!(0), &json!([])), "it is kept for ever");
    node.stop();
}

#[test]
fn restart_keeps_topics_records_rows_and_drops() {
    let data = data_dir();
    let node = node_with_events(data.path());
    node.run(&["retention", "drop", "logs", "--before", "2026-11-21T09:00:00Z"]).ok();
    assert_eq!(node.value("SELECT count(*) FROM logs"), 1);
    let segments = node.json(&["segments", "logs"]);
    let described = node.json(&["topic", "describe", "logs"]);
    node.stop();

    let node = Node::start(data.path());
    assert_eq!(node.json(&["segments", "logs"]), segments);
    assert_eq!(node.json(&["topic", "describe", "logs"]), described);
    assert_eq!(node.value("SELECT count(*) FROM logs"), 1);
    node.run_with(&["produce", "logs"], EVENTS.as_bytes()).ok();
    assert_eq!(node.value("SELECT count(*) FROM logs"), 4);
    node.stop();
}

#[test]
fn json_of_each_command_is_stable() {
    let data = data_dir();
    let node = node_with_events(data.path());
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let topic = [
        "name",
        "id",
        "partitions",
        "format",
        "time.field",
        "bucket",
        "retention",
        "retention.bytes",
        "max.message.bytes",
        "pattern",
        "multiline",
        "columns",
        "replication",
    ];
    let mut sorted_topic = topic.map(str::to_owned).to_vec();
    sorted_topic.sort();
    let mut listed = keys(&node.json(&["topic", "list"])[0]);
    listed.sort();
    assert_eq!(listed, sorted_topic);
    let described = node.json(&["topic", "describe", "logs"]);
    assert_eq!(described["partition_list"].as_array().unwrap().len(), 2);
    let rows = &described["row_details"];
    assert_eq!((&rows["rows"], &rows["dead_rows"], &rows["held"]), (&json!(3), &json!(0), &json!([])));
    let produced = node.run_with(&["produce", "logs", "--output", "json"], b"{\"ts\":0}\n\n").ok();
    let produced: Value = serde_json::from_str(&produced.stdout).unwrap();
    assert_eq!((&produced["records"], &produced["blank_lines"]), (&json!(1), &json!(1)));
    let consumed = node.run(&["consume", "logs", "--count", "1", "--output", "ndjson"]).ok();
    let consumed: Value = serde_json::from_str(&consumed.stdout).unwrap();
    let mut fields = keys(&consumed);
    fields.sort();
    assert_eq!(fields, ["headers", "key", "offset", "partition", "timestamp", "value"]);
    node.stop();
}

#[test]
fn csv_and_table_show_the_same_rows() {
    let data = data_dir();
    let node = node_with_events(data.path());
    let query = "SELECT service, count(*) AS n FROM logs GROUP BY service ORDER BY service";
    let csv = node.run(&["sql", query, "--output", "csv"]).ok().stdout;
    assert_eq!(csv, "service,n\ncart,1\npay,2\n");
    let table = node.run(&["sql", query]).ok().stdout;
    assert!(table.contains("cart") && table.contains("rows in"), "{table}");
    let empty = node.run(&["sql", "SELECT service FROM logs WHERE ms > 1000", "--output", "csv"]).ok().stdout;
    assert_eq!(empty, "service\n");
    assert_eq!(node.json(&["sql", "SELECT service FROM logs WHERE ms > 1000"]), json!([]));
    node.stop();
}

#[test]
fn consume_starts_where_it_is_told() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "lines", "--format", "text", "--partitions", "1"]).ok();
    node.run_with(&["produce", "lines"], b"one\n\nthree\r\nf\xffur").ok();
    let values = |arguments: &[&str]| node.run(&[&["consume", "lines"], arguments].concat()).ok().stdout;
    assert_eq!(values(&[]).lines().count(), 3);
    assert_eq!(values(&["--from", "1", "--count", "1"]), "three\n");
    assert_eq!(values(&["--from", "latest"]), "");
    assert_eq!(values(&["--from", "-1h", "--count", "1"]), "one\n");
    assert_eq!(values(&["--partition", "0", "--from", "2", "--output", "csv"]).lines().count(), 2);
    node.stop();
}

#[test]
fn follow_sees_what_is_produced_later() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t", "--format", "text", "--partitions", "1"]).ok();
    let follower = node.spawn(&["consume", "t", "--follow", "--count", "2"]);
    node.run_with(&["produce", "t"], b"a\nb\n").ok();
    let output = follower.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a\nb\n");
    node.stop();
}

#[test]
fn exit_codes_are_as_documented() {
    assert_eq!(run(&["--version"], b"").code, 0);
    assert_eq!(run(&["nonsense"], b"").code, 2);
    let unreachable = run(&["--endpoint", "http://127.0.0.1:9", "topic", "list"], b"").failed(3);
    assert!(unreachable.contains("127.0.0.1:9"), "{unreachable}");
    let completions = run(&["completions", "bash"], b"").ok();
    assert!(completions.stdout.contains("_stratalog"));
}

#[test]
fn a_reader_that_leaves_ends_a_command_quietly() {
    let tour = [&["quickstart", "--exit", "--events", "10"][..], &ANY_PORTS].concat();
    for arguments in [&["completions", "zsh"][..], &tour] {
        let ran = run_unread(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn settings_come_from_file_environment_and_flags() {
    let data = data_dir();
    let file = data.path().join("stratalog.toml");
    std::fs::write(&file, "[topics]\npartitions = 3\n[rows]\nseal_age = \"5s\"\n").unwrap();
    let file = file.to_str().unwrap();
    let shown = run(&["serve", "--check", "--config", file, "--data", "elsewhere"], b"").ok().stdout;
    assert!(shown.contains("partitions = 3") && shown.contains("data_dir = \"elsewhere\""), "{shown}");
    std::fs::write(file, "[rows]\nseal_aeg = \"5s\"\n").unwrap();
    let error = run(&["serve", "--check", "--config", file], b"").failed(2);
    assert!(error.contains("did you mean `rows.seal_age`?"), "{error}");
}
