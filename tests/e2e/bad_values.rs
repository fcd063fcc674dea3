//! What may be wrong with a record: each is a right row or a dead letter with its reason, and those behind it go on.

use serde_json::{Value, json};

use crate::harness::{Node, data_dir};

/// A node with a topic of one partition, and another topic to see that it goes on.
fn node(data: &std::path::Path, settings: &[&str]) -> Node {
    let node = Node::start(data);
    node.run(
        &[&["topic", "create", "t", "--partitions", "1", "--set", "max.message.bytes=16777216"], settings].concat(),
    )
    .ok();
    node
}

fn produce(node: &Node, lines: &[String]) {
    node.run_with(&["produce", "t"], lines.join("\n").as_bytes()).ok();
}

/// Sends lines over HTTP; all of them are taken.
fn post(node: &Node, lines: &str) {
    let request = reqwest::blocking::Client::new()
        .post(format!("{}/v1/topics/t/records", node.http))
        .header("content-type", "application/x-ndjson")
        .body(lines.to_owned());
    let answer = request.send().unwrap().json::<Value>().unwrap();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(lines.lines().count()), &json!(0)), "{answer}");
}

fn reasons(node: &Node) -> Vec<Option<String>> {
    let rows = node.sql("SELECT _dead FROM t ORDER BY _offset");
    rows.iter().map(|row| row["_dead"].as_str().map(str::to_owned)).collect()
}

#[test]
fn deep_wide_and_long_values_are_rows() {
    let data = data_dir();
    let node = node(data.path(), &[]);
    let deep = format!("{}1{}", "{\"a\":".repeat(1_000), "}".repeat(1_000));
    let wide = (0..5_000).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",");
    let long = format!("{{\"long\":\"{}\"}}", "x".repeat(10 << 20));
    produce(&node, &[deep, format!("{{{wide}}}"), long, "{\"last\":true}".to_owned()]);
    let dead = reasons(&node);
    assert_eq!(dead.len(), 4);
    // A parser may have a bound of its own: then it says so, and the value is not lost.
    assert!(dead[0].as_deref().is_none_or(|why| why.starts_with("the value is not JSON")), "{:?}", dead[0]);
    assert_eq!(dead[1..], [None, None, None]);
    assert_eq!(node.value("SELECT k7 FROM t WHERE _offset = 1"), 7);
    let rest = node.value("SELECT _rest FROM t WHERE _offset = 1");
    assert!(rest.as_str().unwrap().contains("\"k4999\":4999"), "a field beyond the columns is in _rest");
    assert_eq!(node.value("SELECT length(long) FROM t WHERE _offset = 2"), 10 << 20);
    assert_eq!(node.value("SELECT last FROM t WHERE last IS NOT NULL"), true);
    node.stop();
}

#[test]
fn fifty_thousand_names_over_a_topic_keep_it_going() {
    let data = data_dir();
    let node = node(data.path(), &[]);
    let lines: Vec<_> = (0..5_000)
        .map(|n| (0..10).map(|k| format!("\"f{}\":{n}", n * 10 + k)).collect::<Vec<_>>().join(","))
        .map(|fields| format!("{{{fields}}}"))
        .collect();
    produce(&node, &lines);
    assert_eq!(node.value("SELECT count(*) FROM t WHERE _dead IS NULL"), 5_000);
    assert_eq!(node.value("SELECT count(*) FROM t WHERE f17 = 1"), 1);
    node.run(&["retention", "drop", "t", "--before", "1971-01-01"]).ok();
    assert_eq!(node.value("SELECT count(*) FROM t WHERE _dead IS NULL"), 5_000, "sealed, they are all there");
    node.stop();
}

