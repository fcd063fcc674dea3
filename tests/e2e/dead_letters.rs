//! From a file that gives no rows to one that does: see that something is wrong, what it is, mend it, try again.

use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::harness::{Node, data_dir};

const LINES: &str = r#"{"at":"2026-11-21T08:00:00Z","service":"cart","ms":12}
{"at":"2026-11-21T08:30:00Z","service":"pay","ms":7}
{"at":"yesterday","service":"pay","ms":3}
{"service":"pay","ms":4}
not json
{"at":"2026-11-21T09:10:00Z","service":"pay","ms":5}
"#;

/// A node with a topic whose time field has another name than that of the records.
fn node_with_mistake(data: &std::path::Path) -> Node {
    let node = Node::start(data);
    node.run(&["topic", "create", "logs", "--time-field", "ts", "--partitions", "1"]).ok();
    node.run_with(&["produce", "logs"], LINES.as_bytes()).ok();
    // The figures of a topic do not wait for rows that are being made; a query does.
    assert_eq!(node.value("SELECT count(*) FROM logs"), 6);
    node
}

#[test]
fn a_wrong_time_field_is_found_mended_and_tried_again() {
    let data = data_dir();
    let node = node_with_mistake(data.path());
    let described = node.run(&["topic", "describe", "logs"]).ok().stdout;
    assert!(described.contains("6 of the rows are dead letters"), "{described}");
    assert!(described.contains("stratalog dead-letters list logs"), "it says where to look next: {described}");

    let reasons = node.json(&["dead-letters", "list", "logs"]);
    let found: Vec<_> =
        reasons.as_array().unwrap().iter().map(|r| (&r["count"], r["reason"].as_str().unwrap())).collect();
    assert_eq!(found[0], (&json!(5), "the time field `ts` is missing"));
    assert!(found[1].1.starts_with("the value is not JSON"), "{found:?}");
    let shown = node.run(&["dead-letters", "show", "logs", "--reason", "time field", "-n", "1"]).ok().stdout;
    assert!(shown.contains("`ts` is missing") && shown.contains(r#""service":"pay""#), "{shown}");

    node.run(&["topic", "alter", "logs", "--time-field", "at"]).ok();
    let retried = node.json(&["dead-letters", "retry", "logs"]);
    assert_eq!(retried, json!({"tried": 6, "mended": 3, "dead": 3}));
    let rows = node.sql("SELECT _offset, service, ms FROM logs WHERE _dead IS NULL ORDER BY _time");
    assert_eq!(rows[0], json!({"_offset": 0, "service": "cart", "ms": 12}));
    assert_eq!(rows.len(), 3);
    assert_eq!(node.value("SELECT count(*) FROM logs"), 6, "a row for a row");
    node.stop();
}

#[test]
fn what_is_dead_still_says_why_it_is_now() {
    let data = data_dir();
    let node = node_with_mistake(data.path());
    node.run(&["topic", "alter", "logs", "--time-field", "at"]).ok();
    node.run(&["dead-letters", "retry", "logs"]).ok();
    let reasons = node.sql("SELECT _offset, _dead FROM logs WHERE _dead IS NOT NULL ORDER BY _offset");
    let of = |n: usize| reasons[n]["_dead"].as_str().unwrap();
    assert_eq!(of(0), "the time field `at` holds `yesterday`, which is not a time");
    assert_eq!(of(1), "the time field `at` is missing");
    assert!(of(2).starts_with("the value is not JSON"), "{}", of(2));
    let listed = node.json(&["dead-letters", "list", "logs"]);
    assert!(listed.to_string().contains("holds …, which is not a time"), "{listed}");
    assert_eq!(node.json(&["dead-letters", "retry", "logs"]), json!({"tried": 3, "mended": 0, "dead": 3}));
    node.stop();
}

#[test]
fn mended_rows_are_in_the_bucket_of_their_time_and_stay_there() {
    let data = data_dir();
    let node = node_with_mistake(data.path());
    node.run(&["topic", "alter", "logs", "--time-field", "at"]).ok();
    node.run(&["dead-letters", "retry", "logs"]).ok();
    let by_bucket = |node: &Node| {
        let segments = node.json(&["segments", "logs"]);
        let mut found: Vec<_> = segments
            .as_array()
            .unwrap()
            .iter()
            .filter(|segment| segment["dead_rows"] == 0)
            .map(|segment| (segment["bucket_start"].as_str().unwrap().to_owned(), segment["rows"].as_u64().unwrap()))
            .collect();
        found.sort();
        found
    };
    let expected = [("2026-11-21T08:00:00Z".to_owned(), 2), ("2026-11-21T09:00:00Z".to_owned(), 1)];
    assert_eq!(by_bucket(&node), expected);
    node.stop();
    let node = Node::start(data.path());
    assert_eq!(by_bucket(&node), expected);
    assert_eq!(node.value("SELECT count(*) FROM logs WHERE _dead IS NULL"), 3);
    node.run(&["retention", "drop", "logs", "--before", "2026-11-21T09:00:00Z"]).ok();
    assert_eq!(node.value("SELECT count(*) FROM logs WHERE _dead IS NULL"), 1);
    node.stop();
}

#[test]
fn keys_headers_and_times_of_mended_rows_are_those_of_their_records() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t", "--time-field", "nope", "--partitions", "1"]).ok();
    node.run_with(&["produce", "t", "--key-field", "service"], LINES.as_bytes()).ok();
    let system = "SELECT _offset, _key, _timestamp, _ingested_at, _raw FROM t ORDER BY _offset";
    let before = node.sql(system);
    node.run(&["topic", "alter", "t", "--set", "time.field="]).ok();
    assert_eq!(node.json(&["dead-letters", "retry", "t"])["mended"], 5);
    assert_eq!(node.sql(system), before);
    node.stop();
}

#[test]
fn a_format_is_mended_too() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t", "--partitions", "1"]).ok();
    node.run_with(&["produce", "t"], b"plain words\nmore of them\n").ok();
    assert_eq!(node.value("SELECT count(*) FROM t WHERE _dead IS NOT NULL"), 2);
    node.run(&["topic", "alter", "t", "--format", "text"]).ok();
    assert_eq!(node.json(&["dead-letters", "retry", "t"]), json!({"tried": 2, "mended": 2, "dead": 0}));
    assert_eq!(node.json(&["search", "t", "plain"])[0]["message"], "plain words");
    let none = node.run(&["dead-letters", "list", "t"]).ok().stdout;
    assert!(none.contains("no record of t is a dead letter"), "{none}");
    node.stop();
}

