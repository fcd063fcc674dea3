//! Consumer groups: who reads which partitions, and how far each group has read.
//!
//! A group lives in one shard, by the slot of its id. What outlives a leader is that shard's state: generation, members,
//! assignment and committed offsets. Its coordinator is the node that leads the shard. That one has in memory who is joining
//! and until when each member has to be heard of, and nobody has an answer before the command that it tells of is applied.

mod api;
mod committed;
mod consumer;
mod coordinator;
mod coordinators;
mod expiry;
mod lag;
#[cfg(test)]
#[allow(unreachable_pub)] // `fuzz/` compiles it by its path.
mod lies;
mod machine;
mod operate;
mod options;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, NodeId, PartitionId, ShardId, TopicId, internal};
use uuid::Uuid;

use crate::broker::{Broker, META};
use crate::cluster::route::Leader;
use crate::meta::{shards_of, spread};
use crate::shard::{
    MAX_GROUP_ID_BYTES, MAX_INSTANCE_BYTES, MAX_NAME_BYTES, MAX_OFFSET_METADATA_BYTES, MAX_PROTOCOLS, Membership, Phase,
};
use machine::{Answer, Ask};

pub use api::{
    Commit, CommitOffset, Described, DescribedMember, GroupState, Heartbeat, Join, Joined, JoinedMember, Leaving,
    Listed, Refusal, Sync, Synced,
};
pub use committed::{Committed, CommittedOffsets};
pub use consumer::{assigned, subscribed};
pub(crate) use coordinators::Coordinators;
pub(crate) use expiry::expire_offsets;
pub(crate) use lag::lags;
pub use operate::{GroupStatus, Reset, ResetTo};
pub use options::GroupOptions;

/// The kind of groups whose members say which topics they read.
const CONSUMERS: &str = "consumer";
/// The longest part of a client's name that becomes part of a member id: the rest is a UUID.
const NAMED_BYTES: usize = 255;
/// How long one who asks how far a group has read waits for its coordinator: a leader that is lost is replaced sooner.
const COMMITTED_WAIT: Duration = Duration::from_secs(3);
/// The longest time that a member may ask for to join again.
const MAX_REBALANCE: Duration = Duration::from_secs(24 * 3_600);

/// The groups of a cluster, as a node of it serves them.
#[derive(Clone, Copy)]
pub struct Groups<'a> {
    broker: &'a Broker,
}

impl<'a> Groups<'a> {
    pub(crate) fn new(broker: &'a Broker) -> Self {
        Self { broker }
    }

    /// The node that coordinates a group. Any node knows.
    ///
    /// # Errors
    /// [`Refusal::InvalidGroup`]; [`Refusal::NotCoordinator`] while nobody does.
    pub async fn coordinator(&self, group: &str) -> Result<NodeId, Refusal> {
        let shard = self.shard_of(group).await?;
        let router = self.broker.router();
        match router.known_leader(shard) {
            Some(Leader::Here) => Ok(self.broker.nodes().me()),
            Some(Leader::At(node)) => Ok(node),
            None => router.ask_replicas(shard).await.ok_or(Refusal::NotCoordinator),
        }
    }

    /// Joins a group, and waits until its members are known.
    ///
    /// # Errors
    /// Any [`Refusal`] of a member.
    pub async fn join(&self, join: Join) -> Result<Joined, Refusal> {
        if !self.coordinators().options().session_timeouts.contains(&join.session_timeout) {
            return Err(Refusal::InvalidSessionTimeout);
        }
        check_names(&join)?;
        let shard = self.shard_of(&join.group).await?;
        let join = kept(join);
        let group = join.group.clone();
        let named = join.instance.as_deref().unwrap_or(&join.client_id);
        let named = &named[..named.floor_char_boundary(NAMED_BYTES)];
        let new_id = format!("{named}-{}", Uuid::new_v4());
        match self.coordinators().ask(shard, &group, Ask::Join { join, new_id }).await? {
            Answer::Joined(joined) => Ok(joined),
            other => Err(mismatched(&other)),
        }
    }

