//! One node for one test: a broker in a temporary directory behind both listeners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use stratalog_broker::{Broker, BrokerOptions, ClusterOptions};
use stratalog_gateway::{Gateway, GatewayOptions, Kafka, KafkaOptions, serve_grpc, serve_http};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// The limit of bodies in tests.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;

pub(crate) struct Node {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) kafka: SocketAddr,
    /// The listener of this name for Kafka clients.
    pub(crate) outside: SocketAddr,
    pub(crate) client: Client,
    broker: Arc<Broker>,
    stop: CancellationToken,
    listeners: Vec<JoinHandle<std::io::Result<()>>>,
    _dir: tempfile::TempDir,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with_kafka(KafkaOptions::default()).await
    }

    pub(crate) async fn with_kafka(of_kafka: KafkaOptions) -> Self {
        Self::told_of(of_kafka, |_| ()).await
    }

    /// One whose clients are told what `tell` says of where it is.
    pub(crate) async fn told_of(of_kafka: KafkaOptions, tell: impl FnOnce(&mut ClusterOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = BrokerOptions::new(dir.path());
        options.lane.file_bytes = 32 << 20;
        options.groups.initial_rebalance_delay = Duration::from_millis(50);
        tell(&mut options.cluster);
        let broker = Broker::start(options).await.unwrap();
        let options = GatewayOptions {
            max_body_bytes: MAX_BODY_BYTES,
            read_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(5),
            ..GatewayOptions::default()
        };
        let gateway = Gateway::new(broker.clone(), options);
        let (http, grpc, kafka, outside) = (bind().await, bind().await, bind().await, bind().await);
        let [http_addr, grpc_addr, kafka_addr, outside_addr] =
            [&http, &grpc, &kafka, &outside].map(|bound| bound.local_addr().unwrap());
        let stop = CancellationToken::new();
        let of_kafka = Kafka::new(gateway.clone(), of_kafka);
        let listeners = vec![
            tokio::spawn(serve_http(gateway.clone(), http, stop.clone().cancelled_owned())),
            tokio::spawn(serve_grpc(gateway, grpc, stop.clone().cancelled_owned())),
            tokio::spawn(of_kafka.clone().serve(None, kafka, stop.clone().cancelled_owned())),
            tokio::spawn(of_kafka.serve(Some("outside".to_owned()), outside, stop.clone().cancelled_owned())),
        ];
        let client = Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self {
            http: http_addr,
            grpc: grpc_addr,
            kafka: kafka_addr,
            outside: outside_addr,
            client,
            broker,
            stop,
            listeners,
            _dir: dir,
        }
    }

    /// A node with one topic of two partitions.
    pub(crate) async fn with_topic(name: &str) -> Self {
        let node = Self::start().await;
        let created = node.post("/v1/topics").json(&json!({"name": name, "partitions": 2})).send().await.unwrap();
        assert_eq!(created.status(), 201, "{}", created.text().await.unwrap());
        node
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.http))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.grpc)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Posts lines to a topic; the summary.
    pub(crate) async fn produce(&self, topic: &str, lines: String) -> Value {
        let path = format!("/v1/topics/{topic}/records");
        let request = self.post(&path).header("content-type", "application/x-ndjson").body(lines);
        json_of(request.send().await.unwrap(), 200).await
    }

    /// Runs a statement that sees what `summary` acknowledged.
    pub(crate) async fn sql(&self, sql: &str, summary: &Value) -> Value {
        let body = json!({"sql": sql, "tokens": summary["tokens"]});
        json_of(self.post("/v1/sql").json(&body).send().await.unwrap(), 200).await
    }

    /// The value of a metric of the node, by its name and labels as they are written.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().unwrap())
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for listener in self.listeners {
            listener.await.unwrap().unwrap();
        }
        self.broker.stop().await;
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// The JSON body of an answer that has to have this status.
pub(crate) async fn json_of(response: Response, status: u16) -> Value {
    let found = response.status().as_u16();
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Asserts an error answer: status, code, and a part of its message.
pub(crate) async fn assert_error(response: Response, status: u16, code: &str, part: &str) {
    let body = json_of(response, status).await;
    assert_eq!(body["error"]["code"], code, "{body}");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains(part), "`{part}` is not in: {message}");
    assert!(body["error"]["retriable"].is_boolean(), "{body}");
}
