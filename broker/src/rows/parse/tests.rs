//! Values in, rows out.

mod bad_input;
mod declared;
mod defects;
mod lies;
mod logfmt;
mod pattern;

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType, TimestampNanosecondType};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use stratalog_proto::batch::{Batch, BatchBuilder, Compression, HEADER_BYTES, without};
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::{Offset, PartitionId, RaftIndex, TopicId};
use stratalog_query::TailChunk;
use stratalog_storage::col::system;

use super::fields::{MAX_COLUMNS, REST};
use super::names::column_name;
use super::{Parsed, parse, system_fields};
use crate::shard::AppliedBatch;

/// A value at which reading panics.
pub(super) const DEFECT_OF_A_RECORD: &[u8] = b"{\"inject\":\"a defect of a record\"}";
/// A column at which finishing a chunk panics.
pub(super) const DEFECT_OF_A_COLUMN: &str = "inject a defect of a column";

const RECORD_MS: i64 = 1_700_000_000_000;
const INGESTED_NS: i64 = 1_800_000_000_000_000_000;

fn applied(batch: Bytes) -> AppliedBatch {
    AppliedBatch {
        index: RaftIndex(9),
        topic: TopicId::new(),
        partition: PartitionId(3),
        base_offset: Offset(100),
        entry_time_ns: INGESTED_NS,
        batch,
    }
}

fn batch(values: &[Option<&[u8]>], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    values.iter().for_each(|value| builder.push(RECORD_MS, None, *value, &[]));
    builder.finish()
}

fn rows_with(config: &TopicConfig, values: &[&str]) -> RecordBatch {
    let values: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_bytes())).collect();
    let parsed = parse(config, [&applied(batch(&values, Compression::None))]);
    assert_eq!(parsed.chunks.len(), 1);
    parsed.chunks[0].rows.clone()
}

fn rows(values: &[&str]) -> RecordBatch {
    rows_with(&TopicConfig::default(), values)
}

fn dead(rows: &RecordBatch) -> Vec<Option<String>> {
    let column = rows.column_by_name(system::DEAD).unwrap().as_string::<i32>();
    column.iter().map(|reason| reason.map(str::to_owned)).collect()
}

/// The user columns, one per line: name, type, values.
fn shown(rows: &RecordBatch) -> String {
    let user = rows.schema_ref().fields().iter().zip(rows.columns()).skip(system_fields().len());
    let lines = user.map(|(field, column)| format!("{}: {} {}", field.name(), column.data_type(), values(column)));
    lines.collect::<Vec<_>>().join("\n")
}

fn values(column: &ArrayRef) -> String {
    let text = arrow::compute::cast(column, &DataType::Utf8).unwrap();
    let text = text.as_string::<i32>();
    text.iter().map(|value| value.unwrap_or("-").to_owned()).collect::<Vec<_>>().join(" | ")
}