    /// Waits until the leader has assigned.
    ///
    /// # Errors
    /// Any [`Refusal`] of a member.
    pub async fn sync(&self, sync: Sync) -> Result<Synced, Refusal> {
        let shard = self.shard_of(&sync.group).await?;
        let group = sync.group.clone();
        let copied = |(member, assignment): (String, Bytes)| (member, Bytes::copy_from_slice(&assignment));
        let assignments = sync.assignments.into_iter().map(copied).collect();
        let sync = Sync { assignments, instance: sync.instance.filter(|instance| !instance.is_empty()), ..sync };
        match self.coordinators().ask(shard, &group, Ask::Sync(sync)).await? {
            Answer::Synced(synced) => Ok(synced),
            other => Err(mismatched(&other)),
        }
    }

    /// Says that a member lives.
    ///
    /// # Errors
    /// Any [`Refusal`] of a member.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), Refusal> {
        let shard = self.shard_of(&heartbeat.group).await?;
        let group = heartbeat.group.clone();
        let heartbeat = Heartbeat { instance: heartbeat.instance.filter(|instance| !instance.is_empty()), ..heartbeat };
        match self.coordinators().ask(shard, &group, Ask::Heartbeat(heartbeat)).await? {
            Answer::Alive => Ok(()),
            other => Err(mismatched(&other)),
        }
    }

    /// Takes members out of a group; an answer for each.
    ///
    /// # Errors
    /// [`Refusal::InvalidGroup`], [`Refusal::NotCoordinator`], [`Refusal::Loading`].
    pub async fn leave(&self, group: &str, members: Vec<Leaving>) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        let shard = self.shard_of(group).await?;
        match self.coordinators().ask(shard, group, Ask::Leave(members)).await? {
            Answer::Left(left) => Ok(left),
            other => Err(mismatched(&other)),
        }
    }

    /// Commits offsets; an answer for each. A lower offset than the one before is as good as any: the group reads again from
    /// there.
    ///
    /// # Errors
    /// Why none of them was committed.
    pub async fn commit(&self, commit: Commit) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        let id = self.shard_of(&commit.group).await?;
        let instance = commit.instance.as_deref().filter(|instance| !instance.is_empty());
        let member = (commit.generation, commit.member_id.as_str(), instance);
        let (shard, term) = self.coordinators().may_commit(id, &commit.group, member)?;
        let answers: Vec<Result<(), Refusal>> = commit.offsets.iter().map(|offset| self.check(offset)).collect();
        let taken = commit.offsets.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        let offsets: Vec<_> = taken.map(|(offset, _)| message_of(offset)).collect();
        if !offsets.is_empty() {
            let (group, instance) = (commit.group.clone(), instance.unwrap_or_default().to_owned());
            let (generation, member) = (commit.generation, commit.member_id.clone());
            let command = internal::CommitOffsets { group, generation, member, instance, offsets };
            shard.submit_in(term, Command::CommitOffsets(command)).await?;
        }
        Ok(answers)
    }

    /// The offsets that were committed; whichever node is asked, their coordinator answers, and while leadership is handed over
    /// it is waited for. A group that there is not has none.
    ///
    /// # Errors
    /// [`Refusal::InvalidGroup`]; [`Refusal::NotCoordinator`]: nobody coordinates the group.
    pub async fn committed(&self, group: &str) -> Result<CommittedOffsets, Refusal> {
        match self.committed_here(group).await {
            Err(Refusal::NotCoordinator) => {}
            answered => return answered,
        }
        let id = self.shard_of(group).await?;
        let found = self.broker.ask_groups(id, Some(group), COMMITTED_WAIT).await.map_err(not_led)?;
        Ok(CommittedOffsets::told(found.into_iter().flat_map(|status| status.offsets)))
    }

    /// As [`committed`](Self::committed), of a group that this node coordinates.
    ///
    /// # Errors
    /// As [`committed`](Self::committed).
    pub(crate) async fn committed_here(&self, group: &str) -> Result<CommittedOffsets, Refusal> {
        let id = self.shard_of(group).await?;
        let shard = self.broker.led_shard(id).await.map_err(not_led)?;
        Ok(CommittedOffsets::of(shard.read(|state| state.groups().get(group).cloned())))
    }

    /// What a group is at the moment; [`GroupState::Dead`] if there is none.
    ///
    /// # Errors
    /// As [`committed`](Self::committed).
    pub async fn describe(&self, group: &str) -> Result<Described, Refusal> {
        let id = self.shard_of(group).await?;
        let shard = self.broker.led_shard(id).await.map_err(not_led)?;
        if let Some(described) = self.coordinators().describe(id, group)? {
            return Ok(described);
        }
        let known = shard.read(|state| state.groups().get(group).cloned());
        let state = if known.is_some() { GroupState::Empty } else { GroupState::Dead };
        let of = known.map(|group| group.membership().clone()).unwrap_or_default();
        // Of one that has members there is a coordinator.
        let is_known = matches!(of.phase, Phase::Empty);
        is_known.then(|| at_rest(state, of)).ok_or(Refusal::Loading)
    }

    /// The groups that this node coordinates, in the order of ids.
    pub fn list(&self) -> Vec<Listed> {
        self.coordinators().list()
    }

    /// Deletes a group that has no members.
    ///
    /// # Errors
    /// [`Refusal::NonEmpty`], [`Refusal::NotFound`]; as [`committed`](Self::committed).
    pub async fn delete(&self, group: &str) -> Result<(), Refusal> {
        let id = self.shard_of(group).await?;
        let (shard, term) = self.coordinators().unused(id, group)?;
        let command = Command::DeleteGroup(internal::DeleteGroup { group: group.to_owned() });
        shard.propose_in(term, command).await?;
        Ok(())
    }

    /// Forgets committed offsets; an answer for each. `is_read` says whether members read a topic, by what they say of
    /// themselves ([`DescribedMember::metadata`]): it is asked if the group has members, and is of consumers.
    ///
    /// # Errors
    /// [`Refusal::NonEmpty`] for members of another kind of group, [`Refusal::NotFound`]; as [`committed`](Self::committed).
    pub async fn delete_offsets(
        &self,
        group: &str,
        offsets: &[(TopicId, PartitionId)],
        is_read: impl Fn(&Described, TopicId) -> bool,
    ) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        let described = self.describe(group).await?;
        let has_members = match described.state {
            GroupState::Dead => return Err(Refusal::NotFound),
            GroupState::Empty => false,
            _ if described.protocol_type != CONSUMERS => return Err(Refusal::NonEmpty),
            _ => true,
        };
        let judge = |(topic, _): &(TopicId, PartitionId)| match has_members && is_read(&described, *topic) {
            true => Err(Refusal::SubscribedToTopic),
            false => Ok(()),
        };
        let answers: Vec<Result<(), Refusal>> = offsets.iter().map(judge).collect();
        let goes = offsets.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        let places: Vec<_> = goes.map(|(place, _)| place_of(*place)).collect();
        if !places.is_empty() {
            let command = internal::DeleteOffsets { group: group.to_owned(), offsets: places };
            let shard = self.broker.led_shard(self.shard_of(group).await?).await.map_err(not_led)?;
            shard.propose(Command::DeleteOffsets(command)).await?;
        }
        Ok(answers)
    }

    /// Sets offsets, wherever they were: for those who operate a group that has no members.
    ///
    /// # Errors
    /// [`Refusal::NonEmpty`]; as [`commit`](Self::commit).
    pub async fn reset(&self, group: &str, offsets: Vec<CommitOffset>) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        let (group, member_id) = (group.to_owned(), String::new());
        let answered = self.commit(Commit { group, generation: -1, member_id, instance: None, offsets }).await;
        answered.map_err(|refusal| match refusal {
            // Of a group that has members.
            Refusal::UnknownMember => Refusal::NonEmpty,
            other => other,
        })
    }

    fn coordinators(&self) -> &'a Arc<Coordinators> {
        self.broker.coordinators()
    }

    /// Where a group lives. The first group of a cluster has that decided for all that there may ever be.
    pub(crate) async fn shard_of(&self, group: &str) -> Result<ShardId, Refusal> {
        if !(1..=MAX_GROUP_ID_BYTES).contains(&group.len()) {
            return Err(Refusal::InvalidGroup);
        }
        if let Some(shard) = self.broker.meta().group_shard(group) {
            return Ok(shard);
        }
        let view = self.broker.meta().view();
        let replication = view.data_shards().map(|(_, placement)| placement.replication).max();
        let shards = shards_of(&view, replication.ok_or(Refusal::NotCoordinator)?);
        match self.broker.propose(META, Command::AssignSlots(spread(&shards))).await {
            // Another node was faster.
            Err(error) if error.code == Code::Conflict => self.broker.catch_up_with_meta().await.map_err(not_led)?,
            assigned => drop(assigned.map_err(not_led)?),
        }
        self.broker.meta().group_shard(group).ok_or(Refusal::NotCoordinator)
    }

    /// Whether an offset can be committed.
    fn check(&self, offset: &CommitOffset) -> Result<(), Refusal> {
        let topic = self.broker.known_topic(offset.topic);
        if topic.is_none_or(|topic| offset.partition.0 >= topic.partitions) {
            return Err(Refusal::UnknownTopicOrPartition);
        }
        if offset.offset.0 > i64::MAX as u64 {
            let message = format!("offset {} is more than a partition can have", offset.offset);
            return Err(Refusal::Other(Error::new(Code::InvalidRequest, message)));
        }
        (offset.metadata.len() <= MAX_OFFSET_METADATA_BYTES).then_some(()).ok_or(Refusal::MetadataTooLarge)
    }
}