#[test]
fn answers_that_show_little_say_where_the_dead_letters_are() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "first", "--partitions", "1"]).ok();
    node.run_with(&["produce", "first"], b"one\ntwo\n").ok();
    let told = "all rows of first are dead letters: without columns, and not found by a search; \
                see why: stratalog dead-letters list first\n";
    let ran = node.run(&["sql", "SELECT * FROM first"]).ok();
    assert_eq!(ran.stderr, told);
    assert!(!ran.stdout.contains("dead letters"), "who pipes the answer has nothing else in it: {}", ran.stdout);
    assert_eq!(node.run(&["search", "first", "one"]).ok().stderr, told);
    for quiet in [
        &["sql", "SELECT count(*) FROM first"][..],
        &["sql", "SELECT _time, _partition, _offset, _dead FROM first"],
        &["sql", "SELECT * FROM first", "-o", "json"],
        &["search", "first", "one", "-o", "ndjson"],
        &["search", "first", ""],
    ] {
        assert_eq!(node.run(quiet).ok().stderr, "", "{quiet:?}");
    }
    node.run_with(&["produce", "first"], b"{\"word\":\"three\"}\n").ok();
    assert_eq!(node.run(&["search", "first", "three"]).ok().stderr, "");
    let stderr = node.run(&["search", "first", "four"]).ok().stderr;
    assert!(stderr.starts_with("2 of the 3 rows of first are dead letters: "), "{stderr}");
    node.stop();
}

#[test]
fn values_are_shown_byte_for_byte_and_harmlessly() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t", "--partitions", "1"]).ok();
    node.run_with(&["produce", "t"], b"{\"a\":\"f\xffur\x1b[2J\"}\n{\"a\":1}\n").ok();
    let shown = node.run(&["dead-letters", "show", "t", "--partition", "0", "--offset", "0"]).ok().stdout;
    assert!(shown.contains("f\\xffur\\u{1b}[2J"), "{shown}");
    let letters = node.json(&["dead-letters", "show", "t"]);
    assert_eq!((letters.as_array().unwrap().len(), &letters[0]["bytes"]), (1, &json!(16)));
    let alive = node.run(&["dead-letters", "show", "t", "--partition", "0", "--offset", "1"]).ok().stdout;
    assert!(alive.contains("offset 1 of partition 0 of t is no dead letter"), "{alive}");
    assert_eq!(node.run(&["dead-letters", "show", "t", "--offset", "1"]).code, 2, "of which partition?");
    node.stop();
}

#[test]
fn topics_that_cannot_have_dead_letters_say_so() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "r", "--format", "raw"]).ok();
    let error = node.run(&["dead-letters", "retry", "r"]).failed(1);
    assert!(error.contains("records of a raw topic are no rows"), "{error}");
    node.run(&["topic", "create", "orders"]).ok();
    let error = node.run(&["dead-letters", "list", "order"]).failed(1);
    assert!(error.contains("did you mean `orders`?") && !error.contains("line"), "{error}");
    let error = node.run(&["dead-letters", "show", "r"]).failed(1);
    assert!(error.contains("records of a raw topic are no rows"), "{error}");
    assert!(node.run(&["dead-letters", "retry", "orders"]).ok().stdout.contains("nothing to try"));
    assert!(node.run(&["topic", "describe", "r"]).ok().stdout.contains("no rows"));
    node.stop();
}

#[test]
fn dead_letters_are_mended_over_http() {
    let data = data_dir();
    let node = node_with_mistake(data.path());
    let http = Client::new();
    let url = format!("{}/v1/topics/logs", node.http);
    let get = |path: &str| http.get(format!("{url}{path}")).send().unwrap().json::<Value>().unwrap();
    let rows = &get("")["row_details"];
    assert_eq!((&rows["rows"], &rows["dead_rows"], &rows["held"]), (&json!(6), &json!(6), &json!([])));
    let reasons = get("/dead-letters?limit=1");
    assert_eq!(reasons["rows"][0]["reason"], "the time field `ts` is missing");
    assert_eq!(reasons["rows"].as_array().unwrap().len(), 1);
    assert_eq!(http.get(format!("{url}/dead-letters?limit=0")).send().unwrap().status(), 400);
    let altered = http.patch(&url).json(&json!({"config": {"time.field": "at"}})).send().unwrap();
    assert!(altered.status().is_success());
    let retried = http.post(format!("{url}/dead-letters/retry")).send().unwrap().json::<Value>().unwrap();
    assert_eq!(retried, json!({"tried": 6, "mended": 3, "dead": 3}));
    assert_eq!(get("")["row_details"]["dead_rows"], 3);
    node.stop();
}
