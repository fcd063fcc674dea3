use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node::{MAX_BODY_BYTES, Node, assert_error, json_of};

const RECORDS: &str = "/v1/topics/events/records";

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let node = Node::with_topic("events").await;
    let post = |path: &str, kind: &'static str, body: &'static str| {
        node.post(path).header("content-type", kind).body(body).send()
    };
    let cases = [
        (RECORDS, "application/json", "{\"a\":", 400, "INVALID_REQUEST", "line 1"),
        (RECORDS, "application/json", "17", 400, "INVALID_REQUEST", "object or an array"),
        (RECORDS, "application/json", "", 400, "INVALID_REQUEST", "object or an array"),
        (RECORDS, "application/x-www-form-urlencoded", "a=1", 415, "INVALID_REQUEST", "curl -d"),
        (RECORDS, "image/png", "x", 415, "INVALID_REQUEST", "application/x-ndjson"),
        ("/v1/sql", "application/xml", "x", 415, "INVALID_REQUEST", "text/plain"),
        ("/v1/sql", "application/json", "not json", 400, "INVALID_REQUEST", "line 1"),
        ("/v1/topics", "text/plain", "x", 415, "INVALID_REQUEST", "application/json"),
        ("/v1/topics/nope/records", "application/json", "{}", 404, "UNKNOWN_TOPIC", "nope"),
        ("/v1/topics/..%2Fx/records", "application/json", "{}", 400, "INVALID_TOPIC_NAME", "../x"),
        ("/v1/topics/a%00b/records", "application/json", "{}", 400, "INVALID_TOPIC_NAME", "\\u{0}"),
        ("/v1/topics/%ff/records", "application/json", "{}", 400, "INVALID_REQUEST", ""),
        ("/v1/topics/events/records?partition=9", "application/json", "{}", 404, "UNKNOWN_PARTITION", "9"),
        ("/v1/topics/events/records?key=a&key_field=b", "application/json", "{}", 400, "INVALID_REQUEST", "key_field"),
        (
            "/v1/topics/events/records?keyfield=b",
            "application/json",
            "{}",
            400,
            "INVALID_REQUEST",
            "did you mean `key_field`?",
        ),
    ];
    for (path, kind, body, status, code, part) in cases {
        assert_error(post(path, kind, body).await.unwrap(), status, code, part).await;
    }
    let described = json_of(node.get("/v1/topics/events").send().await.unwrap(), 200).await;
    assert!(
        described["partition_details"].as_array().unwrap().iter().all(|partition| partition["high_watermark"] == 0)
    );
    node.stop().await;
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_json_errors() {
    let node = Node::start().await;
    assert_error(node.get("/v2/x").send().await.unwrap(), 404, "INVALID_REQUEST", "/v2/x").await;
    let put = node.request(Method::PUT, "/v1/topics").send().await.unwrap();
    assert!(put.headers().contains_key("allow"));
    assert_error(put, 405, "INVALID_REQUEST", "PUT").await;
    assert_error(node.get("/v1/sql").send().await.unwrap(), 405, "INVALID_REQUEST", "GET").await;
    let page = node.get("/v1/topics").header("origin", "http://evil.example").send().await.unwrap();
    assert_error(page, 403, "INVALID_REQUEST", "origin").await;
    node.stop().await;
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let node = Node::with_topic("events").await;
    let large = node.post(RECORDS).header("content-type", "text/plain").body(vec![b'x'; MAX_BODY_BYTES + 1]);
    assert_error(large.send().await.unwrap(), 413, "INVALID_REQUEST", "1048576").await;

    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..200 {
        bomb.write_all(&[b'\n'; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < MAX_BODY_BYTES);
    let request = node.post(RECORDS).header("content-type", "text/plain").header("content-encoding", "gzip");
    assert_error(request.body(bomb).send().await.unwrap(), 413, "INVALID_REQUEST", "after decompression").await;
    node.stop().await;
}

#[tokio::test]
async fn encodings_that_lie_are_refused() {
    let node = Node::with_topic("events").await;
    let request = |encoding: &'static str| {
        node.post(RECORDS)
            .header("content-type", "text/plain")
            .header("content-encoding", encoding)
            .body("plain text")
            .send()
    };
    assert_error(request("gzip").await.unwrap(), 400, "INVALID_REQUEST", "gzip").await;
    assert_error(request("br").await.unwrap(), 415, "INVALID_REQUEST", "send gzip").await;
    node.stop().await;
}

/// Sends bytes as they are; what comes back until the node closes.
async fn raw(node: &Node, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is still open");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn lengths_that_lie_do_not_hang_or_crash() {
    let node = Node::with_topic("events").await;
    let head = format!("POST {RECORDS} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n");
    let short = raw(&node, format!("{head}content-length: 1000\r\n\r\nabc").as_bytes()).await;
    assert!(short.starts_with("HTTP/1.1 408"), "{short}");
    for length in ["-1", "99999999999999999999", "2147483647x"] {
        let answer = raw(&node, format!("{head}content-length: {length}\r\n\r\nabc").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let chunk = raw(&node, format!("{head}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nabc").as_bytes()).await;
    assert!(chunk.starts_with("HTTP/1.1 4"), "{chunk}");
    assert!(raw(&node, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.starts_with("HTTP/1.1 400"));
    // A head that never ends.
    raw(&node, b"GET / HTTP/1.1\r\nhost:").await;
    json_of(node.get("/healthz").send().await.unwrap(), 200).await;
    node.stop().await;
}

#[tokio::test]
async fn http_on_the_grpc_port_closes_the_connection() {
    let node = Node::start().await;
    let mut stream = TcpStream::connect(node.grpc).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is still open");
    node.stop().await;
}

#[tokio::test]
async fn deep_json_is_one_record() {
    let node = Node::with_topic("events").await;
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let summary = node.produce("events", deep).await;
    assert_eq!(node.sql("SELECT count(*) AS n FROM events", &summary).await["rows"], json!([{"n": 1}]));
    node.stop().await;
}
