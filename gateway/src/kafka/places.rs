//! Where clients find nodes, and who they are told leads.

use std::collections::BTreeSet;

use kafka_protocol::messages::BrokerId;
use kafka_protocol::protocol::StrBytes;
use stratalog_broker::{KafkaNode, Layout};
use stratalog_proto::{NodeId, ShardId};

use super::connection::Client;
use super::{Node, epochs};

/// The cluster as a client is told of it.
pub(super) struct Places {
    layout: Layout,
    /// Ascending, and never none. Without those that are [away](stratalog_broker::Broker::absent_nodes): a client that is told of a new
    /// leader and of the node that led before waits for that one's answers, librdkafka for as long as `socket.timeout.ms`.
    pub(super) brokers: Vec<Place>,
    away: BTreeSet<BrokerId>,
}

/// Where a node is.
pub(super) struct Place {
    pub(super) id: BrokerId,
    pub(super) host: StrBytes,
    pub(super) port: i32,
    pub(super) rack: Option<StrBytes>,
}

impl Places {
    /// As far as this node knows: where clients of this listener reach the nodes that have it. Until the others have heard where
    /// they reach this one, it is where this client did.
    pub(super) fn now(node: &Node, client: &Client) -> Self {
        let layout = node.shared.broker.layout();
        let mut nodes = layout.kafka_nodes(node.listener.as_deref());
        if !nodes.iter().any(|known| known.node == layout.me()) {
            let me = KafkaNode { node: layout.me(), address: client.local.to_string(), zone: String::new() };
            nodes.push(me);
            nodes.sort_unstable_by_key(|known| known.node);
        }
        let away: BTreeSet<_> = node.shared.broker.absent_nodes().into_iter().map(broker_id).collect();
        let brokers = nodes.into_iter().filter_map(place).filter(|place| !away.contains(&place.id));
        Self { brokers: brokers.collect(), away, layout }
    }

    pub(super) fn cluster_id(&self) -> StrBytes {
        StrBytes::from_string(self.layout.cluster_id())
    }

    /// Who leads a shard, and in which epoch; -1 where none is known. Whoever is named passes on what another one leads: a client
    /// that is sent to this node, since no leader is known, or none that it could reach, is answered as soon as there is one.
    pub(super) fn lead(&self, shard: ShardId) -> (BrokerId, i32) {
        let (leader, epoch) = self.layout.lead(shard);
        let leader = leader.map(broker_id).filter(|leader| self.is_known(*leader));
        (leader.unwrap_or_else(|| broker_id(self.layout.me())), epoch.map_or(-1, epochs::number))
    }

    /// Where a node is, if it answers and has told where Kafka clients reach it.
    pub(super) fn of(&self, node: NodeId) -> Option<&Place> {
        self.brokers.iter().find(|place| place.id == broker_id(node))
    }

    /// Who has a copy of a shard.
    pub(super) fn replicas(&self, shard: ShardId) -> Vec<BrokerId> {
        self.layout.replicas(shard).into_iter().map(broker_id).collect()
    }

    /// Whether a node does not answer now.
    pub(super) fn is_away(&self, id: BrokerId) -> bool {
        self.away.contains(&id)
    }

    /// The node that changes of topics may be sent to: any.
    pub(super) fn controller(&self) -> BrokerId {
        broker_id(self.layout.me())
    }

    fn is_known(&self, id: BrokerId) -> bool {
        self.brokers.iter().any(|place| place.id == id)
    }
}

/// Node ids are given one after the other, and never come near the end of Kafka's.
pub(super) fn broker_id(node: NodeId) -> BrokerId {
    BrokerId(i32::try_from(node.0).unwrap_or(i32::MAX))
}

/// `None` for an address that is none.
fn place(node: KafkaNode) -> Option<Place> {
    let (host, port) = node.address.rsplit_once(':')?;
    Some(Place {
        id: broker_id(node.node),
        host: StrBytes::from_string(host.trim_matches(['[', ']']).to_owned()),
        port: port.parse::<u16>().ok()?.into(),
        rack: (!node.zone.is_empty()).then(|| StrBytes::from_string(node.zone)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_and_ports() {
        let at = |address: &str| {
            let node = KafkaNode { node: NodeId(7), address: address.to_owned(), zone: "a".to_owned() };
            place(node).map(|place| (place.id.0, place.host.to_string(), place.port))
        };
        assert_eq!(at("node1.example:9092"), Some((7, "node1.example".to_owned(), 9092)));
        assert_eq!(at("[::1]:1"), Some((7, "::1".to_owned(), 1)));
        assert_eq!(at("nowhere"), None);
    }
}
