//! The shards of one cluster in another, which begins with one node.

use bytes::Bytes;
use stratalog_proto::{Code, Error, FEATURE_LEVEL, NodeId, internal};
use uuid::Uuid;

use super::super::view::Role;
use super::Cluster;
use super::nodes::FIRST_REPLICA;

impl Cluster {
    /// The same shards with the same replication, each with its first replica on `node`, which alone votes. Ids of nodes and
    /// replicas begin anew: they mean something in one cluster only.
    ///
    /// # Errors
    /// [`Code::NotFormed`] if there is no cluster; [`Code::NewerVersion`] for a feature level that this version does not know.
    pub(in crate::meta) fn anew(&self, cluster: Uuid, node: NodeId, incarnation: Uuid) -> Result<Self, Error> {
        let none = || Error::new(Code::NotFormed, "the metadata is that of no cluster");
        let before = self.to_message().ok_or_else(none)?;
        let first = internal::Replica { replica: FIRST_REPLICA.0, node: node.0, role: Role::Voter.number() };
        let alone = |placement| internal::Placement { replicas: vec![first], ..placement };
        Self::from_message(internal::Cluster {
            cluster: Bytes::copy_from_slice(cluster.as_bytes()),
            next_node: node.0 + 1,
            next_replica: FIRST_REPLICA.0 + 1,
            nodes: vec![internal::Node {
                node: node.0,
                incarnation: Bytes::copy_from_slice(incarnation.as_bytes()),
                feature_level: FEATURE_LEVEL,
                state: 1,
                ..internal::Node::default()
            }],
            placements: before.placements.into_iter().map(alone).collect(),
            removed_nodes: Vec::new(),
            ..before
        })
    }
}

#[cfg(test)]
mod tests {
    use stratalog_proto::ReplicaId;

    use super::*;
    use crate::meta::plan::testing::{cluster, nodes};

    #[test]
    fn l1_nothing_of_the_first_cluster_but_its_shards_is_in_the_new_one() {
        let mut view = cluster(nodes(4, |_| ""), &[&[1, 2, 3], &[2, 3, 4]]);
        view.removed_nodes.insert(NodeId(9));
        let before = Cluster { view: view.into(), next_node: 10 };
        let (id, incarnation) = (Uuid::from_u128(5), Uuid::from_u128(6));
        let after = before.anew(id, NodeId(1), incarnation).unwrap();
        let (was, view) = (&before.view, after.view());
        assert_eq!((view.cluster, view.next_replica, after.next_node), (Some(id), 2, 2));
        assert_eq!(view.nodes.keys().copied().collect::<Vec<_>>(), [NodeId(1)]);
        assert_eq!((view.nodes[&NodeId(1)].incarnation, view.removed_nodes.len()), (incarnation, 0));
        assert!(view.shards.keys().eq(was.shards.keys()));
        for (shard, placement) in &view.shards {
            assert_eq!(placement.replication, was.shards[shard].replication);
            let replicas: Vec<_> = placement.replicas.iter().map(|(id, view)| (*id, view.node, view.role)).collect();
            assert_eq!(replicas, [(ReplicaId(1), NodeId(1), Role::Voter)]);
        }
    }

    #[test]
    fn metadata_of_no_cluster_begins_none() {
        let refused = Cluster::default().anew(Uuid::nil(), NodeId(1), Uuid::nil()).unwrap_err();
        assert_eq!(refused.code, Code::NotFormed);
    }
}
