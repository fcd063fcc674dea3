//! Logs, spans and metrics of services.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::tools::jq;
use super::{Loaded, count, count_by, counted, found, has_word, is_close, lines, parsed};

#[test]
fn train_ticket_logs() {
    let Some(lines) = lines("trainticket-logs.ndjson.zst") else { return };
    let logs = parsed(&lines);
    let by_pod = count_by(&logs, |log| &log["pod"]);
    if let Some(Value::Object(said)) = jq("group_by(.pod) | map({(.[0].pod): length}) | add", &lines) {
        let said: BTreeMap<String, u64> = said.into_iter().map(|(pod, n)| (pod, n.as_u64().unwrap())).collect();
        assert_eq!(said, by_pod, "jq says otherwise");
    }
    let trace = logs[logs.len() / 2]["trace_id"].as_str().unwrap();
    let last = logs.iter().map(|log| log["timestamp"].as_str().unwrap()).max().unwrap();
    Loaded::new(&lines, &["--time-field", "timestamp"]).check(&["t"], |node| {
        assert_eq!(counted(node, "SELECT pod, count(*) AS n FROM t GROUP BY pod"), by_pod);
        let of_word = |word: &str| count(&logs, |log| has_word(log["message"].as_str().unwrap(), word));
        for word in ["TravelServiceImpl", "Success", "ERROR", "shanghai", "nosuchword"] {
            let matched = format!("SELECT count(*) FROM t WHERE MATCH(message, '{word}')");
            assert_eq!(node.value(&matched), of_word(word), "{word}");
            let negated = format!("SELECT count(*) FROM t WHERE NOT MATCH(message, '{word}')");
            assert_eq!(node.value(&negated), logs.len() - of_word(word), "NOT {word}");
            assert_eq!(found(node, "t", &format!("message:{word}")), of_word(word).min(10_000), "a search of {word}");
        }
        let of_trace = count(&logs, |log| log["trace_id"] == *trace);
        assert_eq!(node.value(&format!("SELECT count(*) FROM t WHERE trace_id = '{trace}'")), of_trace);
        let impl_lines = count(&logs, |log| log["message"].as_str().unwrap().contains("ServiceImpl#"));
        assert_eq!(node.value("SELECT count(*) FROM t WHERE message LIKE '%ServiceImpl#%'"), impl_lines);
        // Written with nine digits, texts of one zone are ordered as times are.
        let newest = node.value("SELECT timestamp FROM t ORDER BY _time DESC, timestamp DESC LIMIT 1");
        assert_eq!(padded(newest.as_str().unwrap()), padded(last));
    });
}

/// A time with all nine digits of its fraction.
fn padded(time: &str) -> String {
    let (seconds, fraction) = time.trim_end_matches('Z').split_once('.').unwrap_or((time.trim_end_matches('Z'), ""));
    format!("{seconds}.{fraction:0<9}")
}

/// A line of the spans' CSV, which has no quotes, as JSON.
fn span(line: &str) -> Value {
    let fields: Vec<&str> = line.split(',').collect();
    let number = |at: usize| fields[at].parse::<i64>().unwrap();
    json!({
        "trace": fields[0], "span": fields[1], "parent": fields[2], "pod": fields[3], "operation": fields[4],
        "start": number(5), "end": number(6), "duration_us": number(7),
    })
}

