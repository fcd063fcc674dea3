//! How a node takes part in a cluster.

use std::collections::BTreeMap;

use stratalog_proto::NodeId;
use stratalog_transport::TransportOptions;

/// Settings of a node among others. The default is a node that nobody can join, a cluster of one.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Where other nodes are listened to, host:port; port 0 is any free one. `None`: nowhere.
    pub listen: Option<String>,
    /// Where the other nodes reach that listener, host:port; empty: at the address that it is bound to.
    pub advertise: String,
    /// Where clients reach the gRPC listener, host:port; empty: nowhere.
    pub grpc_address: String,
    /// Where clients reach the HTTP listener, host:port; empty: nowhere.
    pub http_address: String,
    /// Where clients reach the Kafka listener, host:port; empty: nowhere.
    pub kafka_address: String,
    /// Where they reach its further listeners, host:port each, by their names.
    pub kafka_listeners: BTreeMap<String, String>,
    /// Nodes that are asked to be let into their cluster, host:port each, until one of them does. It counts for a
    /// directory that belongs to no cluster. Empty: such a directory begins a cluster of its own.
    pub join: Vec<String>,
    /// The id that a new node wants; 0: the next free one.
    pub node_id: NodeId,
    /// Replicas of a shard are spread over zones; empty: none.
    pub zone: String,
    /// Of a new cluster: voters of a shard, once there are as many nodes.
    pub replication: u32,
    /// Bytes of segments that are fetched from other replicas in a second, of all shards together, beside those that a leader
    /// waits for; 0: as fast as it goes.
    pub fetch_rate_bytes: u64,
    /// Connections to the other nodes.
    pub transport: TransportOptions,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            listen: None,
            advertise: String::new(),
            grpc_address: String::new(),
            http_address: String::new(),
            kafka_address: String::new(),
            kafka_listeners: BTreeMap::new(),
            join: Vec::new(),
            node_id: NodeId(0),
            zone: String::new(),
            replication: 3,
            fetch_rate_bytes: 256 << 20,
            transport: TransportOptions::default(),
        }
    }
}
