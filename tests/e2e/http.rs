//! HTTP as `curl` users see it; the gateway's own tests go deeper.

use std::time::Duration;

use reqwest::blocking::Client;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::harness::{Node, data_dir};

fn client() -> Client {
    Client::builder().timeout(Duration::from_secs(60)).build().unwrap()
}

#[test]
fn records_go_in_and_come_out_over_http() {
    let data = data_dir();
    let node = Node::start(data.path());
    let http = client();
    let url = |path: &str| format!("{}{path}", node.http);
    for probe in ["/healthz", "/readyz"] {
        assert!(http.get(url(probe)).send().unwrap().status().is_success(), "{probe}");
    }
    let created = http.post(url("/v1/topics")).json(&json!({"name": "t", "partitions": 1})).send().unwrap();
    assert!(created.status().is_success(), "{}", created.text().unwrap());
    let body = "{\"a\":1,\"m\":\"first\"}\n{\"a\":2,\"m\":\"second\"}\n";
    let produced = http.post(url("/v1/topics/t/records")).header(CONTENT_TYPE, "application/x-ndjson").body(body);
    let produced = produced.send().unwrap();
    assert!(produced.status().is_success(), "{}", produced.text().unwrap());
    let sql =
        http.post(url("/v1/sql")).header(ACCEPT, "text/csv").json(&json!({"sql": "SELECT a, m FROM t ORDER BY a"}));
    assert_eq!(sql.send().unwrap().text().unwrap(), "a,m\n1,first\n2,second\n");
    let found = http.post(url("/v1/search")).json(&json!({"topic": "t", "query": "second"})).send().unwrap();
    let found: Value = found.json().unwrap();
    assert!(found.to_string().contains("second") && !found.to_string().contains("first"), "{found}");
    let metrics = http.get(url("/metrics")).send().unwrap().text().unwrap();
    assert!(metrics.contains("stratalog") && metrics.ends_with("# EOF\n"), "{metrics}");
    node.stop();
}

#[test]
fn errors_over_http_have_a_status_a_code_and_a_sentence() {
    let data = data_dir();
    let node = Node::start(data.path());
    let http = client();
    let cases = [
        ("/v1/sql", json!({"sql": "SELEC 1"}), 400, "INVALID_SQL"),
        ("/v1/sql", json!({"slq": "SELECT 1"}), 400, "INVALID_REQUEST"),
        ("/v1/search", json!({"topic": "nosuch", "query": "a"}), 404, "UNKNOWN_TOPIC"),
        ("/v1/topics", json!({"name": "../x"}), 400, "INVALID_TOPIC_NAME"),
    ];
    for (path, body, status, code) in cases {
        let answer = http.post(format!("{}{path}", node.http)).json(&body).send().unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path} {body}");
        let error: Value = answer.json().unwrap();
        assert_eq!(error["error"]["code"], code, "{error}");
        assert!(error["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{error}");
    }
    node.stop();
}
