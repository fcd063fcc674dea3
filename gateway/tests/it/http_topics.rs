use reqwest::Method;
use serde_json::json;

use crate::node::{Node, assert_error, json_of};

#[tokio::test]
async fn topics_are_created_described_altered_and_deleted() {
    let node = Node::start().await;
    let body = json!({"name": "logs", "partitions": 3, "config": {"time.field": "ts", "bucket": "15m", "max.message.bytes": 4096}});
    let created = json_of(node.post("/v1/topics").json(&body).send().await.unwrap(), 201).await;
    let config = json!({
        "format": "json", "time.field": "ts", "bucket": "15m", "retention": null, "retention.bytes": null,
        "max.message.bytes": 4096, "pattern": null, "multiline": null, "columns": null,
        "replication": null,
    });
    assert_eq!(created["config"], config);
    let again = json!({"name": "again", "config": config});
    let again = json_of(node.post("/v1/topics").json(&again).send().await.unwrap(), 201).await;
    assert_eq!(again["config"], config, "what is shown can be set");

    let path = "/v1/topics/logs";
    let altered = node.request(Method::PATCH, path).json(&json!({"config": {"retention": "7d"}}));
    assert_eq!(json_of(altered.send().await.unwrap(), 200).await["config"]["retention"], "7d");
    let described = json_of(node.get(path).send().await.unwrap(), 200).await;
    assert_eq!(described["partitions"], 3);
    assert_eq!(described["config"]["retention"], "7d");
    assert_eq!(described["partition_details"][2]["high_watermark"], 0);
    let listed = json_of(node.get("/v1/topics").send().await.unwrap(), 200).await;
    assert_eq!(listed["topics"][1]["id"], created["id"]);

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
        (json!({"name": "a", "config": {"pattern": "%{IP}"}}), 400, "INVALID_CONFIG", "format=text"),
        (json!({"name": "a", "config": {"columns": "a money"}}), 400, "INVALID_CONFIG", "money"),
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

    let dry_run = json!({"before": "2026-01-01T03:00:00Z", "dry_run": true});
    let told = json_of(node.post(path).json(&dry_run).send().await.unwrap(), 200).await;
    assert_eq!((&told["rows"], &told["tail_rows"], &told["dry_run"]), (&json!(10), &json!(0), &json!(true)));

    let bad = json!({"before": "yesterday"});
    assert_error(node.post(path).json(&bad).send().await.unwrap(), 400, "INVALID_REQUEST", "is not a time").await;
    node.stop().await;
}

#[tokio::test]
async fn retention_is_applied_and_records_are_deleted() {
    let node = Node::start().await;
    let config = json!({"time.field": "ts", "bucket": "1h", "retention.bytes": 1});
    let body = json!({"name": "logs", "partitions": 1, "config": config});
    json_of(node.post("/v1/topics").json(&body).send().await.unwrap(), 201).await;
    let lines: String = (0..3).map(|n| format!("{{\"ts\":\"2026-01-01T0{n}:00:01Z\"}}\n")).collect();
    let summary = node.produce("logs", lines).await;
    let apply = |dry_run: bool| node.post("/v1/topics/logs/retention/apply").json(&json!({"dry_run": dry_run})).send();
    assert_eq!(json_of(apply(false).await.unwrap(), 200).await["dropped"], json!([]), "nothing is sealed");
    let seal = json!({"before": "1970-01-01T00:00:00Z"});
    json_of(node.post("/v1/topics/logs/retention/drop").json(&seal).send().await.unwrap(), 200).await;
    let told = json_of(apply(true).await.unwrap(), 200).await;
    assert_eq!((&told["rows"], &told["log_starts"]), (&json!(2), &json!([{"partition": 0, "offset": 2}])));
    assert_eq!(json_of(apply(false).await.unwrap(), 200).await["dropped"], told["dropped"]);

    let delete = |offset: i64| {
        let before = json!({"before": [{"partition": 0, "offset": offset}]});
        node.post("/v1/topics/logs/records/delete").json(&before).send()
    };
    assert_error(delete(-2).await.unwrap(), 400, "INVALID_REQUEST", "-2").await;
    assert_error(delete(4).await.unwrap(), 416, "OFFSET_OUT_OF_RANGE", "it ends at 3").await;
    let deleted = json_of(delete(-1).await.unwrap(), 200).await;
    assert_eq!(deleted, json!({"log_starts": [{"partition": 0, "offset": 3}]}));
    assert_eq!(node.sql("SELECT count(*) AS n FROM logs", &summary).await["rows"], json!([{"n": 0}]));
    node.stop().await;
}
