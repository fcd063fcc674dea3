//! Hostile JSON, kind by kind: each a right row or a dead one with a reason, in bounded memory.

use super::*;

/// The reason of one record alone, and its row.
fn one(value: &[u8]) -> (Option<String>, RecordBatch) {
    let parsed = parse(&TopicConfig::default(), [&applied(batch(&[Some(value)], Compression::None))]);
    assert_eq!((parsed.rows, parsed.chunks.len()), (1, 1));
    let rows = parsed.chunks[0].rows.clone();
    (dead(&rows).remove(0), rows)
}

fn is_dead(value: &[u8], reason: &str) {
    let (dead, rows) = one(value);
    let dead = dead.unwrap_or_else(|| panic!("{:.60} is a row: {}", String::from_utf8_lossy(value), shown(&rows)));
    assert!(dead.starts_with(reason), "{dead}");
    assert!(dead.len() <= 256, "{dead}");
    assert_eq!(shown(&rows), "");
}

fn is_row(value: &[u8], expected: &str) {
    let (dead, rows) = one(value);
    assert_eq!(dead, None, "{:.60}", String::from_utf8_lossy(value));
    assert_eq!(shown(&rows), expected);
}

#[test]
fn x1_objects_nested_a_thousand_deep_end_in_text() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(1_000), "}".repeat(1_000));
    let path = ["a"; 32].join(".");
    is_row(deep.as_bytes(), &format!("{path}: Utf8 {}", &deep[32 * 5..deep.len() - 32]));
}

