//! What users and their machines get wrong: each gets a clear error, and nothing is lost.

use serde_json::{Value, json};

use crate::harness::{Node, data_dir, run};

#[test]
fn record_that_does_not_parse_stays_replayable_and_becomes_a_dead_letter() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t", "--time-field", "ts", "--partitions", "1"]).ok();
    let lines =
        "{\"ts\":\"2026-11-21T08:00:00Z\",\"a\":1}\nnot json\n{\"a\":2}\n{\"ts\":\"in the year 12345\",\"a\":3}\n[1]\n";
    node.run_with(&["produce", "t"], lines.as_bytes()).ok();
    assert_eq!(node.run(&["consume", "t"]).ok().stdout, lines);
    let rows = node.sql("SELECT _offset, _dead IS NULL AS alive, _raw FROM t ORDER BY _offset");
    let alive: Vec<&Value> = rows.iter().map(|row| &row["alive"]).collect();
    assert_eq!(alive, [&json!(true), &json!(false), &json!(false), &json!(false), &json!(false)]);
    assert_eq!(rows[1]["_raw"], "not json");
    let reasons = node.sql("SELECT _dead FROM t WHERE _dead IS NOT NULL ORDER BY _offset");
    assert!(reasons[1]["_dead"].as_str().unwrap().contains("ts"), "{reasons:?}");
    node.stop();
}

#[test]
fn topic_names_and_settings_are_checked() {
    let data = data_dir();
    let node = Node::start(data.path());
    for name in ["../x", "a/b", "..", "a b", ""] {
        let error = node.run(&["topic", "create", "--", name]).failed(1);
        assert!(error.contains("is not a topic name"), "{error}");
    }
    node.run(&["topic", "create", "orders"]).ok();
    assert!(node.run(&["topic", "create", "orders"]).failed(1).contains("orders"));
    let unknown = node.run(&["topic", "describe", "order"]).failed(1);
    assert!(unknown.contains("orders"), "a near name is suggested: {unknown}");
    let setting = node.run(&["topic", "create", "x", "--set", "retentoin=7d"]).failed(2);
    assert!(setting.contains("retention"), "{setting}");
    node.run(&["topic", "create", "x", "--bucket", "1y"]).failed(2);
    node.run(&["topic", "create", "x", "--format", "avro"]).failed(1);
    node.run(&["topic", "create", "x", "--partitions", "4000000000"]).failed(1);
    for (change, why) in [
        ("bucket=1d", "`bucket` is fixed"),
        ("format=raw", "cannot change from json to raw"),
        ("pattern=%{IP:client}", "set format=text as well"),
        ("columns=a money", "`money` is not a type"),
        ("retention.bytes=many", "as in 64MiB"),
        ("bukcet=1d", "the settings are"),
    ] {
        let error = node.run(&["topic", "alter", "orders", "--set", change]).failed(2);
        assert!(error.contains(why), "{change}: {error}");
    }
    let nothing = node.run(&["topic", "alter", "orders"]).failed(2);
    assert!(nothing.contains("say what to change"), "{nothing}");
    node.run(&["topic", "alter", "orders", "--retention", "7d", "--retention-bytes", "10GiB"]).ok();
    let described = node.json(&["topic", "describe", "orders"]);
    assert_eq!((&described["retention"], &described["retention.bytes"]), (&json!("7d"), &json!(10_u64 << 30)));
    node.run(&["topic", "delete", "orders"]).failed(2);
    node.run(&["topic", "delete", "orders", "--yes"]).ok();
    node.run(&["produce", "orders"]).failed(1);
    node.stop();
}

#[test]
fn bad_queries_point_at_the_place() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t"]).ok();
    node.run_with(&["produce", "t"], b"{\"service\":\"a\"}\n").ok();
    let syntax = node.run(&["sql", "SELECT count(*\nFROM t"]).failed(1);
    assert!(syntax.to_lowercase().contains("line 2"), "{syntax}");
    let column = node.run(&["sql", "SELECT servce FROM t"]).failed(1);
    assert!(column.contains("service"), "{column}");
    let table = node.run(&["sql", "SELECT * FROM tt"]).failed(1);
    assert!(table.contains("tt"), "{table}");
    node.run(&["sql", "INSERT INTO t VALUES (1)"]).failed(1);
    let search = node.run(&["search", "t", "a AND (b OR"]).failed(1);
    assert!(search.contains("at byte 11"), "{search}");
    node.run(&["search", "nosuch", "a"]).failed(1);
    assert_eq!(node.value("SELECT count(*) FROM t"), 1);
    node.stop();
}

#[test]
fn record_over_the_limit_is_refused_and_the_rest_goes_on() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t", "--set", "max.message.bytes=4096"]).ok();
    let large = format!("{{\"a\":\"{}\"}}\n", "x".repeat(10_000));
    let error = node.run_with(&["produce", "t", "--compression", "none"], large.as_bytes()).failed(1);
    assert!(error.contains("max.message.bytes"), "{error}");
    node.run_with(&["produce", "t"], b"{\"a\":\"small\"}\n").ok();
    assert_eq!(node.value("SELECT count(*) FROM t"), 1);
    node.stop();
}

#[test]
fn second_process_on_the_same_directory_is_refused() {
    let data = data_dir();
    let node = Node::start(data.path());
    let path = data.path().to_str().unwrap();
    let error =
        run(&["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--kafka", "", "--data", path], b"").failed(1);
    assert!(error.contains(path), "{error}");
    node.stop();
}

#[test]
fn listener_outside_loopback_is_refused() {
    let error = run(&["serve", "--grpc", "0.0.0.0:0", "--check"], b"").failed(2);
    assert!(error.contains("--insecure"), "{error}");
}

#[test]
fn client_that_leaves_in_the_middle_leaves_the_node_well() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t", "--format", "text"]).ok();
    let mut producer = node.spawn(&["produce", "t"]);
    use std::io::Write;
    producer.stdin.as_mut().unwrap().write_all(&b"line\n".repeat(10_000)).unwrap();
    producer.kill().unwrap();
    producer.wait().unwrap();
    let mut consumer = node.spawn(&["consume", "t", "--follow"]);
    consumer.kill().unwrap();
    consumer.wait().unwrap();
    node.run_with(&["produce", "t"], b"last\n").ok();
    assert_eq!(node.value("SELECT count(*) FROM t WHERE message = 'last'"), 1);
    node.stop();
}