#[test]
fn a_field_that_changes_its_type_with_every_record_keeps_each_value() {
    let data = data_dir();
    let node = node(data.path(), &[]);
    let values = ["1", "2.5", "\"x\"", "true", "null", "[1,2]", "{\"b\":1}", "18446744073709551616", "1e400", "-0.0"];
    let lines: Vec<_> = values.iter().map(|value| format!("{{\"v\":{value}}}")).collect();
    post(&node, &lines.join("\n"));
    assert_eq!(reasons(&node), vec![None; values.len()]);
    let shown = node.sql("SELECT v, v.b AS b FROM t ORDER BY _offset");
    let text: Vec<_> = shown.iter().map(|row| row["v"].as_str()).collect();
    let expected = [Some("1"), Some("2.5"), Some("x"), Some("true"), None, Some("[1,2]"), None];
    assert_eq!(text[..7], expected);
    assert_eq!((text[7], text[8]), (Some("18446744073709551616"), Some("1e400")));
    assert_eq!(shown[6]["b"], 1);
    node.stop();
}

#[test]
fn numbers_that_json_does_not_have_are_dead_letters() {
    let data = data_dir();
    let node = node(data.path(), &[]);
    post(&node, "{\"a\":NaN}\n{\"a\":Infinity}\n{\"a\":-Infinity}\n{\"a\":1}\n{\"a\":01}\n{\"a\":1.}");
    let dead: Vec<_> = reasons(&node).iter().map(Option::is_some).collect();
    assert_eq!(dead, [true, true, true, false, true, true]);
    assert_eq!(node.value("SELECT sum(a) FROM t"), 1);
    node.stop();
}

#[test]
fn keys_that_nobody_should_use_are_columns() {
    let data = data_dir();
    let node = node(data.path(), &[]);
    post(
        &node,
        r#"{"a":1,"a":2}
{"x.y":3,"x":{"z":4}}
{"with \"quotes\"":5}
{"":6}
{"_time":"mine","_offset":7}
{"ünïcödé":8}"#,
    );
    assert_eq!(reasons(&node), vec![None; 6]);
    assert_eq!(node.value("SELECT a FROM t WHERE _offset = 0"), 2);
    assert_eq!(node.value("SELECT x.y + x.z FROM t WHERE _offset = 1"), 7);
    assert_eq!(node.value("SELECT \"with \"\"quotes\"\"\" FROM t WHERE _offset = 2"), 5);
    assert_eq!(node.value("SELECT _empty FROM t WHERE _offset = 3"), 6);
    assert_eq!(node.value("SELECT _user._time FROM t WHERE _user._offset = 7"), "mine");
    assert_eq!(node.value("SELECT \"ünïcödé\" FROM t WHERE _offset = 5"), 8);
    node.stop();
}

#[test]
fn bytes_that_are_not_utf8_are_dead_in_json_and_escaped_in_text() {
    let data = data_dir();
    let node = node(data.path(), &[]);
    node.run_with(&["produce", "t"], b"{\"a\":\"f\xffur\"}\n{\"a\":\"four\"}\n").ok();
    assert_eq!(reasons(&node), [Some("the value is not UTF-8 from byte 7 on".to_owned()), None]);
    node.run(&["topic", "create", "lines", "--format", "text"]).ok();
    node.run_with(&["produce", "lines"], b"f\xffur\n").ok();
    assert_eq!(node.value("SELECT message FROM lines"), "f\\xffur");
    node.stop();
}

#[test]
fn times_in_every_unit_are_read_and_impossible_ones_are_dead() {
    let data = data_dir();
    let node = node(data.path(), &["--time-field", "ts"]);
    let times = [
        ("1769903999", Some("2026-01-31T23:59:59Z")),
        ("1769903999000", Some("2026-01-31T23:59:59Z")),
        ("1769903999000000", Some("2026-01-31T23:59:59Z")),
        ("1769903999000000000", Some("2026-01-31T23:59:59Z")),
        ("\"2026-01-31T23:59:59+00:00\"", Some("2026-01-31T23:59:59Z")),
        ("\"31/Jan/2026:23:59:59 +0000\"", Some("2026-01-31T23:59:59Z")),
        ("\"1601-01-01T00:00:00Z\"", None),
        ("\"9999-12-31T23:59:59Z\"", None),
        ("99999999999999999999", None),
        ("-1", None),
        ("null", None),
        ("\"soon\"", None),
        ("{}", None),
    ];
    let lines: Vec<_> = times.iter().map(|(time, _)| format!("{{\"ts\":{time}}}")).collect();
    post(&node, &lines.join("\n"));
    let rows = node.sql("SELECT _time, _dead FROM t ORDER BY _offset");
    for ((time, expected), row) in times.iter().zip(&rows) {
        match expected {
            Some(expected) => assert_eq!((&row["_time"], &row["_dead"]), (&json!(expected), &Value::Null), "{time}"),
            None => assert!(row["_dead"].as_str().is_some_and(|why| why.contains("`ts`")), "{time}: {row}"),
        }
    }
    node.stop();
}

