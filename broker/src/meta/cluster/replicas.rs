//! Commands about shards and their replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId, internal};

use super::super::view::{Placement, ReplicaView, Role};
use super::nodes::{check_replication, named};
use super::{Cluster, MAX_REPLICAS, META, conflict, invalid};
use crate::identity::MAX_SHARDS;
use crate::outcome::CommandResult;

impl Cluster {
    pub(crate) fn create_shards(&mut self, create: &internal::CreateShards) -> Result<CommandResult, Error> {
        self.check_begun()?;
        check_replication(create.replication)?;
        if create.if_none && self.view.data_shards().any(|(_, placement)| placement.replication == create.replication) {
            return Err(conflict(format!("there are shards of replication {} by now", create.replication)));
        }
        let first = self.view.shards.last_key_value().map_or(1, |(last, _)| last.0 + 1);
        let count = u32::try_from(create.nodes.len()).unwrap_or(u32::MAX);
        if count == 0 || first.saturating_add(count) > MAX_SHARDS + 1 {
            return Err(invalid(format!("{count} shards cannot be added: a cluster has 1 to {MAX_SHARDS}")));
        }
        for nodes in &create.nodes {
            self.check_new_shard(&nodes.nodes, create.replication)?;
        }
        for (shard, nodes) in (first..).map(ShardId).zip(&create.nodes) {
            let founding = |node: &u64| ReplicaView { node: NodeId(*node), role: Role::Founding };
            let replicas = nodes.nodes.iter().map(|node| (self.take_replica(), founding(node))).collect();
            let placement = Placement { replication: create.replication, replicas };
            Arc::make_mut(&mut self.view).shards.insert(shard, placement);
        }
        Ok(CommandResult::Shards { first: ShardId(first), count })
    }

    fn check_new_shard(&self, nodes: &[u64], replication: u32) -> Result<(), Error> {
        if nodes.is_empty() || nodes.len() > replication as usize {
            return Err(invalid(format!("a new shard has 1 to {replication} replicas, not {}", nodes.len())));
        }
        let distinct: BTreeSet<u64> = nodes.iter().copied().collect();
        if distinct.len() < nodes.len() {
            return Err(invalid("a new shard has two replicas on one node".to_owned()));
        }
        nodes.iter().try_for_each(|node| self.check_active(NodeId(*node)))
    }

    fn check_active(&self, node: NodeId) -> Result<(), Error> {
        self.check_node(node)?;
        match self.view.nodes.get(&node).is_some_and(|view| view.draining) {
            true => Err(conflict(format!("node {node} is draining: it takes no replicas"))),
            false => Ok(()),
        }
    }

    pub(crate) fn change_replicas(&mut self, change: &internal::ChangeReplicas) -> Result<CommandResult, Error> {
        self.check_begun()?;
        let shard = ShardId(change.shard);
        let before = self.placement(shard)?.clone();
        if !before.replicas.keys().map(|replica| replica.0).eq(change.expect.iter().copied()) {
            let message =
                format!("the replicas of shard {shard} are not those that the change was planned on; look again");
            return Err(conflict(message));
        }
        let mut after = before.clone();
        let mut next_replica = self.view.next_replica;
        for replica in &change.remove {
            leave(&mut after, shard, ReplicaId(*replica))?;
        }
        let role = if before.is_new() { Role::Founding } else { Role::Joining };
        for node in &change.add {
            self.join(&mut after, &mut next_replica, shard, NodeId(*node), role)?;
        }
        check_change(shard, &before, &after, change)?;
        *self.placement_mut(shard)? = after;
        Arc::make_mut(&mut self.view).next_replica = next_replica;
        Ok(CommandResult::Done)
    }

    /// Gives a node a joining replica, or has the one that it has join. One that was about to leave may stay on a node
    /// that drains, too: it takes nothing new. `role` is that of a replica which is new there.
    fn join(
        &self,
        after: &mut Placement,
        next_replica: &mut u64,
        shard: ShardId,
        node: NodeId,
        role: Role,
    ) -> Result<(), Error> {
        let there = after.replicas.iter_mut().find(|(_, view)| view.node == node);
        match there {
            Some((_, view)) if view.role == Role::Leaving => {
                view.role = Role::Joining;
                return Ok(());
            }
            Some((_, view)) if view.role == Role::Learner => view.role = Role::Joining,
            Some(_) => return Err(conflict(format!("node {node} has a replica of shard {shard} already"))),
            None => {
                after.replicas.insert(ReplicaId(*next_replica), ReplicaView { node, role });
                *next_replica += 1;
            }
        }
        self.check_active(node)
    }

