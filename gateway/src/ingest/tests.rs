use bytes::Bytes;
use proptest::prelude::*;
use stratalog_proto::batch::{Batch, partition_for_key};
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, ShardId, Token};

use super::key::find_key;
use super::*;

fn records(shape: Shape, body: &str) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let body = Bytes::copy_from_slice(body.as_bytes());
    for_each_record(shape, &body, &mut |record| found.push(String::from_utf8(record.to_vec()).unwrap()))?;
    Ok(found)
}

fn options() -> IngestOptions {
    IngestOptions {
        key_field: None,
        key: None,
        partition: None,
        timestamp_ms: 1_000,
        partitions: 4,
        first_spread: 6,
        max_batch_bytes: 1 << 20,
        format: Format::Json,
        multiline: None,
    }
}

fn values(batch: &PlannedBatch) -> Vec<Bytes> {
    let batch = Batch::parse(batch.bytes.clone()).unwrap();
    batch.records(64 << 20).unwrap().map(|record| record.unwrap().value.unwrap()).collect()
}

#[test]
fn json_object_and_array_keep_their_bytes() {
    assert_eq!(records(Shape::Json, " {\"b\":1,  \"a\":1.50}\n").unwrap(), ["{\"b\":1,  \"a\":1.50}"]);
    assert_eq!(records(Shape::Json, "[{\"a\" : 1},\n 2, \"x\", null]").unwrap(), ["{\"a\" : 1}", "2", "\"x\"", "null"]);
    assert!(records(Shape::Json, "[]").unwrap().is_empty());
}

#[test]
fn json_that_does_not_parse_is_refused_with_its_place() {
    for body in ["", "  ", "1", "\"x\"", "{", "{\"a\":1", "[1,", "[1] x", "{} {}", "[1}", "{\"a\":\u{1}}"] {
        assert_eq!(records(Shape::Json, body).unwrap_err().code, Code::InvalidRequest, "{body}");
    }
    assert!(records(Shape::Json, "{\"a\":\n x}").unwrap_err().message.contains("line 2 column 2"));
}