#[test]
fn json_becomes_columns() {
    let cases: &[(&str, &[&str], &str)] = &[
        ("types", &[r#"{"b":true,"f":1.5,"i":1,"s":"x"}"#], "b: Boolean true\nf: Float64 1.5\ni: Int64 1\ns: Utf8 x"),
        ("null is no value", &[r#"{"a":null,"b":1}"#], "b: Int64 1"),
        ("missing is null", &[r#"{"a":1}"#, "{}", r#"{"a":3}"#], "a: Int64 1 | - | 3"),
        ("nested", &[r#"{"a":{"b":{"c":1},"d":2}}"#], "a.b.c: Int64 1\na.d: Int64 2"),
        ("empty object is no value", &[r#"{"a":{},"b":1}"#], "b: Int64 1"),
        ("array", &[r#"{"a":[1, 2.5, "x\n", null, {"k":[]}]}"#], r#"a: Utf8 [1, 2.5, "x\n", null, {"k":[]}]"#),
        ("empty array", &[r#"{"a":[]}"#], "a: Utf8 []"),
        ("int and float", &[r#"{"a":1}"#, r#"{"a":2.5}"#], "a: Float64 1.0 | 2.5"),
        ("float, then int", &[r#"{"a":2.5}"#, r#"{"a":1}"#], "a: Float64 2.5 | 1.0"),
        (
            "an int that no float holds",
            &[r#"{"a":2.5}"#, r#"{"a":9007199254740993}"#],
            "a: Utf8 2.5 | 9007199254740993",
        ),
        ("int and text", &[r#"{"a":1}"#, r#"{"a":"x"}"#], "a: Utf8 1 | x"),
        ("bool and int", &[r#"{"a":true}"#, r#"{"a":1}"#], "a: Utf8 true | 1"),
        ("float and text", &[r#"{"a":1.5}"#, r#"{"a":"x"}"#, r#"{"a":2.0}"#], "a: Utf8 1.5 | x | 2"),
        ("object and scalar", &[r#"{"a":{"b":1}}"#, r#"{"a":"x"}"#], "a: Utf8 - | x\na.b: Int64 1 | -"),
        ("past i64, exact", &[r#"{"a":9223372036854775808}"#], "a: Float64 9.223372036854776e18"),
        ("past i64, not exact", &[r#"{"a":18446744073709551615}"#], "a: Utf8 18446744073709551615"),
        ("past u64", &[r#"{"a":1000000000000000000000001}"#], "a: Utf8 1000000000000000000000001"),
        ("past i64, negative", &[r#"{"a":-9223372036854775809}"#], "a: Utf8 -9223372036854775809"),
        ("past u64 in an array", &[r#"{"a":[100000000000000000000001]}"#], "a: Utf8 [100000000000000000000001]"),
        (
            "past u64 beside everything else",
            &[r#"{"a":{"n":100000000000000000000001,"t":"\u00e4","b":false,"z":null,"f":1.5},"i":-1}"#],
            "a.b: Boolean false\na.f: Float64 1.5\na.n: Utf8 100000000000000000000001\na.t: Utf8 ä\ni: Int64 -1",
        ),
        ("past every float", &[r#"{"a":1e400,"b":-1e400}"#], "a: Utf8 1e400\nb: Utf8 -1e400"),
        ("a float of 17 digits", &[r#"{"a":4.3712482512729443e-38}"#], "a: Float64 4.3712482512729443e-38"),
        ("minus zero", &[r#"{"a":-0}"#], "a: Float64 -0.0"),
        ("duplicate keys: the last wins", &[r#"{"a":1,"b":0,"a":2}"#], "a: Int64 2\nb: Int64 0"),
        ("duplicate key, null last", &[r#"{"a":1,"a":null,"b":0}"#], "b: Int64 0"),
        ("duplicate objects: the last wins whole", &[r#"{"a":{"x":1},"a":{"y":2}}"#], "a.y: Int64 2"),
        ("duplicate, object then scalar", &[r#"{"a":{"x":1},"a":2}"#], "a: Int64 2"),
        ("dotted key and path are one column", &[r#"{"a.b":1,"a":{"b":2}}"#], "a.b: Int64 2"),
        ("empty keys", &[r#"{"":1,"a":{"":2}}"#], "_empty: Int64 1\na._empty: Int64 2"),
        (
            "system names",
            &[r#"{"_time":1,"_offset":"x","_rest":2,"_raw":3,"_other":4}"#],
            "_other: Int64 4\n_user._offset: Utf8 x\n_user._raw: Int64 3\n_user._rest: Int64 2\n_user._time: Int64 1",
        ),
        ("escapes", &["{\"k\\u00e9\\n\":\"\\ud83d\\ude00\"}"], "ké\n: Utf8 😀"),
        ("white space", &[" \n{ \"a\" : 1 } \t"], "a: Int64 1"),
    ];
    for (name, input, expected) in cases {
        let rows = rows(input);
        assert_eq!(dead(&rows), vec![None; input.len()], "{name}");
        assert_eq!(shown(&rows), *expected, "{name}");
    }
}

#[test]
fn what_is_no_row_is_dead_with_a_reason() {
    let cases: &[(Option<&[u8]>, &str)] = &[
        (None, "the record has no value"),
        (Some(b""), "the value is not JSON: EOF"),
        (Some(b"{"), "the value is not JSON: EOF"),
        (Some(b"{\"a\":1}x"), "the value is not JSON: trailing characters"),
        (Some(b"{\"a\":01}"), "the value is not JSON: invalid number"),
        (Some(b"[1]"), "the value is not a JSON object: invalid type: integer `1`, expected an object"),
        (Some(b"1"), "the value is not a JSON object: invalid type: integer `1`"),
        (Some(b"null"), "the value is not a JSON object: invalid type: null"),
        (Some(b"{\"a\":\"\xff\"}"), "the value is not UTF-8 from byte 6 on"),
        (Some(b"{\"a\":{\"b\":\"\\ud800\"}}"), "the value is not JSON"),
    ];
    for (value, expected) in cases {
        let good: Option<&[u8]> = Some(b"{\"ok\":1}");
        let parsed = parse(&TopicConfig::default(), [&applied(batch(&[good, *value, good], Compression::None))]);
        let rows = &parsed.chunks[0].rows;
        let dead = dead(rows);
        assert_eq!((parsed.rows, parsed.dead_rows, &dead[0], &dead[2]), (3, 1, &None, &None));
        let reason = dead[1].as_deref().unwrap();
        assert!(reason.starts_with(expected), "{reason}");
        assert!(reason.len() <= 256);
        assert_eq!(shown(rows), "ok: Int64 1 | - | 1", "a dead row leaves nothing behind");
    }
}

#[test]
fn event_time_comes_from_the_time_field() {
    let cases: &[(&str, &str, Result<i64, &str>)] = &[
        ("ts", r#"{"ts":1769903999}"#, Ok(1_769_903_999_000_000_000)),
        ("a.ts", r#"{"a":{"ts":"2026-01-31T23:59:59Z"}}"#, Ok(1_769_903_999_000_000_000)),
        ("a.ts", r#"{"a.ts":1769903999000}"#, Ok(1_769_903_999_000_000_000)),
        ("_time", r#"{"_time":1769903999}"#, Ok(1_769_903_999_000_000_000)),
        ("ts", r#"{"other":1}"#, Err("the time field `ts` is missing")),
        ("ts", r#"{"ts":null}"#, Err("the time field `ts` is missing")),
        ("ts", r#"{"ts":"soon"}"#, Err("the time field `ts` holds `soon`, which is not a time")),
        ("ts", r#"{"ts":true}"#, Err("the time field `ts` holds true, which is not a time")),
        ("ts", r#"{"ts":-1}"#, Err("the time field `ts` holds -1, which is not within 1970 to 2262")),
        (
            "ts",
            r#"{"ts":"2300-01-01"}"#,
            Err("the time field `ts` holds `2300-01-01`, which is not within 1970 to 2262"),
        ),
    ];
    for (field, value, expected) in cases {
        let config = TopicConfig { time_field: Some((*field).to_owned()), ..TopicConfig::default() };
        let rows = rows_with(&config, &[value]);
        let time = rows.column_by_name(system::TIME).unwrap().as_primitive::<TimestampNanosecondType>().value(0);
        match expected {
            Ok(expected) => assert_eq!((time, dead(&rows)), (*expected, vec![None]), "{value}"),
            Err(reason) => {
                assert_eq!((time, dead(&rows)), (RECORD_MS * 1_000_000, vec![Some((*reason).to_owned())]), "{value}");
            }
        }
    }
}

#[test]
fn a_record_without_a_timestamp_has_the_time_of_its_ingest() {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(-1, None, Some(b"{}"), &[]);
    let parsed = parse(&TopicConfig::default(), [&applied(builder.finish())]);
    let time = parsed.chunks[0].rows.column(0).as_primitive::<TimestampNanosecondType>().value(0);
    assert_eq!(time, INGESTED_NS);
}

#[test]
fn timestamps_of_records_are_within_nanoseconds() {
    let last = i64::MAX / 1_000_000;
    let mut builder = BatchBuilder::new(Compression::None);
    let produced = [i64::MIN, -2, -1, 0, RECORD_MS, last, last + 1, i64::MAX];
    produced.into_iter().for_each(|timestamp| builder.push(timestamp, None, Some(b"{}"), &[]));
    let parsed = parse(&TopicConfig::default(), [&applied(builder.finish())]);
    let timestamps = parsed.chunks[0].rows.column_by_name(system::TIMESTAMP).unwrap();
    let stored = timestamps.as_primitive::<TimestampMillisecondType>().values().to_vec();
    assert_eq!(stored, [-1, -1, -1, 0, RECORD_MS, last, last, last]);
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(timestamps, system_fields()[0].data_type(), &strict).unwrap();
}

#[test]
fn keys_and_headers_are_text() {
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.push(RECORD_MS, Some(b"k\xff"), Some(b"{}"), &[("h", Some(b"1\"")), ("n", None)]);
    builder.push(RECORD_MS, None, Some(b"{}"), &[]);
    let parsed = parse(&TopicConfig::default(), [&applied(builder.finish())]);
    let rows = &parsed.chunks[0].rows;
    assert_eq!(values(rows.column_by_name(system::KEY).unwrap()), "k\\xff | -");
    assert_eq!(values(rows.column_by_name(system::HEADERS).unwrap()), r#"{"h":"1\"","n":null} | -"#);
    assert_eq!(values(rows.column_by_name(system::OFFSET).unwrap()), "100 | 101");
}

#[test]
fn text_is_the_column_message() {
    let config = TopicConfig { format: Format::Text, ..TopicConfig::default() };
    let values: [Option<&[u8]>; 3] = [Some(b"one line\r\n"), Some(b"caf\xe9"), None];
    let parsed = parse(&config, [&applied(batch(&values, Compression::Lz4))]);
    assert_eq!(shown(&parsed.chunks[0].rows), "message: Utf8 one line | caf\\xe9 | -");
    assert_eq!(parsed.dead_rows, 1);
}

#[test]
fn raw_records_are_counted_as_rowless() {
    let config = TopicConfig { format: Format::Raw, ..TopicConfig::default() };
    let values: [Option<&[u8]>; 2] = [Some(b"x"), None];
    let parsed = parse(&config, [&applied(batch(&values, Compression::None))]);
    assert!(parsed.chunks.is_empty());
    assert_eq!(parsed.rowless, BTreeMap::from([(PartitionId(3), 2)]));
}

#[test]
fn x1_objects_too_deep_are_kept_as_text() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    let rows = rows(&[&deep]);
    assert_eq!(dead(&rows), [None]);
    assert_eq!(rows.num_columns() - system_fields().len(), 1);
    let (path, text) = (rows.schema_ref().field(8).name().clone(), values(rows.column(8)));
    assert_eq!(path.split('.').count(), 32);
    assert_eq!(text, deep[32 * 5..deep.len() - 32]);
}

#[test]
fn batch_that_does_not_decode_is_one_dead_row_per_offset() {
    let values: Vec<Option<&[u8]>> = vec![Some(b"{\"a\":1}"); 5];
    let mut bytes = batch(&values, Compression::Gzip).to_vec();
    bytes.truncate(HEADER_BYTES + 4);
    bytes[HEADER_BYTES..].copy_from_slice(b"junk");
    bytes[8..12].copy_from_slice(&((HEADER_BYTES + 4 - 12) as u32).to_be_bytes());
    let parsed = parse(&TopicConfig::default(), [&applied(bytes.into())]);
    assert_eq!((parsed.rows, parsed.dead_rows), (5, 5));
    let rows = &parsed.chunks[0].rows;
    assert!(dead(rows)[4].as_deref().unwrap().starts_with("the record batch does not decode"), "{:?}", dead(rows));
    assert_eq!(values_of_offsets(&parsed), [100, 101, 102, 103, 104]);
}

fn values_of_offsets(parsed: &Parsed) -> Vec<i64> {
    let offsets = parsed.chunks.iter().flat_map(|chunk| {
        chunk.rows.column_by_name(system::OFFSET).unwrap().as_primitive::<Int64Type>().values().to_vec()
    });
    offsets.collect()
}

#[test]
fn fields_past_the_cap_are_kept_in_rest() {
    let wide: Map<String, Json> = (0..MAX_COLUMNS + 5).map(|n| (format!("k{n:04}"), json!(n))).collect();
    let first = Json::Object(wide).to_string();
    let config = TopicConfig { time_field: Some("ts".to_owned()), ..TopicConfig::default() };
    let late = r#"{"late":{"a":[1],"s":"x","f":1.5,"t":true},"ts":5}"#;
    let rows = rows_with(&config, &[&first, late]);
    assert_eq!(dead(&rows)[0].as_deref(), Some("the time field `ts` is missing"));
    assert_eq!(rows.num_columns() - system_fields().len(), 5, "a dead record uses up no columns");

    let first = first.replacen('{', r#"{"ts":5,"#, 1);
    let rows = rows_with(&config, &[&first, late]);
    assert_eq!(rows.num_columns() - system_fields().len(), MAX_COLUMNS + 1);
    let rest = rows.column_by_name(REST).unwrap().as_string::<i32>();
    let rest = |row| serde_json::from_str::<Json>(rest.value(row)).unwrap();
    assert_eq!(rest(0).as_object().unwrap().len(), 6);
    assert_eq!(rest(1), json!({"late.a":[1],"late.s":"x","late.f":1.5,"late.t":true}));
}

#[test]
fn chunks_are_bounded() {
    let values: Vec<Option<&[u8]>> = vec![Some(b"{\"a\":1}"); 2 * TailChunk::MAX_ROWS + 1];
    let parsed = parse(&TopicConfig::default(), [&applied(batch(&values, Compression::None))]);
    let sizes: Vec<usize> = parsed.chunks.iter().map(|chunk| chunk.rows.num_rows()).collect();
    assert_eq!(sizes, [TailChunk::MAX_ROWS, TailChunk::MAX_ROWS, 1]);
    assert!(parsed.chunks.iter().all(|chunk| chunk.first_index == RaftIndex(9) && chunk.last_index == RaftIndex(9)));
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-3..4i64).prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        (-4..5i32).prop_map(|n| Json::from(f64::from(n) / 2.0)),
        any::<f64>().prop_map(Json::from),
        "\\PC{0,6}".prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from), any_object(inner)]
    })
}

fn any_object(value: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    let key = prop_oneof![8 => "[a-d]", 1 => Just(String::new()), 1 => Just("_time".to_owned()), 1 => "[ü\"\n]"];
    prop::collection::vec((key, value), 0..5).prop_map(|fields| Json::Object(fields.into_iter().collect()))
}

/// The leaves of an object by column, as the oracle sees them.
fn flatten(object: &Map<String, Json>, path: &str, into: &mut BTreeMap<String, Json>) {
    for (key, value) in object {
        let key = if key.is_empty() { "_empty" } else { key };
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Json::Null => {}
            Json::Object(object) => flatten(object, &path, into),
            leaf => {
                into.insert(column_name(&path).into_owned(), leaf.clone());
            }
        }
    }
}

/// Whether a cell says what the value says, in whatever type its column has.
fn says(column: &ArrayRef, row: usize, value: &Json) -> bool {
    match column.data_type() {
        DataType::Boolean => value.as_bool() == Some(column.as_boolean().value(row)),
        DataType::Int64 => value.as_i64() == Some(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => {
            let float = column.as_primitive::<Float64Type>().value(row);
            match (value.as_i64(), value.as_u64()) {
                (Some(int), _) => float as i128 == i128::from(int),
                (_, Some(int)) => float as i128 == i128::from(int),
                _ => value.as_f64() == Some(float),
            }
        }
        _ => {
            let text = column.as_string::<i32>().value(row);
            match value {
                Json::String(string) => string == text,
                Json::Number(number) if number.is_f64() => text.parse().ok() == number.as_f64(),
                other => {
                    let written = other.to_string();
                    written == text
                }
            }
        }
    }
}

#[test]
fn s1_erased_records_are_offsets_without_a_row() {
    let values: Vec<Option<&[u8]>> =
        [&b"{\"n\":0}"[..], b"{\"n\":1}", b"no json", b"{\"n\":3}", b"{\"n\":4}"].map(Some).to_vec();
    let whole = Batch::parse(batch(&values, Compression::Zstd)).unwrap();
    for (kept, offsets) in [(vec![1, 2, 4], vec![101, 102, 104]), (vec![], vec![]), (vec![0], vec![100])] {
        let left = without(&whole, |delta| !kept.contains(&delta), 1 << 20);
        let parsed = parse(&TopicConfig::default(), [&applied(left)]);
        let found = parsed.chunks.iter().flat_map(|chunk| {
            chunk.rows.column_by_name(system::OFFSET).unwrap().as_primitive::<Int64Type>().values().to_vec()
        });
        assert_eq!(found.collect::<Vec<_>>(), offsets);
        assert_eq!(parsed.ends[&PartitionId(3)], Offset(105));
        assert_eq!(parsed.rows + parsed.rowless[&PartitionId(3)], 5, "rows + rowless = offsets");
    }
}

proptest! {
    #[test]
    fn rows_say_what_the_json_says(records in prop::collection::vec(any_object(any_json()), 1..12)) {
        let texts: Vec<String> = records.iter().map(Json::to_string).collect();
        let rows = rows(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(dead(&rows), vec![None; records.len()]);
        let mut cells = 0;
        for (row, (record, text)) in records.iter().zip(&texts).enumerate() {
            let mut expected = BTreeMap::new();
            flatten(record.as_object().unwrap(), "", &mut expected);
            for (name, value) in &expected {
                let column = rows.column_by_name(name);
                prop_assert!(column.is_some(), "no column {name:?}");
                let column = column.unwrap();
                prop_assert!(column.is_valid(row) && says(column, row, value), "{name:?} of {text} is {}", values(column));
            }
            cells += expected.len();
        }
        let valid: usize = rows.columns()[system_fields().len()..].iter().map(|c| c.len() - c.null_count()).sum();
        prop_assert_eq!(valid, cells, "nothing but what the records say");
    }

    #[test]
    fn x1_any_bytes_become_one_row_each(
        records in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..60)), 1..10)
    ) {
        let values: Vec<Option<&[u8]>> = records.iter().map(Option::as_deref).collect();
        let parsed = parse(&TopicConfig::default(), [&applied(batch(&values, Compression::None))]);
        prop_assert_eq!(parsed.rows, records.len() as u64);
    }

    #[test]
    fn x1_damaged_batches_become_one_row_per_offset(at in HEADER_BYTES..400usize, flip in 1..=255u8) {
        let values: Vec<Option<&[u8]>> = vec![Some(b"{\"a\":{\"b\":[1,2,3]},\"c\":\"text\"}"); 20];
        let mut bytes = batch(&values, Compression::None).to_vec();
        let at = at % bytes.len();
        bytes[at.max(HEADER_BYTES)] ^= flip;
        let parsed = parse(&TopicConfig::default(), [&applied(bytes.into())]);
        prop_assert_eq!(values_of_offsets(&parsed), (100..120).collect::<Vec<i64>>());
    }
}

/// Prints how fast lines of JSON become rows, made ones or, with `NDJSON=file`, those of a file:
/// `cargo test --release -p stratalog-broker --lib -- --ignored --nocapture rows_per`.
#[test]
#[ignore = "a measurement"]
fn rows_per_second() {
    let line = |n: usize| {
        format!(
            r#"{{"ts":"2026-01-31T23:59:{:02}.{:03}Z","level":"info","service":"checkout","host":"node-{}","msg":"order {} accepted after {} ms","status":{},"duration_ms":{}.{},"trace":{{"id":"4bf92f3577b34da6a3ce929d0e0e{:04x}","span":"00f067aa0ba9{:04x}"}},"tags":["eu","prod"],"ok":true}}"#,
            n % 60,
            n % 1_000,
            n % 16,
            n,
            n % 97,
            200 + n % 5,
            n % 97,
            n % 10,
            n % 65_536,
            n % 65_536
        )
    };
    let lines: Vec<String> = match std::env::var_os("NDJSON") {
        Some(file) => std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect(),
        None => (0..100_000).map(line).collect(),
    };
    let bytes: usize = lines.iter().map(String::len).sum();
    let batches: Vec<AppliedBatch> = lines
        .chunks(1_000)
        .map(|lines| {
            let values: Vec<Option<&[u8]>> = lines.iter().map(|line| Some(line.as_bytes())).collect();
            applied(batch(&values, Compression::None))
        })
        .collect();
    let time_field = if lines[0].contains("\"ts\"") { "ts" } else { "timestamp" };
    let config = TopicConfig { time_field: Some(time_field.to_owned()), ..TopicConfig::default() };
    for _ in 0..5 {
        let started = std::time::Instant::now();
        let parsed = parse(&config, &batches);
        let elapsed = started.elapsed();
        assert_eq!((parsed.rows, parsed.dead_rows), (lines.len() as u64, 0));
        let seconds = elapsed.as_secs_f64();
        println!("{:.0} MB/s, {:.0} rows/s", bytes as f64 / 1e6 / seconds, lines.len() as f64 / seconds);
    }
}
