//! How the replicas of this node are.

use std::collections::BTreeSet;
use std::sync::Arc;

use stratalog_proto::internal::{ReplicaState, ReplicaStateRequest, ReplicaStates};
use stratalog_proto::{Error, ShardId};
use stratalog_storage::SegmentMeta;
use stratalog_transport::{Frame, Method};

use super::super::lacking::NAMED;
use super::{decode, encode};
use crate::broker::Broker;
use crate::raft::Group;
use crate::rows::clock_ns;
use crate::shard::{Shard, ShardState};

/// Answers for the shards that are named, or for all.
pub(super) fn replicas(broker: &Broker, frame: Frame) -> Result<Frame, Error> {
    let asked: ReplicaStateRequest = decode(Method::ReplicaState, frame.head)?;
    Ok(encode(&ReplicaStates { replicas: broker.replica_states(&asked.shards), clock_ns: clock_ns() }))
}

impl Broker {
    /// How the replicas of some shards are on this node; of all, if none is named. Ascending by shard.
    pub(crate) fn replica_states(&self, shards: &[u32]) -> Vec<ReplicaState> {
        let named: BTreeSet<ShardId> = shards.iter().copied().map(ShardId).collect();
        let is_asked = |shard: ShardId| named.is_empty() || named.contains(&shard);
        let meta = is_asked(ShardId(0)).then(|| self.state_of_meta());
        let shards = self.shards().all().into_iter().filter(|shard| is_asked(shard.id()));
        meta.into_iter().chain(shards.map(|shard| of_shard(&shard, &self.rows().missing(shard.id())))).collect()
    }

    fn state_of_meta(&self) -> ReplicaState {
        ReplicaState { applied: self.meta().applied().0, ..of_group(self.meta().group()) }
    }
}

fn partitions(state: &ShardState) -> u32 {
    state.topics().map(|(_, topic)| topic.partitions().count() as u32).sum()
}

/// `columns_missing`: column segments of its manifest that are not here.
fn of_shard(shard: &Shard, columns_missing: &[Arc<SegmentMeta>]) -> ReplicaState {
    let (manifest, partitions) = shard.read(|state| (state.manifest().clone(), partitions(state)));
    let mut lacking = shard.recs().lacking(manifest.recs());
    lacking.sort_by_key(|meta| meta.id);
    let columns = manifest.topics().flat_map(|(_, topic)| topic.segments.values()).map(|meta| meta.bytes);
    let replays = manifest.recs().iter().map(|meta| meta.bytes);
    let group = of_group(shard.group());
    ReplicaState {
        applied: shard.applied().0,
        replay_frontier: manifest.replay_frontier().0,
        missing_segments: (lacking.len() + columns_missing.len()) as u64,
        missing_replays: Some(lacking.len() as u64),
        missing_replay_ids: lacking.iter().take(NAMED).map(|meta| meta.id.to_bytes()).collect(),
        missing_bytes: lacking.iter().map(|meta| meta.bytes).chain(columns_missing.iter().map(|meta| meta.bytes)).sum(),
        bytes: columns.chain(replays).sum::<u64>() + group.bytes,
        partitions,
        ..group
    }
}

/// What any group shows.
fn of_group(group: &Group) -> ReplicaState {
    let (log, role) = (group.log(), *group.watch_role().borrow());
    ReplicaState {
        shard: log.shard().0,
        replica: log.replica().0,
        term: role.term.0,
        leader: role.leader.map_or(0, |leader| leader.0),
        leads: role.leads,
        bytes: log.retained().bytes,
        unfit: !group.may_lead(),
        in_doubt: group.is_doubted(),
        ..ReplicaState::default()
    }
}
