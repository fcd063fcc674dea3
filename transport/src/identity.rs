//! Who a node is, and where others are.

use std::collections::BTreeMap;

use stratalog_proto::NodeId;
use uuid::Uuid;

/// What a node says of itself when a connection is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `None`: it belongs to no cluster yet. Such a node is only answered calls of [`Method::is_open`](crate::Method::is_open).
    pub cluster: Option<Uuid>,
    /// 0 while it belongs to no cluster.
    pub node: NodeId,
    /// New with each new data directory.
    pub incarnation: Uuid,
    /// Of the binary.
    pub version: String,
    /// The highest feature level that it knows.
    pub feature_level: u32,
    /// Where the other nodes reach it, host:port.
    pub peer_address: String,
    /// Where clients reach it, host:port.
    pub grpc_address: String,
    /// Where clients reach it, host:port.
    pub http_address: String,
    /// Where Kafka clients reach it, host:port; empty: nowhere.
    pub kafka_address: String,
    /// Where they reach its further listeners, host:port each, by their names.
    pub kafka_listeners: BTreeMap<String, String>,
    /// Empty: none.
    pub zone: String,
}

/// Where nodes are. Read whenever a connection is made.
pub trait AddressBook: Send + Sync + 'static {
    /// host:port of a node's listener for other nodes; `None` for a node that is not known.
    fn address(&self, node: NodeId) -> Option<String>;

    /// The incarnation that the node has to have, as far as it is known.
    fn incarnation(&self, node: NodeId) -> Option<Uuid>;

    /// Whether the node was taken out of the cluster. One that is not known may just have joined.
    fn is_removed(&self, node: NodeId) -> bool;
}
