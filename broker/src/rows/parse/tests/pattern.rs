//! Records of format `text` that are taken apart by a pattern.

use stratalog_proto::Code;

use super::super::check_pattern;
use super::*;

fn pattern(pattern: &str) -> TopicConfig {
    TopicConfig { format: Format::Text, pattern: Some(pattern.to_owned()), ..TopicConfig::default() }
}

/// The columns but `message`, of one line that matches.
fn parts(config: &TopicConfig, line: &str) -> String {
    let rows = rows_with(config, &[line]);
    assert_eq!(dead(&rows), [None], "{line}");
    let message = rows.schema_ref().index_of("message").unwrap();
    let parts: Vec<usize> = (0..rows.num_columns()).filter(|column| *column != message).collect();
    shown(&rows.project(&parts).unwrap()).replace(" Utf8 ", " ")
}

#[test]
fn named_groups_become_columns_beside_the_message() {
    let rows = rows_with(&pattern(r"^(?<level>[A-Z]+) (?P<what>.*)"), &["WARN disk full\r\n", "INFO ok"]);
    assert_eq!(
        shown(&rows),
        "level: Utf8 WARN | INFO\nmessage: Utf8 WARN disk full | INFO ok\nwhat: Utf8 disk full | ok"
    );
}

#[test]
fn a_part_that_is_called_message_is_the_message() {
    let rows = rows_with(&pattern(r"^%{LOGLEVEL:level} %{GREEDYDATA:message}"), &["WARN disk full"]);
    assert_eq!(shown(&rows), "level: Utf8 WARN\nmessage: Utf8 disk full");
}

#[test]
fn parts_may_be_numbers_and_dotted_and_absent() {
    let config = pattern(r"^%{NUMBER:http.took:float} %{INT:http.status:int}(?: %{WORD:user})?(?<empty>x*)$");
    assert_eq!(parts(&config, "1.5 0200"), "empty: \nhttp.status: Int64 200\nhttp.took: Float64 1.5");
    assert_eq!(parts(&config, "2 404 bob"), "empty: \nhttp.status: Int64 404\nhttp.took: Float64 2.0\nuser: bob");
}

#[test]
fn of_two_groups_for_one_column_the_one_that_matched_counts() {
    let config = pattern("^(?:a=%{INT:n:int}|b=%{INT:n:int})$");
    assert_eq!((parts(&config, "a=1"), parts(&config, "b=2")), ("n: Int64 1".to_owned(), "n: Int64 2".to_owned()));
}

#[test]
fn what_does_not_match_is_dead_with_a_reason() {
    let rows = rows_with(&pattern("^%{DATA:n:int};"), &["1;", "no match", "x;"]);
    let reasons = dead(&rows);
    assert_eq!(reasons[1].as_deref(), Some("the value does not match the topic's pattern"));
    assert_eq!(reasons[2].as_deref(), Some("`n` holds `x`, which is no number"));
    assert_eq!(shown(&rows), "message: Utf8 1; | - | -\nn: Int64 1 | - | -");
}

#[test]
fn time_field_and_declared_columns_count_for_parts() {
    let mut config = pattern(r"^%{IPORHOST:host} .*\[%{HTTPDATE:at}\] (?<code>\S+)");
    config.time_field = Some("at".to_owned());
    config.set("columns", "code bigint").unwrap();
    let rows = rows_with(&config, &["h - [31/Jan/2026:23:59:59 +0000] 200", "h - [31/Jan/2026:23:59:59 +0000] ok"]);
    let time = rows.column_by_name(system::TIME).unwrap().as_primitive::<TimestampNanosecondType>().value(0);
    assert_eq!(time, 1_769_903_999_000_000_000);
    assert_eq!(values(rows.column_by_name("code").unwrap()), "200 | -");
    assert_eq!(dead(&rows)[1].as_deref(), Some("column `code` holds `ok`, which is no bigint"));
}