#[test]
fn x1_arrays_nested_without_end_are_text_or_dead_and_no_overflow() {
    let nested = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let (dead, rows) = one(nested(1_000).as_bytes());
    assert_eq!(dead, None);
    assert_eq!(values(rows.column_by_name("a").unwrap()).len(), 2_000);
    assert_eq!(one(nested(1_000_000).as_bytes()).0, None);
    is_dead(r#"{"a":[[[["#.as_bytes(), "the value is not JSON: ");
    is_dead(&[br#"{"a":"#.as_slice(), &b"[".repeat(1_000_000)].concat(), "the value is not JSON: ");
    is_dead(&br#"{"a":"#.repeat(1_000_000), "the value is not JSON: ");
}

#[test]
fn an_array_of_one_object_is_that_object_and_every_other_one_is_dead() {
    is_row(br#" [ {"host":"a","values":[0.5]} ] "#, "host: Utf8 a\nvalues: Utf8 [0.5]");
    is_row(b"[{}]", "");
    let several = "the value is not a JSON object: it is an array of several values, and a record is one row";
    is_dead(br#"[{"a":1},{"a":2}]"#, several);
    is_dead(br#"[{"a":1},3]"#, several);
    is_dead(b"[]", "the value is not a JSON object: it is an empty array");
    is_dead(br#"[[{"a":1}]]"#, "the value is not a JSON object: invalid type: sequence, expected an object");
    for broken in [&br#"[{"a":1}"#[..], br#"[{"a":1},]"#, br#"[{"a":1}]]"#, br#"[{"a":1}]{"#, b"[", b"[{"] {
        is_dead(broken, "the value is not JSON: ");
    }
    is_dead(&b"[".repeat(1_000_000), "the value is not");
}

#[test]
fn a_string_of_ten_megabytes_is_a_value() {
    let long = "x".repeat(10 << 20);
    let (dead, rows) = one(format!(r#"{{"a":"{long}"}}"#).as_bytes());
    assert_eq!(dead, None);
    assert_eq!(rows.column_by_name("a").unwrap().as_string::<i32>().value(0), long);
}

#[test]
fn five_thousand_keys_in_one_record_are_all_kept() {
    let keys = (0..5_000).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",");
    let (dead, rows) = one(format!("{{{keys}}}").as_bytes());
    assert_eq!(dead, None);
    assert_eq!(rows.num_columns() - system_fields().len(), MAX_COLUMNS + 1);
    let rest: Json = serde_json::from_str(rows.column_by_name(REST).unwrap().as_string::<i32>().value(0)).unwrap();
    assert_eq!(rest.as_object().unwrap().len(), 4_000);
    assert_eq!(rest["k4999"], json!(4_999));
}

#[test]
fn x1_fifty_thousand_keys_over_a_topic_are_bounded_in_each_chunk() {
    let values: Vec<String> = (0..50_000).map(|n| format!("{{\"k{n}\":{n}}}")).collect();
    let values: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_bytes())).collect();
    let parsed = parse(&TopicConfig::default(), [&applied(batch(&values, Compression::None))]);
    assert_eq!((parsed.rows, parsed.dead_rows), (50_000, 0));
    let mut found = 0;
    for chunk in &parsed.chunks {
        let user = &chunk.rows.columns()[system_fields().len()..];
        assert!(user.len() <= MAX_COLUMNS + 1);
        assert!(user.len() * chunk.rows.num_rows() <= 4 << 20, "cells are bounded");
        found += user.iter().map(|column| column.len() - column.null_count()).sum::<usize>();
    }
    assert_eq!(found, 50_000, "no value is lost");
}

#[test]
fn a_field_that_changes_its_type_with_every_record_is_text_with_each_value() {
    let values = [r#"{"a":1}"#, r#"{"a":"x"}"#, r#"{"a":true}"#, r#"{"a":[1]}"#, r#"{"a":null}"#, r#"{"a":2.5}"#];
    assert_eq!(shown(&rows(&values)), "a: Utf8 1 | x | true | [1] | - | 2.5");
}

#[test]
fn what_is_no_number_in_json_is_dead() {
    for value in ["NaN", "Infinity", "-Infinity", "nan", "+1", "01", ".5", "1.", "1e", "0x10", "1_000"] {
        is_dead(format!(r#"{{"a":{value}}}"#).as_bytes(), "the value is not JSON: ");
    }
}

#[test]
fn integers_past_64_bits_keep_their_digits() {
    is_row(br#"{"a":9223372036854775807}"#, "a: Int64 9223372036854775807");
    is_row(br#"{"a":-9223372036854775808}"#, "a: Int64 -9223372036854775808");
    is_row(br#"{"a":18446744073709551616123}"#, "a: Utf8 18446744073709551616123");
    let digits = "9".repeat(10_000);
    is_row(format!(r#"{{"a":{digits}}}"#).as_bytes(), &format!("a: Utf8 {digits}"));
}

#[test]
fn keys_with_dots_quotes_and_nothing_in_them_are_columns() {
    is_row(br#"{"a.b":1}"#, "a.b: Int64 1");
    is_row(br#"{".":1,"a.":2,"..":3}"#, ".: Int64 1\n..: Int64 3\na.: Int64 2");
    is_row(br#"{"say \"hi\"":1}"#, "say \"hi\": Int64 1");
    is_row(br#"{"":1}"#, "_empty: Int64 1");
    is_row(br#"{"a":{"":{"":1}}}"#, "a._empty._empty: Int64 1");
    is_row(br#"{"\u0000":1}"#, "\0: Int64 1");
}

#[test]
fn bytes_that_are_not_utf8_are_dead_wherever_they_are() {
    is_dead(b"\xff{}", "the value is not UTF-8 from byte 0 on");
    is_dead(b"{\"\xc3\":1}", "the value is not UTF-8 from byte 2 on");
    is_dead(b"{\"a\":\"\xed\xa0\x80\"}", "the value is not UTF-8 from byte 6 on");
    is_dead(b"\xef\xbb\xbf{\"a\":1}", "the value is not JSON: ");
    is_dead(br#"{"a":"\ud800"}"#, "the value is not JSON: ");
    is_dead(br#"{"\udc00":1}"#, "the value is not JSON: ");
    is_dead(b"{\"a\":\"\x01\"}", "the value is not JSON: ");
    is_dead(b"{\"a\":[\"\x01\"]}", "the value is not JSON: ");
}

#[test]
fn times_of_every_kind_are_right_or_dead() {
    const S: i64 = 1_000_000_000;
    let time = |value: &str| -> Result<i64, String> {
        let config = TopicConfig { time_field: Some("ts".to_owned()), ..TopicConfig::default() };
        let rows = rows_with(&config, &[value]);
        let time = rows.column_by_name(system::TIME).unwrap().as_primitive::<TimestampNanosecondType>().value(0);
        dead(&rows).remove(0).map_or(Ok(time), Err)
    };
    assert_eq!(time(r#"{"ts":1769903999}"#), Ok(1_769_903_999 * S));
    assert_eq!(time(r#"{"ts":1769903999000000001}"#), Ok(1_769_903_999 * S + 1));
    assert_eq!(time(r#"{"ts":"2262-04-11T23:47:16.854775807Z"}"#), Ok(i64::MAX));
    assert_eq!(time(r#"{"ts":9223372036854775807}"#), Ok(i64::MAX));
    for late in ["\"2262-04-11T23:47:16.854775808Z\"", "9223372036854775808", "9223372037", "9223372036.854775808"] {
        assert!(time(&format!("{{\"ts\":{late}}}")).unwrap_err().ends_with("not within 1970 to 2262"), "{late}");
    }
    for out in ["\"1601-01-01T00:00:00Z\"", "\"9999-12-31T23:59:59Z\"", "-1", "1e300", "253402300799"] {
        let reason = time(&format!("{{\"ts\":{out}}}"));
        let is_time_in_milliseconds = out == "253402300799";
        assert_eq!(reason.is_ok(), is_time_in_milliseconds, "{out}: {reason:?}");
    }
    for missing in ["{}", r#"{"ts":null}"#, r#"{"ts":{}}"#, r#"{"ts":{"a":1}}"#] {
        assert_eq!(time(missing), Err("the time field `ts` is missing".to_owned()), "{missing}");
    }
    for none in ["[]", "true", "\"\"", "\"yesterday\"", "\"2026-02-30\"", "\"12:00\""] {
        assert!(time(&format!("{{\"ts\":{none}}}")).unwrap_err().ends_with("which is not a time"), "{none}");
    }
}

/// A year of random times in one batch, to the last nanosecond that there is: every record has its time.
#[test]
fn a_year_of_random_times_in_one_batch_keeps_each() {
    const YEAR_NS: i64 = 366 * 24 * 3_600 * 1_000_000_000;
    let times: Vec<i64> = (0..5_000)
        .map(|n: i64| i64::MAX - n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64).rem_euclid(YEAR_NS))
        .collect();
    let values: Vec<String> = times.iter().map(|time| format!("{{\"ts\":{time}}}")).collect();
    let config = TopicConfig { time_field: Some("ts".to_owned()), ..TopicConfig::default() };
    let rows = rows_with(&config, &values.iter().map(String::as_str).collect::<Vec<_>>());
    let column = rows.column_by_name(system::TIME).unwrap().as_primitive::<TimestampNanosecondType>();
    assert_eq!(column.values().to_vec(), times);
}
