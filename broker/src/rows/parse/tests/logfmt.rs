//! Records of format `logfmt`.

use super::*;

fn logfmt() -> TopicConfig {
    TopicConfig { format: Format::Logfmt, ..TopicConfig::default() }
}

#[test]
fn pairs_become_columns() {
    let cases: &[(&[&str], &str)] = &[
        (&["level=info msg=\"took 3 ms\" took=3"], "level: Utf8 info\nmsg: Utf8 took 3 ms\ntook: Int64 3"),
        (&["cached a=1"], "a: Int64 1\ncached: Boolean true"),
        (&["a= b=\"\""], "a: Utf8 \nb: Utf8 "),
        (&["t=true f=false n=null x=nil"], "f: Boolean false\nt: Boolean true\nx: Utf8 nil"),
        (&["i=-7 f=1.5 e=2e3 z=007 q=\"7\""], "e: Float64 2000.0\nf: Float64 1.5\ni: Int64 -7\nq: Utf8 7\nz: Utf8 007"),
        (&["big=18446744073709551615 inf=NaN"], "big: Utf8 18446744073709551615\ninf: Utf8 NaN"),
        (&["http.status=200 http.path=/a?b=c"], "http.path: Utf8 /a?b=c\nhttp.status: Int64 200"),
        (&[r#"m="say \"hi\" \\ \u00e4\n\ud83d\ude00""#], "m: Utf8 say \"hi\" \\ ä\n😀"),
        (&[r#"p="C:\dir\x" u="\ud800\u12""#], "p: Utf8 C:\\dir\\x\nu: Utf8 \\ud800\\u12"),
        (&["a=1 a=2 b=x b=null"], "a: Int64 2"),
        (&["  a=1\t\tb=it's\r\n"], "a: Int64 1\nb: Utf8 it's"),
        (&["_time=1 grün=ja"], "_user._time: Int64 1\ngrün: Utf8 ja"),
        (&["a=1", "a=x"], "a: Utf8 1 | x"),
    ];
    for (input, expected) in cases {
        let rows = rows_with(&logfmt(), input);
        assert_eq!(dead(&rows), vec![None; input.len()], "{input:?}");
        assert_eq!(shown(&rows), *expected, "{input:?}");
    }
}

#[test]
fn what_is_no_logfmt_is_dead_with_a_reason() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "the value is not logfmt: it has no `=`"),
        (b"just some words", "the value is not logfmt: it has no `=`"),
        (b"=1", "the value is not logfmt: there is no key at byte 1"),
        (b"a=1 =2", "the value is not logfmt: there is no key at byte 5"),
        (b"\"a\"=1", "the value is not logfmt: there is no key at byte 1"),
        (b"a=\"open", "the value is not logfmt: the quote at byte 3 has no end"),
        (b"a=\"open\\\"", "the value is not logfmt: the quote at byte 3 has no end"),
        (b"a=\"x\"y b=1", "the value is not logfmt: there is no space behind the quote at byte 5"),
        (b"a=\xff", "the value is not UTF-8 from byte 2 on"),
    ];
    for (value, reason) in cases {
        let parsed = parse(&logfmt(), [&applied(batch(&[Some(value)], Compression::None))]);
        let rows = &parsed.chunks[0].rows;
        assert_eq!(dead(rows), [Some((*reason).to_owned())]);
        assert_eq!(shown(rows), "", "a dead row leaves nothing behind");
    }
}

#[test]
fn time_field_and_declared_columns_count_for_logfmt() {
    let mut config = TopicConfig { time_field: Some("ts".to_owned()), ..logfmt() };
    config.set("columns", "v text, code bigint not null").unwrap();
    let rows = rows_with(&config, &["ts=2026-01-31T23:59:59Z v=1.10 code=\"7\"", "ts=1769903999 v=1"]);
    let time = rows.column_by_name(system::TIME).unwrap().as_primitive::<TimestampNanosecondType>().value(0);
    assert_eq!(time, 1_769_903_999_000_000_000);
    assert_eq!(values(rows.column_by_name("v").unwrap()), "1.10 | -");
    assert_eq!(dead(&rows)[1].as_deref(), Some("column `code` is missing, and it is declared NOT NULL"));
}

#[test]
fn the_last_value_of_a_key_wins_in_rest_too() {
    let config = logfmt();
    let full = (0..MAX_COLUMNS).map(|n| format!("k{n}={n}")).collect::<Vec<_>>().join(" ");
    // A node of the tree has room for `x`, and no column; beyond the nodes `y` has neither.
    let many = (0..4 * MAX_COLUMNS).map(|n| format!("k{n}={n}")).collect::<Vec<_>>().join(" ");
    for (first, key) in [(full, "x"), (many, "y")] {
        let last = format!("{key}=5 {key}=null {key}");
        let rows = rows_with(&config, &[&first, &format!("{key}=5 {key}=null"), &last]);
        let rest = rows.column_by_name(REST).unwrap().as_string::<i32>();
        let value = |row| serde_json::from_str::<serde_json::Value>(rest.value(row)).unwrap()[key].clone();
        assert_eq!((value(1), value(2)), (serde_json::Value::Null, true.into()));
    }
}

#[test]
fn keys_past_the_cap_are_kept_in_rest() {
    let line = (0..MAX_COLUMNS + 2).map(|n| format!("k{n}={n}")).collect::<Vec<_>>().join(" ");
    let rows = rows_with(&logfmt(), &[&format!("{line} s=\"x y\" b")]);
    let rest = rows.column_by_name(REST).unwrap().as_string::<i32>().value(0).to_owned();
    assert_eq!(rest, r#"{"k1000":1000,"k1001":1001,"s":"x y","b":true}"#);
}

/// A pair as a writer quotes it.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

proptest! {
    #[test]
    fn quoted_values_read_back(texts in prop::collection::btree_map("[a-z]{1,3}", any::<String>(), 1..6)) {
        let line = texts.iter().map(|(key, text)| format!("{key}={}", quoted(text))).collect::<Vec<_>>().join(" ");
        let rows = rows_with(&logfmt(), &[&line]);
        prop_assert_eq!(dead(&rows), [None]);
        for (key, text) in &texts {
            let column = rows.column_by_name(key).unwrap().as_string::<i32>();
            prop_assert_eq!(column.value(0), text);
        }
    }

    #[test]
    fn x1_any_bytes_become_one_row_each(value in prop::collection::vec(any::<u8>(), 0..80)) {
        let parsed = parse(&logfmt(), [&applied(batch(&[Some(&value)], Compression::None))]);
        prop_assert_eq!(parsed.rows, 1);
    }

    #[test]
    fn x1_any_text_with_pairs_becomes_one_row(line in "[a=\"\\\\ u0{}\n]{0,40}") {
        let parsed = parse(&logfmt(), [&applied(batch(&[Some(line.as_bytes())], Compression::None))]);
        prop_assert_eq!(parsed.rows, 1);
    }
}