#[test]
fn train_ticket_spans_join_their_logs() {
    let (Some(logs), Some(spans)) = (lines("trainticket-logs.ndjson.zst"), lines("trainticket-spans.csv.zst")) else {
        return;
    };
    let spans: Vec<Value> = spans[1..].iter().map(|line| span(line)).collect();
    let span_lines: Vec<String> = spans.iter().map(Value::to_string).collect();
    let parsed_logs = parsed(&logs);
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let mut known: HashMap<(String, String), u64> = HashMap::new();
    spans.iter().for_each(|span| *known.entry((text(span, "trace"), text(span, "span"))).or_default() += 1);
    let of_log = |log: &Value| known.get(&(text(log, "trace_id"), text(log, "span_id"))).copied().unwrap_or_default();
    let joined: u64 = parsed_logs.iter().map(of_log).sum();
    let duration = |span: &Value| span["duration_us"].as_i64().unwrap();
    let slowest = spans.iter().map(duration).max().unwrap();
    let mut children: HashMap<&str, u64> = HashMap::new();
    spans.iter().for_each(|span| *children.entry(span["parent"].as_str().unwrap()).or_default() += 1);
    let loaded = Loaded::new(&span_lines, &["--time-field", "start"]);
    loaded.add("logs", &logs, &["--time-field", "timestamp"]);
    loaded.check(&["t", "logs"], |node| {
        assert_eq!(node.value("SELECT max(duration_us) FROM t"), slowest);
        assert_eq!(node.value("SELECT sum(duration_us) FROM t"), spans.iter().map(duration).sum::<i64>());
        let operations = count_by(&spans, |span| &span["operation"]);
        assert_eq!(counted(node, "SELECT operation, count(*) AS n FROM t GROUP BY operation"), operations);
        let most = "SELECT count(*) AS n FROM t GROUP BY parent ORDER BY n DESC LIMIT 1";
        assert_eq!(node.value(most), *children.values().max().unwrap());
        let consistent = count(&spans, |span| span["end"].as_i64() > span["start"].as_i64());
        assert_eq!(node.value("SELECT count(*) FROM t WHERE \"end\" > start"), consistent);
        let join = "SELECT count(*) FROM logs l JOIN t s ON l.trace_id = s.trace AND l.span_id = s.span";
        assert_eq!(node.value(join), joined);
    });
}

#[test]
fn metrics_and_their_anomalies() {
    let Some(lines) = lines("nab-metrics.ndjson.zst") else { return };
    let metrics = parsed(&lines);
    let value = |metric: &Value| metric["value"].as_f64().unwrap();
    let mut by_metric: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    metrics.iter().for_each(|m| by_metric.entry(m["metric"].as_str().unwrap()).or_default().push(value(m)));
    let windows = anomalies();
    let within = count(&metrics, |m| {
        let at = m["timestamp"].as_str().unwrap();
        windows.iter().any(|w| {
            w["metric"] == m["metric"] && *w["from"].as_str().unwrap() <= *at && *at <= *w["to"].as_str().unwrap()
        })
    });
    let loaded = Loaded::new(&lines, &["--time-field", "timestamp"]);
    let window_lines: Vec<String> = windows.iter().map(Value::to_string).collect();
    loaded.add("windows", &window_lines, &[]);
    loaded.check(&["t", "windows"], |node| {
        for row in node.sql("SELECT metric, min(value) AS low, max(value) AS high, avg(value) AS mean, count(*) AS n FROM t GROUP BY metric") {
            let values = &by_metric[row["metric"].as_str().unwrap()];
            assert_eq!(row["n"], values.len());
            is_close(&row["low"], values.iter().copied().fold(f64::MAX, f64::min));
            is_close(&row["high"], values.iter().copied().fold(f64::MIN, f64::max));
            is_close(&row["mean"], values.iter().sum::<f64>() / values.len() as f64);
        }
        assert_eq!(node.value("SELECT count(DISTINCT metric) FROM t"), by_metric.len());
        assert_eq!(node.value("SELECT count(*) FROM t WHERE value > 50"), count(&metrics, |m| value(m) > 50.0));
        let anomalous = "SELECT count(DISTINCT t._offset) FROM t JOIN windows w ON t.metric = w.metric \
                         AND t._time >= CAST(w.\"from\" AS TIMESTAMP) AND t._time <= CAST(w.\"to\" AS TIMESTAMP)";
        assert_eq!(node.value(anomalous), within);
        let hours = "SELECT count(*) FROM (SELECT date_bin(INTERVAL '1 hour', _time) AS h FROM t GROUP BY h)";
        let distinct: HashSet<&str> = metrics.iter().map(|m| &m["timestamp"].as_str().unwrap()[..13]).collect();
        assert_eq!(node.value(hours), distinct.len());
    });
}

/// The labelled windows, one record each: times as the metrics have them.
fn anomalies() -> Vec<Value> {
    let Some(text) = lines("nab-anomaly-windows.json") else { return Vec::new() };
    let labels: BTreeMap<String, Vec<[String; 2]>> = serde_json::from_str(&text.join("\n")).unwrap();
    let record = |name: &str, [from, to]: &[String; 2]| {
        let metric = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".csv");
        let time = |time: &String| format!("{}Z", time.split('.').next().unwrap_or_default().replace(' ', "T"));
        json!({"metric": metric, "from": time(from), "to": time(to)})
    };
    labels.iter().flat_map(|(name, windows)| windows.iter().map(move |window| record(name, window))).collect()
}
