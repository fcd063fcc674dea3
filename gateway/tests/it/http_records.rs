use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::node::{Node, assert_error, json_of};

const RECORDS: &str = "/v1/topics/events/records";

#[tokio::test]
async fn json_bodies_become_records_and_come_back() {
    let node = Node::with_topic("events").await;
    let one = node.post(&format!("{RECORDS}?partition=1")).json(&json!({"a": 1}));
    let summary = json_of(one.send().await.unwrap(), 200).await;
    assert_eq!((&summary["accepted"], &summary["rejected"]), (&json!(1), &json!(0)));
    assert_eq!(summary["batches"], json!([{"partition": 1, "base_offset": 0, "records": 1}]));
    let many = node
        .post(&format!("{RECORDS}?partition=1&key=k&timestamp_ms=1700000000123"))
        .header("content-type", "application/json")
        .body("[{\"a\" :\n 2}, 3]");
    json_of(many.send().await.unwrap(), 200).await;

    let page = json_of(node.get(&format!("{RECORDS}?partition=1&offset=1&limit=1")).send().await.unwrap(), 200).await;
    assert_eq!((&page["high_watermark"], &page["next_offset"], &page["log_start"]), (&json!(3), &json!(2), &json!(0)));
    let expected = json!([{
        "partition": 1, "offset": 1, "timestamp": "2023-11-14T22:13:20.123Z", "key": "k",
        "encoding": "json", "value": {"a": 2}, "headers": [],
    }]);
    assert_eq!(page["records"], expected);

    let lines =
        node.get(&format!("{RECORDS}?partition=1")).header("accept", "application/x-ndjson").send().await.unwrap();
    assert_eq!(lines.headers()["stratalog-next-offset"], "3");
    assert_eq!(lines.text().await.unwrap().lines().count(), 3);
    node.stop().await;
}

#[tokio::test]
async fn lines_that_are_not_json_are_taken_and_become_dead_letters() {
    let node = Node::with_topic("events").await;
    let summary = node.produce("events", "{\"a\":1}\n\nnot json\r\n{\"a\":2}".into()).await;
    assert_eq!(summary["accepted"], 3);
    let rows = node.sql("SELECT _raw, _dead IS NOT NULL AS dead FROM events ORDER BY _raw", &summary).await;
    let expected = json!([
        {"_raw": "not json", "dead": true}, {"_raw": "{\"a\":1}", "dead": false}, {"_raw": "{\"a\":2}", "dead": false},
    ]);
    assert_eq!(rows["rows"], expected);
    node.stop().await;
}

#[tokio::test]
async fn records_of_one_key_stay_together_in_order() {
    let node = Node::with_topic("events").await;
    let lines: String = (0..200).map(|n| format!("{{\"user\":{{\"id\":\"u{}\"}},\"n\":{n}}}\n", n % 7)).collect();
    let request = node.post(&format!("{RECORDS}?key_field=user.id")).header("content-type", "text/plain").body(lines);
    assert_eq!(json_of(request.send().await.unwrap(), 200).await["accepted"], 200);
    let mut seen: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for partition in 0..2 {
        let page = json_of(
            node.get(&format!("{RECORDS}?partition={partition}&limit=1000&from_follower=true")).send().await.unwrap(),
            200,
        )
        .await;
        for record in page["records"].as_array().unwrap() {
            let (key, n) = (record["key"].as_str().unwrap(), record["value"]["n"].as_u64().unwrap());
            if let Some((at, last)) = seen.insert(key.to_owned(), (partition, n)) {
                assert!(at == partition && last < n, "{key}");
            }
        }
    }
    assert_eq!(seen.len(), 7);
    node.stop().await;
}

#[tokio::test]
async fn gzip_bodies_are_read() {
    let node = Node::with_topic("events").await;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all("{\"a\":1}\n".repeat(1_000).as_bytes()).unwrap();
    let request = node.post(RECORDS).header("content-type", "application/x-ndjson").header("content-encoding", "gzip");
    let summary = json_of(request.body(gzip.finish().unwrap()).send().await.unwrap(), 200).await;
    assert_eq!(summary["accepted"], 1_000);
    node.stop().await;
}