    /// Has one replica of a new shard be its voter, which then begins the group, and the others join it. All that says who
    /// may begin a group is this: whoever comes later, and whoever was taken away meanwhile, may not.
    fn found(&mut self, shard: ShardId, replica: ReplicaId) -> Result<CommandResult, Error> {
        let placement = self.placement_mut(shard)?;
        if placement.replicas.get(&replica).is_none_or(|view| view.role != Role::Founding) {
            let message = format!("replica {replica} of shard {shard} is not the one that begins its group");
            return Err(conflict(message));
        }
        for (other, view) in &mut placement.replicas {
            view.role = if *other == replica { Role::Voter } else { Role::Joining };
        }
        Ok(CommandResult::Done)
    }

    pub(crate) fn replica_changed(&mut self, changed: &internal::ReplicaChanged) -> Result<CommandResult, Error> {
        self.check_begun()?;
        let (shard, replica) = (ShardId(changed.shard), ReplicaId(changed.replica));
        if changed.role == Role::Founding.number() {
            return self.found(shard, replica);
        }
        let Some(view) = self.placement(shard)?.replicas.get(&replica) else {
            // It was forgotten together with its node, or this was said before.
            return Ok(CommandResult::Done);
        };
        let is = match changed.role {
            0 => None,
            number => {
                Some(Role::from_number(number).ok_or_else(|| invalid(format!("{number} is no role of a replica")))?)
            }
        };
        let role = match (view.role, is) {
            (Role::Joining | Role::Voter, Some(Role::Voter)) => Some(Role::Voter),
            // Every node has the metadata: who gives up its vote goes on learning.
            (Role::Leaving | Role::Learner, None | Some(Role::Learner)) if shard == META => Some(Role::Learner),
            (Role::Leaving, None) => None,
            (wanted, is) => {
                let is = is.map_or("gone".to_owned(), |role| format!("{role:?}"));
                let message = format!("replica {replica} of shard {shard} is {is}, and wanted as {wanted:?} by now");
                return Err(conflict(message));
            }
        };
        let (node, replicas) = (view.node, &mut self.placement_mut(shard)?.replicas);
        match role {
            Some(role) => replicas.insert(replica, ReplicaView { node, role }),
            None => replicas.remove(&replica),
        };
        Ok(CommandResult::Done)
    }
}

/// What has to hold of any change of a shard.
fn check_change(
    shard: ShardId,
    before: &Placement,
    after: &Placement,
    change: &internal::ChangeReplicas,
) -> Result<(), Error> {
    if change.add.is_empty() && change.remove.is_empty() {
        return Err(invalid(format!("a change of shard {shard} changes nothing")));
    }
    let (most, staying) = (MAX_REPLICAS, after.staying().count());
    if shard != META && after.replicas.len() > most || staying > most {
        return Err(invalid(format!("shard {shard} would have more than {most} replicas")));
    }
    // A replica that joins has nothing yet: as long as no voter stays, the last copy could go before it is complete.
    // The nodes let nothing go before those that join have joined, so that one that joins counts as well.
    if staying == 0 {
        let message = format!("{} would have no replica left", named(&[shard]));
        return Err(Error::new(Code::QuorumAtRisk, message));
    }
    // While a change is under way, all that may be done is to take it back. Of a group that is not there yet, anything is.
    let pending: BTreeMap<ReplicaId, Role> = before.pending().collect();
    let takes_back = |(replica, view): (&ReplicaId, &ReplicaView)| match before.replicas.get(replica) {
        Some(was) => was.role == view.role || pending.contains_key(replica),
        None => false,
    };
    if !pending.is_empty() && !before.is_new() && !after.replicas.iter().all(takes_back) {
        let message = format!("another change of shard {shard} is under way; wait until it is done, or take it back");
        return Err(conflict(message));
    }
    Ok(())
}

/// Marks a replica as leaving. One of a group that nobody has begun goes at once: it has nothing, and nobody waits for it.
fn leave(after: &mut Placement, shard: ShardId, replica: ReplicaId) -> Result<(), Error> {
    match after.replicas.get_mut(&replica) {
        Some(view) if view.role == Role::Learner => {
            Err(invalid(format!("replica {replica} of shard {shard} has no vote; it goes when its node is removed")))
        }
        Some(view) if view.role == Role::Founding => {
            after.replicas.remove(&replica);
            Ok(())
        }
        Some(view) => {
            view.role = Role::Leaving;
            Ok(())
        }
        None => Err(conflict(format!("shard {shard} has no replica {replica}"))),
    }
}