#[test]
fn access_logs_are_known() {
    let line = r#"83.149.9.216 - frank [17/May/2015:10:05:03 +0000] "GET /a?b=c HTTP/1.1" 200 203023 "http://x.y/" "Mozilla/5.0 (\"x\")""#;
    let expected = r#"agent: Mozilla/5.0 (\"x\")
auth: frank
bytes: Int64 203023
clientip: 83.149.9.216
httpversion: 1.1
referrer: http://x.y/
request: /a?b=c
response: Int64 200
timestamp: 17/May/2015:10:05:03 +0000
verb: GET"#;
    assert_eq!(parts(&pattern("^%{COMBINEDAPACHELOG}"), line), expected);
    assert_eq!(parts(&pattern("^%{NGINXACCESS}$"), line), expected);
    let bare = r#"::1 - - [17/May/2015:10:05:03 +0000] "\x16\x03" 400 - "-" "-""#;
    let expected = "clientip: ::1\nrawrequest: \\x16\\x03\nresponse: Int64 400\ntimestamp: 17/May/2015:10:05:03 +0000";
    assert_eq!(parts(&pattern("^%{COMBINEDAPACHELOG}"), bare), expected);
    assert!(parts(&pattern("^%{COMMONAPACHELOG}"), line).contains("bytes: Int64 203023"));
}

#[test]
fn java_logs_are_known() {
    let spring = "2026-01-31 16:42:22.382  INFO 1 --- [  main] c.e.Route$Impl  : took [3] ms\n\tat a.b.C.d(C.java:1)";
    assert_eq!(
        parts(&pattern("%{JAVALOG}"), spring).replace('\n', " | "),
        "level: INFO | logger: c.e.Route$Impl | pid: Int64 1 | stacktrace: \tat a.b.C.d(C.java:1) | text: took [3] ms | \
         thread: main | timestamp: 2026-01-31 16:42:22.382"
    );
    let logback = "16:42:22.382 [http-1] WARN  c.e.Route - slow - very";
    assert_eq!(
        parts(&pattern("%{JAVALOG}"), logback).replace('\n', " | "),
        "level: WARN | logger: c.e.Route | text: slow - very | thread: http-1 | timestamp: 16:42:22.382"
    );
    let kafka = "[2016-12-20 00:04:03,231] WARN [Controller 0]: down (Map()) (kafka.controller.KafkaController)\njava.io.IOException: x";
    assert_eq!(
        parts(&pattern("%{LOG4J}"), kafka).replace('\n', " | "),
        "level: WARN | logger: kafka.controller.KafkaController | stacktrace: java.io.IOException: x | \
         text: [Controller 0]: down (Map()) | timestamp: 2016-12-20 00:04:03,231"
    );
}

