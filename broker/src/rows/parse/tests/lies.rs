//! X1: values of any bytes, in each format. Each is a row or a dead one, and the parser itself does not fail.

use stratalog_mutation::Decoder;

use super::*;

const JSON_WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "-",
    "1e999",
    "0.1",
    "\\u0000",
    "\\ud800",
    "\"_time\":",
    "\"a.b\":",
    "\"_rest\":",
    "18446744073709551616",
    "\"time\":\"2024-02-30T25:61:61Z\"",
    "é",
];

const JSON: Decoder =
    Decoder { name: "json", samples: objects, run: of_json, words: JSON_WORDS, memory_bytes: 4 << 20 };

fn objects() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"time":"2024-05-01T10:00:00.123456789Z","level":"info","took":1.5,"n":-3,"ok":true,"a":{"b":[1,"x",null]}}"#,
        r#"{"time":1700000000.25,"message":"\u00e4\ud83d\ude00\n","_offset":1,"":2,"a.b":3,"big":123456789012345678901234567890}"#,
        r#"{"time":"May  1 10:00:00","status":200,"nested":{"a":{"b":{"c":{}}}}}"#,
        r#"[{"time":1700000000.25,"values":[0.5],"host":"a"}]"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// Whether each value is a row of its own.
fn is_row(config: &TopicConfig, value: &[u8]) -> bool {
    // A second, whole value: what the first one does to its column must not be lost on it.
    let values = [Some(value), Some(&br#"{"n":1,"status":2}"#[..])];
    let parsed = parse(config, [&applied(batch(&values, Compression::None))]);
    assert_eq!(parsed.rows, 2, "S1: each record is a row");
    let dead: Vec<Option<String>> = parsed.chunks.iter().flat_map(|chunk| dead(&chunk.rows)).collect();
    let failed = dead.iter().flatten().find(|reason| reason.contains("report it as a defect"));
    assert_eq!(failed, None, "X1: the parser failed");
    dead[0].is_none()
}

fn config(settings: &[(&str, &str)]) -> TopicConfig {
    let mut config = TopicConfig::default();
    settings.iter().for_each(|(key, value)| config.set(key, value).unwrap());
    config
}

fn of_json(value: &[u8]) -> bool {
    let declared = config(&[("time.field", "time"), ("columns", "n bigint, status double, a.b text, ok boolean")]);
    let _ = is_row(&declared, value);
    is_row(&config(&[("time.field", "time")]), value) || is_row(&TopicConfig::default(), value)
}

#[test]
fn x1_json_that_lies() {
    JSON.check();
}

const LOGFMT: Decoder = Decoder {
    name: "logfmt",
    samples: lines,
    run: of_logfmt,
    words: &["=", "\"", "\\", " ", "a.b=", "=\"\"", "\\u00", "time=", "é"],
    memory_bytes: 4 << 20,
};

fn lines() -> Vec<Vec<u8>> {
    let texts =
        ["time=2024-05-01T10:00:00Z level=info msg=\"a \\\"quoted\\\" text\" took=1.5 ok n=-3", "a.b=1 c= d=\"\" e"];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

fn of_logfmt(value: &[u8]) -> bool {
    is_row(&config(&[("format", "logfmt"), ("time.field", "time")]), value)
        || is_row(&config(&[("format", "logfmt")]), value)
}

#[test]
fn x1_logfmt_that_lies() {
    LOGFMT.check();
}

/// A pattern (with its length in front), and a value that it takes apart.
const PATTERN: Decoder = Decoder {
    name: "pattern",
    samples: patterns,
    run: of_pattern,
    words: &["%{", "}", ":", "(?P<", ">", ")", "(", "[", "]", "{9}", "*", "+", "|", "\\", "%{IP:a}", "(?i)", "{1,999}"],
    memory_bytes: 16 << 20,
};

fn patterns() -> Vec<Vec<u8>> {
    let cases = [
        ("%{IP:client} %{WORD:method} (?<rest>.*)", "10.0.0.1 GET /index.html"),
        ("^(?<time>\\S+) \\[(?<level>\\w+)\\] %{DATA:message}$", "2024-05-01T10:00:00Z [info] hello"),
    ];
    cases.map(|(pattern, value)| [&stratalog_mutation::piece(pattern.as_bytes()), value.as_bytes()].concat()).into()
}

fn of_pattern(bytes: &[u8]) -> bool {
    let mut pieces = stratalog_mutation::Pieces(bytes);
    let Ok(pattern) = str::from_utf8(pieces.piece()) else { return false };
    if super::super::check_pattern(pattern).is_err() {
        return false;
    }
    let mut config = config(&[("format", "text")]);
    config.pattern = Some(pattern.to_owned());
    let _ = is_row(&config, pieces.rest());
    true
}

#[test]
fn x1_patterns_that_lie() {
    PATTERN.check_slow();
}
