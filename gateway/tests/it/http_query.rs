use std::time::Duration;

use arrow::ipc::reader::StreamReader;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node::{Node, assert_error, json_of};

async fn node_with_rows() -> (Node, Value) {
    let node = Node::with_topic("events").await;
    let lines: String = (0..100)
        .map(|n| format!("{{\"n\":{n},\"level\":\"{}\",\"msg\":\"user-{n} logged in\"}}\n", ["info", "warn"][n % 2]))
        .collect();
    let summary = node.produce("events", lines).await;
    (node, summary)
}

#[tokio::test]
async fn sql_answers_in_each_media_type() {
    let (node, summary) = node_with_rows().await;
    let sql = "SELECT n, level, CASE WHEN n > 0 THEN n END AS some FROM events WHERE n < 2 ORDER BY n";
    let body = json!({"sql": sql, "tokens": summary["tokens"]});
    let document = json_of(node.post("/v1/sql").json(&body).send().await.unwrap(), 200).await;
    let columns = json!([
        {"name": "n", "type": "int64"}, {"name": "level", "type": "string"}, {"name": "some", "type": "int64"},
    ]);
    assert_eq!(document["columns"], columns);
    let rows = json!([{"n": 0, "level": "info", "some": null}, {"n": 1, "level": "warn", "some": 1}]);
    assert_eq!(document["rows"], rows);
    assert_eq!(document["stats"]["rows_returned"], 2);
    assert!(!document["stats"]["fences"].as_array().unwrap().is_empty());

    let answer = |accept| node.post("/v1/sql").json(&body).header("accept", accept).send();
    let ndjson = answer("application/x-ndjson").await.unwrap();
    assert_eq!(ndjson.headers()["content-type"], "application/x-ndjson");
    assert_eq!(
        ndjson.text().await.unwrap(),
        "{\"n\":0,\"level\":\"info\",\"some\":null}\n{\"n\":1,\"level\":\"warn\",\"some\":1}\n"
    );
    let csv = answer("text/csv").await.unwrap();
    assert_eq!(csv.text().await.unwrap(), "n,level,some\n0,info,\n1,warn,1\n");
    let arrow = answer("application/vnd.apache.arrow.stream").await.unwrap().bytes().await.unwrap();
    let batches: Vec<_> = StreamReader::try_new(&arrow[..], None).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    assert_error(answer("image/png").await.unwrap(), 406, "INVALID_REQUEST", "text/csv").await;
    node.stop().await;
}

#[tokio::test]
async fn sql_is_taken_as_text() {
    let (node, _) = node_with_rows().await;
    let request = node.post("/v1/sql?timeout_ms=5000").header("content-type", "text/plain").body("SELECT 1 AS one");
    assert_eq!(json_of(request.send().await.unwrap(), 200).await["rows"], json!([{"one": 1}]));
    node.stop().await;
}

#[tokio::test]
async fn stats_come_as_a_trailer() {
    let (node, _) = node_with_rows().await;
    let body = "SELECT 1 AS one";
    let request = format!(
        "POST /v1/sql HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: close\r\naccept: text/csv\r\n\
         content-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("one\n1\n"), "{answer}");
    assert!(answer.contains("stratalog-stats: {") && answer.contains("\"rows_returned\":1"), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn search_finds_words_within_times() {
    let (node, summary) = node_with_rows().await;
    let search = |body: Value| node.post("/v1/search").json(&body).send();
    let found = search(json!({"topic": "events", "query": "user-7", "tokens": summary["tokens"], "since": "1h"}));
    let found = json_of(found.await.unwrap(), 200).await;
    assert_eq!(found["rows"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["rows"][0]["n"], 7);
    assert!(found["rows"][0]["_time"].as_str().unwrap().ends_with('Z'));
    let limited = json!({"topic": "events", "query": "level:warn", "limit": 3, "tokens": summary["tokens"]});
    assert_eq!(json_of(search(limited).await.unwrap(), 200).await["rows"].as_array().unwrap().len(), 3);
    let past = json!({"topic": "events", "query": "user", "to": "2000-01-01"});
    assert_eq!(json_of(search(past).await.unwrap(), 200).await["rows"], json!([]));

    let cases = [
        (json!({"topic": "events", "query": "(a"}), 400, "INVALID_SEARCH", ""),
        (json!({"topic": "nope", "query": "a"}), 404, "UNKNOWN_TOPIC", "nope"),
        (json!({"topic": "../x", "query": "a"}), 400, "INVALID_TOPIC_NAME", "../x"),
        (json!({"topic": "events", "query": "a", "since": "1"}), 400, "INVALID_REQUEST", "since"),
        (json!({"topic": "events", "query": "a", "since": "1h", "from": 0}), 400, "INVALID_REQUEST", "since"),
        (json!({"topic": "events", "qery": "a"}), 400, "INVALID_REQUEST", "did you mean `query`?"),
    ];
    for (body, status, code, part) in cases {
        assert_error(search(body).await.unwrap(), status, code, part).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn bad_statements_are_refused_before_any_row() {
    let (node, _) = node_with_rows().await;
    let cases = [
        (json!({"sql": "SELEC 1"}), "INVALID_SQL", ""),
        (json!({"sql": "SELECT nope FROM events"}), "INVALID_SQL", "nope"),
        (json!({"sql": "INSERT INTO events VALUES (1)"}), "INVALID_SQL", ""),
        (json!({"sql": "SELECT 1", "timeout": 5}), "INVALID_REQUEST", "did you mean `timeout_ms`?"),
        (json!({"sql": "SELECT 1", "tokens": [{"shard": -1, "index": 0}]}), "INVALID_REQUEST", ""),
        (json!({}), "INVALID_REQUEST", "sql"),
    ];
    for (body, code, part) in cases {
        assert_error(node.post("/v1/sql").json(&body).send().await.unwrap(), 400, code, part).await;
    }
    node.stop().await;
}

/// A statement whose answer is far larger than what the sockets between us can hold.
const ENDLESS: &str = "SELECT a.msg, b.msg AS m FROM events a CROSS JOIN events b CROSS JOIN events c CROSS JOIN events d CROSS JOIN events e";

#[tokio::test]
async fn client_that_leaves_midstream_cancels_its_query() {
    let (node, summary) = node_with_rows().await;
    let body = json!({"sql": ENDLESS, "tokens": summary["tokens"]});
    let response = node.post("/v1/sql").json(&body).header("accept", "application/x-ndjson").send().await.unwrap();
    leave(&node, response).await;
    node.stop().await;
}

/// Reads a little, hangs up, and waits until the node says that it cancelled.
async fn leave(node: &Node, mut response: reqwest::Response) {
    assert_eq!(response.status(), 200);
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    for _ in 0..200 {
        if node.metric("stratalog_gateway_queries_cancelled_total").await >= 1.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the query still runs ten seconds after its client left");
}

#[tokio::test]
async fn answer_over_its_deadline_is_cut_off_not_short() {
    let (node, summary) = node_with_rows().await;
    let body = json!({"sql": ENDLESS, "timeout_ms": 700, "tokens": summary["tokens"]});
    let response = node.post("/v1/sql").json(&body).header("accept", "text/csv").send().await.unwrap();
    // Late enough for rows to have left, or so early that there is still a status to say it with.
    if response.status() == 200 {
        assert!(response.text().await.is_err(), "a part of an answer looked like the whole");
    } else {
        assert_error(response, 504, "QUERY_DEADLINE_EXCEEDED", "").await;
    }
    node.stop().await;
}
