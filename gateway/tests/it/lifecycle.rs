use std::time::Duration;

use serde_json::json;

use crate::node::{Node, json_of};

#[tokio::test]
async fn node_says_what_it_is_and_how_it_is() {
    let node = Node::start().await;
    let about = json_of(node.get("/").send().await.unwrap(), 200).await;
    assert_eq!(about["name"], "stratalog");
    assert_eq!(json_of(node.get("/healthz").send().await.unwrap(), 200).await, json!({"status": "ok"}));
    assert_eq!(json_of(node.get("/readyz").send().await.unwrap(), 200).await, json!({"status": "ready"}));
    let metrics = node.get("/metrics").send().await.unwrap();
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = metrics.text().await.unwrap();
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    let labels = "{method=\"GET\",route=\"/healthz\",status=\"200\"}";
    assert_eq!(node.metric(&format!("stratalog_gateway_http_requests_total{labels}")).await, 1.0);
    node.stop().await;
}

#[tokio::test]
async fn node_stops_though_clients_wait() {
    let node = Node::with_topic("events").await;
    let path = "/v1/topics/events/records?partition=0&offset=latest&wait_ms=30000";
    let waiting = tokio::spawn(node.get(path).send());
    let mut log = stratalog_proto::v1::log_client::LogClient::new(node.channel().await);
    let mut answers = log.produce(futures::stream::pending()).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_millis(200)).await;
    node.stop().await;
    assert_eq!(waiting.await.unwrap().unwrap().status(), 503);
    let ended = answers.message().await;
    assert_eq!(ended.unwrap_err().code(), tonic::Code::Unavailable);
}
