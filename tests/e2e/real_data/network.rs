//! Events of a network sensor: dotted names, arrays, fields that are often missing.

use serde_json::Value;

use super::tools::jq;
use super::{Loaded, count, count_by, counted, found, is_close, lines, parsed};

#[test]
fn zeek_dns_with_dotted_names() {
    let Some(lines) = lines("zeek-dns.ndjson.gz") else { return };
    let events = parsed(&lines);
    let sum: u64 = events.iter().filter_map(|event| event["trans_id"].as_u64()).sum();
    if let Some(said) = jq("map(.trans_id // 0) | add", &lines) {
        assert_eq!(said, sum, "jq says otherwise");
    }
    Loaded::new(&lines, &["--time-field", "ts"]).check(&["t"], |node| {
        let cases = [
            ("id.resp_p = 53", count(&events, |event| event["id.resp_p"] == 53)),
            ("rejected", count(&events, |event| event["rejected"] == true)),
            ("answers IS NULL", count(&events, |event| event.get("answers").is_none_or(Value::is_null))),
            ("NOT AA AND qtype_name = 'A'", count(&events, |event| event["AA"] == false && event["qtype_name"] == "A")),
            ("rtt > 0.001", count(&events, |event| event["rtt"].as_f64().is_some_and(|rtt| rtt > 0.001))),
            (
                "rtt <= 0.001 OR rtt IS NULL",
                count(&events, |event| event["rtt"].as_f64().is_none_or(|rtt| rtt <= 0.001)),
            ),
            (
                "query LIKE '%.org'",
                count(&events, |event| event["query"].as_str().is_some_and(|q| q.ends_with(".org"))),
            ),
            (
                "id.orig_h LIKE '10.47.%'",
                count(&events, |event| event["id.orig_h"].as_str().unwrap().starts_with("10.47.")),
            ),
        ];
        for (condition, expected) in cases {
            assert_eq!(node.value(&format!("SELECT count(*) FROM t WHERE {condition}")), expected, "{condition}");
        }
        assert_eq!(node.value("SELECT sum(trans_id) FROM t"), sum);
        let codes = count_by(&events, |event| &event["rcode_name"]);
        assert_eq!(counted(node, "SELECT rcode_name, count(*) AS n FROM t GROUP BY rcode_name"), codes);
        is_close(&node.value("SELECT sum(rtt) FROM t"), events.iter().filter_map(|event| event["rtt"].as_f64()).sum());
        let arrays = events.iter().filter(|event| event["TTLs"].as_array().is_some_and(|ttls| ttls.len() > 1)).count();
        assert_eq!(node.value("SELECT count(*) FROM t WHERE \"TTLs\" LIKE '%,%'"), arrays);
        let missing = count(&events, |event| event.get("rtt").is_none_or(Value::is_null));
        assert_eq!(found(node, "t", "NOT _exists_:rtt"), missing.min(10_000));
    });
}

#[test]
fn zeek_ssl_with_fields_that_are_often_missing() {
    let Some(lines) = lines("zeek-ssl.ndjson.gz") else { return };
    let events = parsed(&lines);
    if let Some(said) = jq("map(select(.established and .version == \"TLSv12\")) | length", &lines) {
        assert_eq!(said, count(&events, |event| event["established"] == true && event["version"] == "TLSv12"));
    }
    Loaded::new(&lines, &["--time-field", "ts"]).check(&["t"], |node| {
        let versions = count_by(&events, |event| &event["version"]);
        assert_eq!(counted(node, "SELECT version, count(*) AS n FROM t GROUP BY version"), versions);
        let strong = count(&events, |event| event["established"] == true && event["version"] == "TLSv12");
        assert_eq!(node.value("SELECT count(*) FROM t WHERE established AND version = 'TLSv12'"), strong);
        assert_eq!(found(node, "t", "established:true version:TLSv12"), strong.min(10_000));
        let other = count(&events, |event| event["version"] != "TLSv12");
        assert_eq!(node.value("SELECT count(*) FROM t WHERE version IS DISTINCT FROM 'TLSv12'"), other);
        let servers = events.iter().filter_map(|event| event["server_name"].as_str());
        let distinct: std::collections::BTreeSet<&str> = servers.collect();
        assert_eq!(node.value("SELECT count(DISTINCT server_name) FROM t"), distinct.len());
        let ciphers = "SELECT cipher FROM t WHERE cipher IS NOT NULL GROUP BY cipher ORDER BY cipher LIMIT 3";
        let expected: std::collections::BTreeSet<&str> = events.iter().filter_map(|e| e["cipher"].as_str()).collect();
        let shown = node.sql(ciphers);
        let shown: Vec<&str> = shown.iter().map(|row| row["cipher"].as_str().unwrap()).collect();
        assert_eq!(shown, expected.into_iter().take(3).collect::<Vec<_>>());
        let peers = count(&events, |event| event["id.resp_p"] == 443 && event["resumed"] == true);
        assert_eq!(node.value("SELECT count(*) FROM t WHERE id.resp_p = 443 AND resumed"), peers);
    });
}
