//! Commands about nodes: the beginning of a cluster, a node that joins, drains, and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stratalog_proto::config::REPLICATION;
use stratalog_proto::{Code, Error, FEATURE_LEVEL, NodeId, ReplicaId, ShardId, internal};
use uuid::Uuid;

use super::super::view::{ClusterView, NodeView, Placement, ReplicaView, Role};
use super::{Cluster, MAX_NODE_ID, MAX_NODES, MAX_REMOVED, META, META_VOTERS, conflict, invalid};
use crate::identity::MAX_SHARDS;
use crate::outcome::CommandResult;

/// The longest address: a DNS name, a colon and a port.
const MAX_ADDRESS_BYTES: usize = 262;
/// The longest zone or version.
const MAX_NAME_BYTES: usize = 128;
/// Listeners of a node for Kafka clients, beside the one without a name.
const MAX_KAFKA_LISTENERS: usize = 16;
/// The replica of each group that a cluster begins with.
pub(super) const FIRST_REPLICA: ReplicaId = ReplicaId(1);

impl Cluster {
    pub(crate) fn init(&mut self, init: &internal::InitCluster) -> Result<CommandResult, Error> {
        let id = uuid(&init.cluster, "cluster id")?;
        let (node, view) = node_view(init.node.as_ref())?;
        if let Some(known) = self.view.cluster {
            let again = known == id && self.view.nodes.get(&node).is_some_and(|n| n.incarnation == view.incarnation);
            let message = || format!("this node belongs to cluster {known} already; a cluster begins once");
            return if again { Ok(CommandResult::Node(node)) } else { Err(Error::new(Code::WrongCluster, message())) };
        }
        let node = if node == NodeId(0) { NodeId(1) } else { node };
        check_node_id(node)?;
        check_known(view.feature_level)?;
        check_replication(init.replication)?;
        if !(1..=MAX_SHARDS).contains(&init.shards) {
            return Err(invalid(format!("a cluster begins with 1 to {MAX_SHARDS} shards, not {}", init.shards)));
        }
        let first = ReplicaView { node, role: Role::Voter };
        let placement = |replication| Placement { replication, replicas: BTreeMap::from([(FIRST_REPLICA, first)]) };
        let shards = (1..=init.shards).map(|shard| (ShardId(shard), placement(init.replication)));
        self.view = Arc::new(ClusterView {
            cluster: Some(id),
            replication: init.replication,
            feature_level: view.feature_level,
            next_replica: FIRST_REPLICA.0 + 1,
            nodes: BTreeMap::from([(node, view)]),
            removed_nodes: BTreeSet::new(),
            shards: std::iter::once((META, placement(META_VOTERS))).chain(shards).collect(),
        });
        self.next_node = node.0 + 1;
        Ok(CommandResult::Node(node))
    }

    pub(crate) fn put_node(&mut self, put: &internal::PutNode) -> Result<CommandResult, Error> {
        self.check_begun()?;
        let (asked, view) = node_view(put.node.as_ref())?;
        let known = self.view.nodes.iter().find(|(_, known)| known.incarnation == view.incarnation);
        let address = known.map_or("", |(_, known)| &known.peer_address);
        if put.joins && address != put.known_address {
            // Two that are let in by different nodes would be one node twice (L1).
            return Err(conflict("a copy of this data directory joins at the same time".to_owned()));
        }
        let known = known.map(|(node, _)| *node);
        self.check_put(asked, known, &view)?;
        if let Some(node) = known {
            let state = Arc::make_mut(&mut self.view).nodes.get_mut(&node);
            state.into_iter().for_each(|state| *state = NodeView { draining: state.draining, ..view.clone() });
            return Ok(CommandResult::Node(node));
        }
        let node = if asked == NodeId(0) { NodeId(self.next_node) } else { asked };
        check_node_id(node)?;
        let replica = self.take_replica();
        self.next_node = self.next_node.max(node.0 + 1);
        Arc::make_mut(&mut self.view).nodes.insert(node, view);
        let learner = ReplicaView { node, role: Role::Learner };
        self.placement_mut(META)?.replicas.insert(replica, learner);
        Ok(CommandResult::Node(node))
    }

