//! A node that belongs to no cluster yet, and what becomes of its connections once it does.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use stratalog_broker::{Broker, BrokerOptions};
use stratalog_gateway::{Gateway, GatewayOptions, Waiting, serve_grpc, serve_http};
use stratalog_proto::v1::cluster_client::ClusterClient;
use stratalog_proto::v1::topics_client::TopicsClient;
use stratalog_proto::v1::{GetClusterRequest, InitClusterRequest, ListTopicsRequest};
use stratalog_proto::{Code, Error};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::node::{assert_error, json_of};

/// Waits for its cluster until it is told to begin one.
#[derive(Default)]
struct Told {
    begun: Notify,
    asked: Mutex<Vec<(u32, u32)>>,
}

#[tonic::async_trait]
impl Waiting for Told {
    async fn init(&self, shards: u32, replication: u32, _alone: bool) -> Result<(), Error> {
        self.asked.lock().push((shards, replication));
        if shards > 256 {
            return Err(Error::new(Code::InvalidConfig, "too many shards"));
        }
        self.begun.notify_one();
        Ok(())
    }

    fn waits_for(&self) -> String {
        "nobody answers at 10.0.0.9:7071".to_owned()
    }
}

struct WaitingNode {
    told: Arc<Told>,
    gateway: Gateway,
    http: String,
    channel: Channel,
    stop: CancellationToken,
}

impl WaitingNode {
    async fn start() -> Self {
        let told = Arc::new(Told::default());
        let gateway = Gateway::waiting(told.clone(), GatewayOptions::default());
        let (http, grpc) = (bind().await, bind().await);
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (http_address, grpc_address) = (address(&http), address(&grpc));
        let stop = CancellationToken::new();
        tokio::spawn(serve_http(gateway.clone(), http, stop.clone().cancelled_owned()));
        tokio::spawn(serve_grpc(gateway.clone(), grpc, stop.clone().cancelled_owned()));
        let channel = Channel::from_shared(grpc_address).unwrap().connect().await.unwrap();
        Self { told, gateway, http: http_address, channel, stop }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        reqwest::get(format!("{}{path}", self.http)).await.unwrap()
    }
}

impl Drop for WaitingNode {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn a_node_without_a_cluster_says_so_and_refuses_the_rest() {
    let node = WaitingNode::start().await;
    assert_eq!(json_of(node.get("/healthz").await, 200).await, json!({"status": "ok"}));
    let cluster = json_of(node.get("/v1/cluster").await, 200).await;
    assert_eq!((&cluster["cluster"], &cluster["nodes"]), (&json!(null), &json!([])));
    assert!(cluster["warnings"][0].as_str().unwrap().contains("10.0.0.9:7071"), "{cluster}");
    for path in ["/readyz", "/v1/topics", "/metrics"] {
        assert_error(node.get(path).await, 503, "NOT_FORMED", "stratalog cluster init").await;
    }
    let refused = TopicsClient::new(node.channel.clone()).list_topics(ListTopicsRequest {}).await.unwrap_err();
    let refused = Error::from(refused);
    assert_eq!(refused.code, Code::NotFormed);
    assert!(refused.message.contains("10.0.0.9:7071"), "{}", refused.message);
    let status = ClusterClient::new(node.channel.clone()).get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
    assert_eq!((status.cluster.as_str(), status.warnings.len()), ("", 1));
}

#[tokio::test]
async fn a_cluster_that_cannot_begin_is_refused() {
    let node = WaitingNode::start().await;
    let request = InitClusterRequest { shards: 257, ..InitClusterRequest::default() };
    let refused = ClusterClient::new(node.channel.clone()).init_cluster(request).await.unwrap_err();
    assert_eq!(Error::from(refused).code, Code::InvalidConfig);
}

#[tokio::test]
async fn connections_from_before_go_on_once_there_is_a_broker() {
    let node = WaitingNode::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut options = BrokerOptions::new(dir.path());
    options.lane.file_bytes = 32 << 20;
    let mut cluster = ClusterClient::new(node.channel.clone());
    let begin = cluster.init_cluster(InitClusterRequest { shards: 2, replication: 3, alone: false });
    let open = async {
        node.told.begun.notified().await;
        let broker = Broker::start(options).await.unwrap();
        node.gateway.open(broker.clone());
        broker
    };
    let (begun, broker) = tokio::join!(begin, open);
    begun.unwrap();
    assert_eq!(*node.told.asked.lock(), [(2, 3)]);
    let topics = TopicsClient::new(node.channel.clone()).list_topics(ListTopicsRequest {}).await.unwrap();
    assert!(topics.into_inner().topics.is_empty());
    assert_eq!(json_of(node.get("/v1/topics").await, 200).await, json!({"topics": []}));
    let twice = cluster.init_cluster(InitClusterRequest::default()).await.unwrap_err();
    assert_eq!(Error::from(twice).code, Code::WrongCluster);
    broker.stop().await;
}
