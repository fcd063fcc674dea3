//! Three nodes in one process, in three zones, each with a Kafka listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse};
use stratalog_broker::{Broker, BrokerOptions, ClusterOptions, ReplicaRole};
use stratalog_gateway::{Gateway, GatewayOptions, Kafka, KafkaOptions};
use stratalog_proto::config::TopicConfig;
use stratalog_proto::{NodeId, ShardId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::log::name;

/// How long a cluster may take for whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const ZONES: [&str; 3] = ["a", "b", "c"];

/// Node n + 1 is the one at place n.
pub(in crate::kafka) struct Three {
    pub(in crate::kafka) brokers: Vec<Arc<Broker>>,
    pub(in crate::kafka) kafka: Vec<SocketAddr>,
    stop: CancellationToken,
    listeners: Vec<JoinHandle<std::io::Result<()>>>,
    _dirs: [TempDir; 3],
}

/// Waits until something is so.
pub(in crate::kafka) async fn until<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(why) => assert!(Instant::now() < deadline, "{what}: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Three {
    /// With a topic `events` of one partition, of which each node has a voter.
    pub(in crate::kafka) async fn start() -> Self {
        Self::start_with(|_, _| ()).await
    }

    /// With settings for the node at each place.
    pub(in crate::kafka) async fn start_with(set: impl Fn(usize, &mut BrokerOptions)) -> Self {
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let (stop, mut brokers, mut kafka, mut listeners) = (CancellationToken::new(), Vec::new(), vec![], vec![]);
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let first = free();
        for (place, (dir, zone)) in dirs.iter().zip(ZONES).enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let cluster = ClusterOptions {
                listen: Some(if place == 0 { first.clone() } else { free() }),
                join: if place == 0 { Vec::new() } else { vec![first.clone()] },
                kafka_address: address.to_string(),
                zone: zone.to_owned(),
                replication: 3,
                ..ClusterOptions::default()
            };
            let mut options = BrokerOptions { cluster, shards: 1, ..BrokerOptions::new(dir.path()) };
            options.lane.file_bytes = 16 << 20;
            set(place, &mut options);
            let broker = Broker::start(options).await.unwrap();
            let gateway = Gateway::new(Arc::clone(&broker), GatewayOptions::default());
            let shutdown = stop.clone().cancelled_owned();
            listeners.push(tokio::spawn(Kafka::new(gateway, KafkaOptions::default()).serve(None, listener, shutdown)));
            brokers.push(broker);
            kafka.push(address);
        }
        let three = Self { brokers, kafka, stop, listeners, _dirs: dirs };
        until("three voters of each shard", || three.has_voters()).await;
        three.brokers[0].create_topic("events", 1, TopicConfig::default()).await.unwrap();
        three
    }

    async fn has_voters(&self) -> Result<(), String> {
        let status = self.brokers[0].cluster_status().await.map_err(|error| error.to_string())?;
        let is_settled = status.shards.len() == 2
            && status.shards.iter().all(|shard| {
                let votes = shard.replicas.iter().filter(|replica| replica.role == ReplicaRole::Voter);
                votes.count() == 3 && shard.leader.is_some()
            });
        if is_settled { Ok(()) } else { Err(format!("{status:#?}")) }
    }

    pub(in crate::kafka) async fn client(&self, place: usize) -> Client {
        Client::connect(self.kafka[place]).await
    }

    pub(in crate::kafka) async fn metadata(&self, place: usize) -> MetadataResponse {
        let topic = MetadataRequestTopic::default().with_name(Some(name("events")));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        self.client(place).await.ask(ApiKey::Metadata, 12, &request).await
    }

    /// Who leads the partition, by place, and in which epoch, once all nodes say the same.
    pub(in crate::kafka) async fn lead(&self) -> (usize, i32) {
        until("all nodes tell the same leader and epoch", || async {
            let mut told = Vec::new();
            for place in 0..3 {
                let partition = self.metadata(place).await.topics[0].partitions[0].clone();
                told.push((partition.leader_id.0, partition.leader_epoch));
            }
            let same = told.iter().all(|of| *of == told[0]) && told[0].1 > 0;
            if same { Ok((told[0].0 as usize - 1, told[0].1)) } else { Err(format!("{told:?}")) }
        })
        .await
    }

    /// Has the node at another place lead.
    pub(in crate::kafka) async fn transfer(&self, to: usize) {
        let node = NodeId(to as u64 + 1);
        until("the leadership is handed over", || async {
            let moved = self.brokers[to].transfer_leader(ShardId(1), Some(node)).await;
            moved.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// As if the node at a place had failed, as far as the others can tell.
    pub(in crate::kafka) async fn stop_broker(&self, place: usize) {
        self.brokers[place].stop().await;
    }

    pub(in crate::kafka) async fn stop(self) {
        self.stop.cancel();
        for listener in self.listeners {
            listener.await.unwrap().unwrap();
        }
        futures::future::join_all(self.brokers.iter().map(|broker| broker.stop())).await;
    }
}