#[tokio::test]
async fn record_over_the_limit_is_rejected_alone() {
    let node = Node::start().await;
    let topic = json!({"name": "events", "partitions": 1, "config": {"max.message.bytes": 1024}});
    json_of(node.post("/v1/topics").json(&topic).send().await.unwrap(), 201).await;
    let big = format!("{{\"a\":\"{}\"}}", "x".repeat(2_000));
    let request = node.post(RECORDS).header("content-type", "application/x-ndjson").body(format!("{{}}\n{big}\n{{}}"));
    let summary = json_of(request.send().await.unwrap(), 207).await;
    assert_eq!((&summary["accepted"], &summary["rejected"]), (&json!(2), &json!(1)));
    assert_eq!(
        (&summary["errors"][0]["record"], &summary["errors"][0]["code"]),
        (&json!(1), &json!("MESSAGE_TOO_LARGE"))
    );
    let alone = node.post(RECORDS).header("content-type", "application/x-ndjson").body(big);
    assert_error(alone.send().await.unwrap(), 413, "MESSAGE_TOO_LARGE", "max.message.bytes").await;
    node.stop().await;
}

#[tokio::test]
async fn reader_waits_for_records_to_come() {
    let node = Node::with_topic("events").await;
    let waiting = node.get(&format!("{RECORDS}?partition=0&offset=0&wait_ms=20000")).send();
    let produce = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        node.post(&format!("{RECORDS}?partition=0")).json(&json!({"late": true})).send().await.unwrap()
    };
    let (page, _) = tokio::join!(waiting, produce);
    let page: Value = json_of(page.unwrap(), 200).await;
    assert_eq!(page["records"][0]["value"]["late"], true);
    let empty = json_of(node.get(&format!("{RECORDS}?partition=0&offset=latest")).send().await.unwrap(), 200).await;
    assert_eq!((&empty["records"], &empty["next_offset"]), (&json!([]), &json!(1)));
    node.stop().await;
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let node = Node::with_topic("events").await;
    for ms in [1_000_u64, 2_000, 3_000] {
        let path = format!("{RECORDS}?partition=0&timestamp_ms={ms}");
        json_of(node.post(&path).json(&json!({"ms": ms})).send().await.unwrap(), 200).await;
    }
    for (at, offset) in [("earliest", 0), ("latest", 3), ("1970-01-01T00:00:02Z", 1), ("2500000000", 2)] {
        let offsets = json_of(node.get(&format!("/v1/topics/events/offsets?at={at}")).send().await.unwrap(), 200).await;
        assert_eq!(offsets["offsets"][0], json!({"partition": 0, "offset": offset}), "{at}");
    }
    node.stop().await;
}

#[tokio::test]
async fn reads_that_cannot_be_are_refused() {
    let node = Node::with_topic("events").await;
    let cases = [
        ("", 400, "INVALID_REQUEST", "?partition=0 to 1"),
        ("?partition=2", 404, "UNKNOWN_PARTITION", "2"),
        ("?partition=0&offset=5", 416, "OFFSET_OUT_OF_RANGE", "5"),
        ("?partition=0&offset=-1", 400, "INVALID_REQUEST", "-1"),
        ("?partition=0&limit=0", 400, "INVALID_REQUEST", "limit"),
        ("?partition=0&limit=x", 400, "INVALID_REQUEST", "limit"),
        ("?partition=0&wait_ms=60000", 400, "INVALID_REQUEST", "wait_ms"),
        ("?partition=0&ofset=1", 400, "INVALID_REQUEST", "did you mean `offset`?"),
    ];
    for (query, status, code, part) in cases {
        assert_error(node.get(&format!("{RECORDS}{query}")).send().await.unwrap(), status, code, part).await;
    }
    node.stop().await;
}
