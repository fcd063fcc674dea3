use reqwest::Method;
use serde_json::json;

use crate::node::{Node, assert_error, json_of};

#[tokio::test]
async fn topics_are_created_described_altered_and_deleted() {
    let node = Node::start().await;
    let body = json!({"name": "logs", "partitions": 3, "config": {"time.field": "ts", "bucket": "15m", "max.message.bytes": 4096}});
    let created = json_of(node.post("/v1/topics").json(&body).send().await.unwrap(), 201).await;
    let config =
        json!({"format": "json", "time.field": "ts", "bucket": "15m", "retention": null, "max.message.bytes": 4096});
    assert_eq!(created["config"], config);

    let path = "/v1/topics/logs";
    let altered = node.request(Method::PATCH, path).json(&json!({"config": {"retention": "7d"}}));
    assert_eq!(json_of(altered.send().await.unwrap(), 200).await["config"]["retention"], "7d");
    let described = json_of(node.get(path).send().await.unwrap(), 200).await;
    assert_eq!(described["partitions"], 3);
    assert_eq!(described["config"]["retention"], "7d");
    assert_eq!(described["partition_details"][2]["high_watermark"], 0);
    let listed = json_of(node.get("/v1/topics").send().await.unwrap(), 200).await;
    assert_eq!(listed["topics"][0]["id"], created["id"]);

    assert_error(node.post("/v1/topics").json(&body).send().await.unwrap(), 409, "TOPIC_EXISTS", "logs").await;
    assert_eq!(node.request(Method::DELETE, path).send().await.unwrap().status(), 204);
    assert_error(node.get(path).send().await.unwrap(), 404, "UNKNOWN_TOPIC", "logs").await;
    node.stop().await;
}

#[tokio::test]
async fn topics_that_cannot_be_are_refused() {
    let node = Node::with_topic("events").await;
    let cases = [
        (json!({"name": "../x"}), 400, "INVALID_TOPIC_NAME", "../x"),
        (json!({"name": ""}), 400, "INVALID_TOPIC_NAME", "1 to 249"),
        (json!({"name": "a\u{0}b"}), 400, "INVALID_TOPIC_NAME", "\\u{0}"),
        (json!({"name": "a", "config": {"bukcet": "1h"}}), 400, "INVALID_CONFIG", "bukcet"),
        (json!({"name": "a", "config": {"bucket": "1 fortnight"}}), 400, "INVALID_CONFIG", "bucket"),
        (json!({"name": "a", "config": {"format": "avro"}}), 501, "NOT_BUILT", "avro"),
        (json!({"name": "a", "partition": 4}), 400, "INVALID_REQUEST", "did you mean `partitions`?"),
        (json!({"partitions": 4}), 400, "INVALID_REQUEST", "name"),
    ];
    for (body, status, code, part) in cases {
        assert_error(node.post("/v1/topics").json(&body).send().await.unwrap(), status, code, part).await;
    }
    assert_error(node.get("/v1/topics/event").send().await.unwrap(), 404, "UNKNOWN_TOPIC", "events").await;
    assert_error(node.get("/v1/topics/..%2Fx").send().await.unwrap(), 400, "INVALID_TOPIC_NAME", "../x").await;
    node.stop().await;
}

#[tokio::test]
async fn old_segments_are_listed_and_dropped() {
    let node = Node::start().await;
    let body = json!({"name": "logs", "partitions": 2, "config": {"time.field": "ts"}});
    json_of(node.post("/v1/topics").json(&body).send().await.unwrap(), 201).await;
    let lines: String = (0..40).map(|n| format!("{{\"ts\":\"2026-01-01T0{}:00:01Z\",\"n\":{n}}}\n", n % 4)).collect();
    let summary = node.produce("logs", lines).await;
    let path = "/v1/topics/logs/retention/drop";
    let before = json!({"before": "2026-01-01T02:00:00Z", "dry_run": false});
    let dropped = json_of(node.post(path).json(&before).send().await.unwrap(), 200).await;
    assert_eq!(dropped["rows"], 20, "{dropped}");
    assert_eq!(dropped["dropped"][0]["bucket_end"].as_str().unwrap().len(), "2026-01-01T02:00:00Z".len());
    let count = node.sql("SELECT count(*) AS n FROM logs", &summary).await;
    assert_eq!(count["rows"], json!([{"n": 20}]));

    let segments = json_of(node.get("/v1/topics/logs/segments").send().await.unwrap(), 200).await;
    let segments = segments["segments"].as_array().unwrap();
    assert_eq!(segments.iter().map(|segment| segment["rows"].as_u64().unwrap()).sum::<u64>(), 20);
    assert!(segments.iter().all(|segment| segment["kind"] == "col" && segment["offsets"][0]["next"].is_u64()));

    let bad = json!({"before": "yesterday"});
    assert_error(node.post(path).json(&bad).send().await.unwrap(), 400, "INVALID_REQUEST", "is not a time").await;
    node.stop().await;
}