#[test]
fn deeply_nested_json_does_not_overflow_the_stack() {
    let deep = format!("[{}{}]", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let _ = records(Shape::Json, &deep);
    let _ = find_key(format!("{{\"a\":{}", "{\"a\":".repeat(1_000_000)).as_bytes(), "a.a.a");
}

#[test]
fn lines_of_a_stack_trace_become_one_record() {
    let body = "WARN a\r\njava.io.IOException: x\r\n\tat b.C(C.java:1)\r\n\r\nINFO d\n";
    let options = IngestOptions { multiline: Some(Multiline::new("java").unwrap()), ..options() };
    let plan = plan(Shape::Lines, &Bytes::from(body), &options).unwrap();
    assert_eq!(plan.records, 2);
    assert_eq!(values(&plan.batches[0]), ["WARN a\njava.io.IOException: x\n\tat b.C(C.java:1)", "INFO d"]);
}

#[test]
fn x1_lines_without_end_are_cut_into_records_that_fit() {
    let body = "x\n".repeat(100_000);
    let options =
        IngestOptions { multiline: Some(Multiline::new("^never$").unwrap()), max_batch_bytes: 1_024, ..options() };
    let plan = plan(Shape::Lines, &Bytes::from(body), &options).unwrap();
    assert!(plan.refused.is_empty());
    let lines: usize = plan.batches.iter().flat_map(values).map(|value| value.len() / 2 + 1).sum();
    assert_eq!(lines, 100_000, "no line is lost");
}

#[test]
fn lines_are_taken_as_they_are_and_the_format_says_which_are_records() {
    let body = Bytes::from("{\"a\":1}\r\n\nnot json\n  \n{bad\n\r");
    for (format, expected) in [
        (Format::Json, &["{\"a\":1}", "not json", "{bad"][..]),
        (Format::Text, &["{\"a\":1}", "not json", "  ", "{bad"]),
        (Format::Raw, &["{\"a\":1}", "", "not json", "  ", "{bad", ""]),
    ] {
        let plan = plan(Shape::Lines, &body, &IngestOptions { format, ..options() }).unwrap();
        assert_eq!(values(&plan.batches[0]), expected, "{format:?}");
    }
    assert_eq!(
        plan(Shape::Lines, &Bytes::new(), &IngestOptions { format: Format::Raw, ..options() }).unwrap().records,
        0
    );
}

#[test]
fn x1_joined_lines_are_cut_where_their_key_needs_the_room() {
    let body = format!("{{\"id\":\"{}\",\n{}}}", "k".repeat(100), "\"a\":1,\n".repeat(300));
    for (key, key_field) in [(None, Some("id".to_owned())), (Some("k".repeat(900)), None)] {
        let multiline = Some(Multiline::new(r"^\{").unwrap());
        let options = IngestOptions { key, key_field, multiline, max_batch_bytes: 2_048, ..options() };
        let plan = plan(Shape::Lines, &Bytes::from(body.clone()), &options).unwrap();
        assert!(plan.refused.is_empty() && plan.records > 1, "{:?}", plan.refused);
    }
}

#[test]
fn more_than_a_million_records_are_refused() {
    let lines = |count| plan(Shape::Lines, &Bytes::from("x\n\n".repeat(count)), &options());
    assert!(lines(1_000_001).unwrap_err().message.contains("1000000"));
    assert_eq!(lines(1_000_000).unwrap().records, 1_000_000);
    let array = format!("[{}1]", "1,".repeat(1_000_000));
    assert!(records(Shape::Json, &array).unwrap_err().message.contains("1000000"));
}

#[test]
fn keys_are_found_in_values() {
    let cases = [
        (r#"{"id":"u\u00e9","x":1}"#, "id", Some("ué")),
        (r#"{"id":17}"#, "id", Some("17")),
        (r#"{"id":null}"#, "id", None),
        (r#"{"x":1}"#, "id", None),
        (r#"{"id":"a","id":"b"}"#, "id", Some("b")),
        (r#"{"a":{"b":{"c":true}}}"#, "a.b.c", Some("true")),
        (r#"{"a.b":"flat","a":{"b":"deep"}}"#, "a.b", Some("flat")),
        ("not json", "id", None),
        (r#"{"id":"cut"#, "id", None),
        (r#"["id"]"#, "id", None),
    ];
    for (value, field, key) in cases {
        assert_eq!(find_key(value.as_bytes(), field).as_deref(), key.map(str::as_bytes), "{value}");
    }
}

#[test]
fn keyed_records_go_where_kafka_would_put_them() {
    let body: String = (0..100).map(|n| format!("{{\"user\":\"u{n}\",\"n\":{n}}}\n")).collect();
    let options = IngestOptions { key_field: Some("user".into()), ..options() };
    let plan = plan(Shape::Lines, &body.into(), &options).unwrap();
    assert_eq!(plan.batches.iter().map(|batch| batch.records.len()).sum::<usize>(), 100);
    for batch in &plan.batches {
        for record in Batch::parse(batch.bytes.clone()).unwrap().records(1 << 20).unwrap() {
            let record = record.unwrap();
            assert_eq!(partition_for_key(&record.key.unwrap(), 4), batch.partition);
            assert_eq!(record.timestamp_ms, 1_000);
        }
    }
}

#[test]
fn records_without_key_fill_one_partition_after_the_other() {
    let body = format!("{}\n", "x".repeat(100_000)).repeat(6);
    let plan = plan(Shape::Lines, &body.into(), &options()).unwrap();
    let partitions: Vec<u32> = plan.batches.iter().map(|batch| batch.partition.0).collect();
    assert_eq!(partitions, [2, 3, 0]);
    assert_eq!(plan.batches[1].records, [2, 3]);
}

#[test]
fn record_over_the_limit_is_refused_alone() {
    let body = format!("a\n{}\nb\n", "x".repeat(3_000));
    let options = IngestOptions { max_batch_bytes: 2_048, ..options() };
    let plan = plan(Shape::Lines, &body.into(), &options).unwrap();
    assert_eq!((plan.records, plan.refused.len(), plan.refused[0].record), (3, 1, 1));
    assert_eq!(plan.refused[0].error.code, Code::MessageTooLarge);
    assert_eq!(values(&plan.batches[0]), [&b"a"[..], b"b"]);
}

#[test]
fn summary_counts_all_and_names_each_error() {
    let mut summary = Summary::default();
    let token = Token { shard: ShardId(1), index: RaftIndex(9) };
    summary.add(Outcome { partition: PartitionId(0), records: vec![0, 2], result: Ok((Offset(5), token)) });
    summary.add(Outcome {
        partition: PartitionId(1),
        records: vec![1],
        result: Err(Error::new(Code::Timeout, "late")),
    });
    assert!(summary.has_errors() && summary.failure().is_none());
    let json = summary.to_json();
    assert_eq!((&json["accepted"], &json["rejected"]), (&2.into(), &1.into()));
    assert_eq!(json["errors"][0]["record"], 1);
    assert_eq!(json["errors"][0]["outcome"], "unknown");
    assert_eq!(json["tokens"], serde_json::json!([{"shard": 1, "index": 9}]));
}

proptest! {
    #[test]
    fn every_line_is_in_exactly_one_batch_in_order(
        lines in proptest::collection::vec("[a-z{}\":,]{1,40}", 0..200),
        keyed in any::<bool>(),
        max_batch_bytes in 1_024_usize..4_096,
    ) {
        let body = Bytes::from(lines.join("\n"));
        let key = keyed.then(|| "k".to_owned());
        let plan = plan(Shape::Lines, &body, &IngestOptions { key, max_batch_bytes, ..options() }).unwrap();
        let mut found = vec![None; lines.len()];
        for batch in &plan.batches {
            prop_assert!(batch.bytes.len() <= max_batch_bytes);
            for (record, value) in batch.records.iter().zip(values(batch)) {
                prop_assert!(found[*record as usize].replace(value).is_none());
            }
        }
        let found: Vec<Bytes> = found.into_iter().map(Option::unwrap).collect();
        prop_assert_eq!(found, lines.into_iter().map(Bytes::from).collect::<Vec<_>>());
    }

    #[test]
    fn x1_any_body_is_split_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let body = Bytes::from(body);
        for shape in [Shape::Json, Shape::Lines, Shape::Whole] {
            let _ = plan(shape, &body, &IngestOptions { key_field: Some("a".into()), ..options() });
        }
    }
}