/// Whether what a member calls itself has the length that its state takes.
fn check_names(join: &Join) -> Result<(), Refusal> {
    let too_long = |what: &str, most: usize| {
        let message = format!("{what} of a member of a group has at most {most} bytes");
        Err(Refusal::Other(Error::new(Code::InvalidRequest, message)))
    };
    if join.instance.as_ref().is_some_and(|instance| instance.len() > MAX_INSTANCE_BYTES) {
        return too_long("the instance id", MAX_INSTANCE_BYTES);
    }
    let mut names = join.protocols.iter().map(|(name, _)| name).chain([&join.protocol_type, &join.member_id]);
    if names.any(|name| name.len() > MAX_NAME_BYTES) {
        return too_long("a name", MAX_NAME_BYTES);
    }
    match join.protocols.len() > MAX_PROTOCOLS || join.rebalance_timeout > MAX_REBALANCE {
        true => Err(Refusal::InconsistentProtocol),
        false => Ok(()),
    }
}

/// What is kept of a member for long: it holds nothing of the request that it came with. Names that nobody compares are cut
/// where they are too long.
fn kept(join: Join) -> Join {
    let cut = |mut text: String| {
        text.truncate(text.floor_char_boundary(MAX_NAME_BYTES));
        text
    };
    let copied = |(name, metadata): (String, Bytes)| (name, Bytes::copy_from_slice(&metadata));
    Join {
        instance: join.instance.filter(|instance| !instance.is_empty()),
        client_id: cut(join.client_id),
        host: cut(join.host),
        protocols: join.protocols.into_iter().map(copied).collect(),
        ..join
    }
}

fn message_of(offset: &CommitOffset) -> internal::CommittedOffset {
    internal::CommittedOffset {
        topic: offset.topic.to_bytes(),
        partition: offset.partition.0,
        offset: offset.offset.0,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        time_ns: 0,
    }
}

fn place_of((topic, partition): (TopicId, PartitionId)) -> internal::OffsetPlace {
    internal::OffsetPlace { topic: topic.to_bytes(), partition: partition.0 }
}

/// A group without members.
fn at_rest(state: GroupState, of: Membership) -> Described {
    let Membership { protocol_type, protocol, generation, .. } = of;
    Described { state, protocol_type, protocol, generation, members: Vec::new() }
}

/// Why a group cannot be asked for now: who asks looks for its coordinator again.
fn not_led(error: Error) -> Refusal {
    match error.code {
        code if code.is_retriable() => Refusal::NotCoordinator,
        _ => Refusal::Other(error),
    }
}

fn mismatched(answer: &Answer) -> Refusal {
    Refusal::Other(Error::new(Code::Internal, format!("a coordinator answered something else: {answer:?}")))
}