#[test]
fn well_known_patterns_match_what_they_are_called() {
    let cases = [
        ("IP", "10.0.0.255"),
        ("IP", "fe80::1%eth0"),
        ("IP", "::ffff:10.0.0.1"),
        ("IPORHOST", "db-1.example.com"),
        ("HOSTPORT", "db-1:5432"),
        ("NUMBER", "-1.5"),
        ("UUID", "0189d2c4-7f3a-7b1e-9c55-0242ac120002"),
        ("MAC", "00:1b:63:84:45:e6"),
        ("QS", r#""say \"hi\"""#),
        ("EMAILADDRESS", "a.b+c@example.com"),
        ("UNIXPATH", "/var/log/syslog"),
        ("WINPATH", r"C:\logs\a.txt"),
        ("URI", "https://u:p@example.com:8080/a/b?c=d"),
        ("URIPATHPARAM", "/a/b?c=d"),
        ("TIMESTAMP_ISO8601", "2026-01-31T23:59:59.123+02:00"),
        ("TIMESTAMP_ISO8601", "2026-01-31 23:59:59,123"),
        ("HTTPDATE", "31/Jan/2026:23:59:59 +0000"),
        ("SYSLOGTIMESTAMP", "Jan  3 23:59:59"),
        ("DATESTAMP_RFC2822", "Sat, 31 Jan 2026 23:59:59 +0000"),
        ("LOGLEVEL", "warning"),
        ("JAVACLASS", "org.example.Foo$Bar"),
        ("JAVASTACKTRACEPART", "\tat a.B.<init>(B.java:12)"),
        ("SYSLOGLINE", "<34>Oct 11 22:14:15 host su[230]: 'su root' failed"),
    ];
    for (name, text) in cases {
        let whole = parts(&pattern(&format!("^%{{{name}:whole}}$")), text);
        assert!(whole.contains(&format!("whole: {text}")), "{name}: {whole}");
    }
}

#[test]
fn what_is_no_pattern_is_refused_with_a_reason() {
    let nested = format!("{}x{}", "(".repeat(500), ")".repeat(500));
    let many = "%{WORD:x}".repeat(300);
    let large = "%{COMBINEDAPACHELOG}".repeat(200);
    let cases = [
        ("(", "unclosed group"),
        ("(?=x)(?<a>x)", "look-around"),
        (r"(?<a>x)\1", "backreferences"),
        ("%{WROD:x}", "there is no pattern called `WROD`; did you mean `WORD`?"),
        ("%{}", "there is no pattern called ``"),
        ("%{WORD:x", "has no closing brace"),
        ("%{WORD:}", "has no column name"),
        ("%{WORD:a b}", "has no column name"),
        ("%{WORD:x:money}", "the types are int, float and text"),
        ("plain words", "no part of it is a column"),
        ("%{WORD} %{INT}", "no part of it is a column"),
        ("(?<a>x){1000}{1000}", "compiled, it takes more than"),
        (&nested, "nest"),
        (&many, "more than 200 columns"),
        (&large, "more than"),
    ];
    for (text, what) in cases {
        let error = check_pattern(text).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig);
        assert!(error.message.contains(what), "{text:.60}: {error}");
        assert!(error.message.len() < 1_000, "{error}");
    }
}

#[test]
fn x1_a_pattern_that_looks_everywhere_is_refused_or_passes_long_values_by() {
    let error = check_pattern(r"(?<a>(?:\w{1,50}\s?){1,40}z)").unwrap_err();
    assert!(error.message.contains("compiled, it takes more than 524288 bytes"), "{error}");

    let hostile = "(?<a>(?:[a-z]{1,50} ?){1,60}z)";
    check_pattern(hostile).unwrap();
    let long = "a".repeat(1 << 20);
    let rows = rows_with(&pattern(hostile), &["abc z", &long, "z"]);
    let reason = "the value is too long for the topic's pattern: it has 1048576 bytes, of at most 16384";
    assert_eq!(
        dead(&rows),
        [None, Some(reason.to_owned()), Some("the value does not match the topic's pattern".to_owned())]
    );
    assert_eq!(values(rows.column_by_name("a").unwrap()), "abc z | - | -");
}

#[test]
fn x1_a_pattern_that_is_none_makes_dead_rows() {
    let rows = rows_with(&pattern("%{WROD:x}"), &["a"]);
    assert!(dead(&rows)[0].as_deref().unwrap().starts_with("the topic's pattern is none: "), "{:?}", dead(&rows));
}

proptest! {
    #[test]
    fn x1_any_bytes_become_one_row_each(value in prop::collection::vec(any::<u8>(), 0..80)) {
        let parsed = parse(&pattern("%{DATA:a} %{GREEDYDATA:b}"), [&applied(batch(&[Some(&value)], Compression::None))]);
        prop_assert_eq!(parsed.rows, 1);
    }

    #[test]
    fn x1_no_pattern_panics(text in "[%{}:()?<>A-Z\\[\\]a*]{0,24}") {
        let _ = check_pattern(&text);
    }
}