    /// Whether a node may be what it says: `asked` is the id that it wants, 0 for any, and `known` the one that its
    /// incarnation has.
    fn check_put(&self, asked: NodeId, known: Option<NodeId>, view: &NodeView) -> Result<(), Error> {
        if view.feature_level < self.view.feature_level {
            return Err(invalid(format!(
                "version {} knows feature level {}, and the cluster is at {}: start a newer version",
                view.version, view.feature_level, self.view.feature_level
            )));
        }
        if self.view.removed_nodes.contains(&asked) {
            let message = format!(
                "node {asked} was removed from the cluster, and its id is never used again: empty its data directory, \
                 take `node_id` out of its settings, and it joins as a new node"
            );
            return Err(Error::new(Code::UnknownNode, message));
        }
        let alone = known.is_some() && self.view.nodes.len() == 1;
        match known {
            Some(known) if asked != NodeId(0) && asked != known => {
                Err(invalid(format!("this data directory is node {known} of the cluster, and not node {asked}")))
            }
            None if self.view.nodes.contains_key(&asked) => Err(invalid(format!(
                "the data directory of node {asked} is another one than the cluster knows: it was wiped or replaced. \
                 Copies that it had are not there any more, so it must not answer for them. Add it under a new id \
                 (take `node_id` out of its settings), then remove node {asked}"
            ))),
            None if self.view.nodes.len() >= MAX_NODES => {
                Err(invalid(format!("a cluster has at most {MAX_NODES} nodes")))
            }
            _ if view.peer_address.is_empty() && !alone => {
                Err(invalid("a node of a cluster of several says where the others reach it".to_owned()))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn set_node_state(&mut self, set: &internal::SetNodeState) -> Result<CommandResult, Error> {
        self.check_begun()?;
        let node = NodeId(set.node);
        self.check_node(node)?;
        let draining = draining(set.state)?;
        let mut others = self.view.nodes.iter().filter(|(other, _)| **other != node);
        if draining && !others.any(|(_, other)| !other.draining) {
            let message = format!("node {node} cannot be drained: there is no other active node to take its replicas");
            return Err(Error::new(Code::QuorumAtRisk, message));
        }
        let state = Arc::make_mut(&mut self.view).nodes.get_mut(&node);
        state.into_iter().for_each(|state| state.draining = draining);
        Ok(CommandResult::Node(node))
    }

    pub(crate) fn remove_node(&mut self, remove: &internal::RemoveNode) -> Result<CommandResult, Error> {
        self.check_begun()?;
        let node = NodeId(remove.node);
        self.check_node(node)?;
        let at_risk = |message| Err(Error::new(Code::QuorumAtRisk, message));
        if self.view.nodes.len() == 1 {
            return at_risk(format!("node {node} is the only node of the cluster, and has all that there is"));
        }
        // A joining replica may have its vote already, if that was not yet said.
        let counted = self.view.replicas_on(node).filter(|(_, _, role)| *role != Role::Learner);
        let shards: Vec<ShardId> = counted.map(|(shard, _, _)| shard).collect();
        if !shards.is_empty() && !remove.force {
            return at_risk(format!(
                "node {node} has replicas of {}. Drain it first and wait until it has none; if it is lost for ever, \
                 remove it with force, which gives up what only it has",
                named(&shards)
            ));
        }
        if self.view.removed_nodes.len() >= MAX_REMOVED {
            return Err(conflict(format!("{MAX_REMOVED} nodes were removed already, and no more can be remembered")));
        }
        let view = Arc::make_mut(&mut self.view);
        view.nodes.remove(&node);
        view.removed_nodes.insert(node);
        let mut never_begun = Vec::new();
        for (shard, placement) in &mut view.shards {
            let was_new = placement.is_new();
            placement.replicas.retain(|_, replica| replica.node != node);
            never_begun.extend((was_new && placement.replicas.is_empty()).then_some(*shard));
        }
        self.place_anew(&never_begun)?;
        Ok(CommandResult::Done)
    }

    /// Gives shards that lost all of their replicas before anybody had begun their groups one each on another node, where
    /// there are the fewest: nothing was in them, and nothing is lost.
    fn place_anew(&mut self, shards: &[ShardId]) -> Result<(), Error> {
        let mut replicas: BTreeMap<NodeId, usize> = self.view.nodes.keys().map(|node| (*node, 0)).collect();
        for replica in self.view.shards.values().flat_map(|placement| placement.replicas.values()) {
            *replicas.entry(replica.node).or_default() += 1;
        }
        for shard in shards {
            let free = replicas.iter_mut().min_by_key(|(node, count)| (!self.view.is_active(**node), **count, **node));
            let Some((node, count)) = free else { break };
            let founding = ReplicaView { node: *node, role: Role::Founding };
            *count += 1;
            let replica = self.take_replica();
            self.placement_mut(*shard)?.replicas.insert(replica, founding);
        }
        Ok(())
    }

    pub(crate) fn raise_level(&mut self, raise: &internal::RaiseLevel) -> Result<CommandResult, Error> {
        self.check_begun()?;
        let behind = self.view.nodes.iter().find(|(_, node)| node.feature_level < raise.level);
        if let Some((node, view)) = behind {
            return Err(conflict(format!(
                "feature level {} cannot be used yet: node {node} (version {}) knows level {}",
                raise.level, view.version, view.feature_level
            )));
        }
        check_known(raise.level)?;
        let view = Arc::make_mut(&mut self.view);
        view.feature_level = view.feature_level.max(raise.level);
        Ok(CommandResult::Done)
    }
}

/// A node as a command or a state file has it, its bounds checked.
///
/// # Errors
/// [`Code::InvalidRequest`], naming what is wrong.
pub(super) fn node_view(node: Option<&internal::Node>) -> Result<(NodeId, NodeView), Error> {
    let node = node.ok_or_else(|| invalid("a command about a node came without one".to_owned()))?;
    let kafka_listeners = kafka_listeners(&node.kafka_listeners)?;
    let listeners = kafka_listeners.iter().flat_map(|(name, address)| {
        [("name of a Kafka listener", name, MAX_NAME_BYTES), ("Kafka address", address, MAX_ADDRESS_BYTES)]
    });
    let fixed = [
        ("peer address", &node.peer_address, MAX_ADDRESS_BYTES),
        ("gRPC address", &node.grpc_address, MAX_ADDRESS_BYTES),
        ("HTTP address", &node.http_address, MAX_ADDRESS_BYTES),
        ("Kafka address", &node.kafka_address, MAX_ADDRESS_BYTES),
        ("zone", &node.zone, MAX_NAME_BYTES),
        ("version", &node.version, MAX_NAME_BYTES),
    ];
    for (what, text, most) in fixed.into_iter().chain(listeners) {
        if text.len() > most || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(invalid(format!("the {what} of a node has at most {most} bytes, and no blanks")));
        }
    }
    let view = NodeView {
        incarnation: uuid(&node.incarnation, "incarnation of a node")?,
        peer_address: node.peer_address.clone(),
        grpc_address: node.grpc_address.clone(),
        http_address: node.http_address.clone(),
        kafka_address: node.kafka_address.clone(),
        kafka_listeners,
        zone: node.zone.clone(),
        version: node.version.clone(),
        feature_level: node.feature_level,
        draining: draining(node.state)?,
    };
    Ok((NodeId(node.node), view))
}

/// Where Kafka clients reach the further listeners of a node, by their names.
///
/// # Errors
/// [`Code::InvalidRequest`] for too many of them, and for names that are none or not in their order.
fn kafka_listeners(told: &[internal::KafkaListener]) -> Result<BTreeMap<String, String>, Error> {
    let in_order = told.is_sorted_by(|one, next| one.name < next.name);
    if told.len() > MAX_KAFKA_LISTENERS || !in_order || told.iter().any(|listener| listener.name.is_empty()) {
        return Err(invalid(format!(
            "a node has at most {MAX_KAFKA_LISTENERS} further Kafka listeners, each with a name of its own, in their order"
        )));
    }
    Ok(told.iter().map(|listener| (listener.name.clone(), listener.address.clone())).collect())
}

/// As commands and state files have one.
pub(crate) fn kafka_listener((name, address): (&String, &String)) -> internal::KafkaListener {
    internal::KafkaListener { name: name.clone(), address: address.clone() }
}

/// As [`node_view`] reads it.
pub(crate) fn node_message(node: NodeId, view: &NodeView) -> internal::Node {
    internal::Node {
        node: node.0,
        incarnation: bytes::Bytes::copy_from_slice(view.incarnation.as_bytes()),
        peer_address: view.peer_address.clone(),
        grpc_address: view.grpc_address.clone(),
        http_address: view.http_address.clone(),
        kafka_address: view.kafka_address.clone(),
        kafka_listeners: view.kafka_listeners.iter().map(kafka_listener).collect(),
        zone: view.zone.clone(),
        version: view.version.clone(),
        feature_level: view.feature_level,
        state: if view.draining { 2 } else { 1 },
    }
}

/// A version that does not know what may be proposed has to stop.
pub(super) fn check_known(level: u32) -> Result<(), Error> {
    if level <= FEATURE_LEVEL {
        return Ok(());
    }
    let message = format!(
        "the cluster is at feature level {level}, and this version of Stratalog knows {FEATURE_LEVEL}: start a newer one"
    );
    Err(Error::new(Code::NewerVersion, message))
}

pub(super) fn check_node_id(node: NodeId) -> Result<(), Error> {
    match (1..=MAX_NODE_ID).contains(&node.0) {
        true => Ok(()),
        false => Err(invalid(format!("a node id is a number from 1 to {MAX_NODE_ID}, not {node}"))),
    }
}

pub(super) fn check_replication(replication: u32) -> Result<(), Error> {
    match REPLICATION.contains(&replication) {
        true => Ok(()),
        false => Err(invalid(format!(
            "replication is a number from {} to {}, not {replication}",
            REPLICATION.start(),
            REPLICATION.end()
        ))),
    }
}

pub(super) fn uuid(bytes: &[u8], what: &str) -> Result<Uuid, Error> {
    Uuid::from_slice(bytes).map_err(|_| invalid(format!("the {what} does not have 16 bytes")))
}

/// Of a node's state, which is 1 (active) or 2 (draining); 0, as of a node that says nothing, is active.
fn draining(state: u32) -> Result<bool, Error> {
    match state {
        0 | 1 => Ok(false),
        2 => Ok(true),
        other => Err(invalid(format!("a node's state is active or draining, and not {other}"))),
    }
}

/// `shard 1`, `shards 1, 2 and 9`, `the metadata and shard 1`; the first eight of many.
pub(crate) fn named(shards: &[ShardId]) -> String {
    const MOST: usize = 8;
    let name = |shard: &ShardId| if *shard == META { "the metadata".to_owned() } else { format!("shard {shard}") };
    let mut names: Vec<String> = shards.iter().take(MOST).map(name).collect();
    if shards.len() > MOST {
        names.push(format!("{} more", shards.len() - MOST));
    }
    match names.as_slice() {
        [] => "no shard".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