#[test]
fn a_year_of_random_times_in_one_batch_is_sealed_into_few_segments() {
    let data = data_dir();
    let node = node(data.path(), &["--time-field", "ts"]);
    let mut random = 7_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1_735_689_600 + (random >> 33) % (365 * 86_400)
    };
    let times: Vec<u64> = (0..3_000).map(|_| next()).collect();
    produce(&node, &times.iter().map(|time| format!("{{\"ts\":{time}}}")).collect::<Vec<_>>());
    node.run(&["retention", "drop", "t", "--before", "2024-01-01"]).ok();
    let segments = node.json(&["segments", "t"]);
    let segments = segments.as_array().unwrap();
    assert!(segments.len() <= 33, "{} segments", segments.len());
    assert_eq!(segments.iter().filter(|segment| segment["kind"] == "mixed").count(), 1);
    let july = times.iter().filter(|time| (1_751_328_000..1_754_006_400).contains(*time)).count();
    let counted = "SELECT count(*) FROM t WHERE _time >= '2025-07-01T00:00:00Z' AND _time < '2025-08-01T00:00:00Z'";
    assert_eq!(node.value(counted), july);
    node.stop();
}

#[test]
fn declared_columns_take_what_fits_and_say_what_does_not() {
    let data = data_dir();
    let node = node(data.path(), &["--columns", "id bigint not null, amount double, at timestamp"]);
    let lines =
        ["{\"id\":1,\"amount\":2,\"at\":1769903999}", "{\"amount\":2}", "{\"id\":\"one\"}", "{\"id\":4,\"more\":true}"];
    post(&node, &lines.join("\n"));
    let dead = reasons(&node);
    assert_eq!((&dead[0], &dead[3]), (&None, &None));
    assert!(dead[1].as_ref().is_some_and(|why| why.contains("`id`")), "{dead:?}");
    assert!(dead[2].as_ref().is_some_and(|why| why.contains("`id`") && why.contains("one")), "{dead:?}");
    let row = node.sql("SELECT id, amount, at FROM t WHERE _offset = 0");
    assert_eq!(row, [json!({"id": 1, "amount": 2.0, "at": "2026-01-31T23:59:59Z"})]);
    node.stop();
}

#[test]
fn text_that_does_not_match_its_pattern_is_a_dead_letter_until_the_pattern_is_mended() {
    let data = data_dir();
    let node = node(data.path(), &["--format", "text", "--pattern", "%{IP:client} %{WORD:verb}$"]);
    post(&node, "10.0.0.1 GET\n10.0.0.2 PUT 17\nnothing of it");
    let dead: Vec<_> = reasons(&node).iter().map(Option::is_some).collect();
    assert_eq!(dead, [false, true, true]);
    node.run(&["topic", "alter", "t", "--pattern", "%{IP:client} %{WORD:verb}( %{INT:bytes:int})?"]).ok();
    assert_eq!(node.json(&["dead-letters", "retry", "t"]), json!({"tried": 2, "mended": 1, "dead": 1}));
    let rows = node.sql("SELECT client, verb, bytes FROM t WHERE _dead IS NULL ORDER BY _offset");
    assert_eq!(rows[1], json!({"client": "10.0.0.2", "verb": "PUT", "bytes": 17}));
    let error = node.run(&["topic", "alter", "t", "--pattern", "%{NOSUCH:x}"]).failed(2);
    assert!(error.contains("NOSUCH"), "{error}");
    let error = node.run(&["topic", "alter", "t", "--pattern", "(unclosed"]).failed(2);
    assert!(error.contains("pattern"), "{error}");
    node.stop();
}
