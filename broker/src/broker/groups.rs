//! Consumer groups, for those who operate them: whichever node is asked, their coordinators answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, Offset, PartitionId, ShardId, TopicId, internal};
use stratalog_query::{GroupInfo, GroupMemberInfo, PartitionInfo, TopicInfo};
use stratalog_transport::Method;

use super::Broker;
use crate::cluster::route::{Leader, Missed, READ_WAIT, groups_of, read_groups};
use crate::groups::{Committed, GroupState, GroupStatus, Listed, Reset, ResetTo, assigned};
use crate::offsets::OffsetAt;

/// Shards that are asked at the same time.
const AT_ONCE: usize = 16;

impl Broker {
    /// All groups, in the order of ids.
    ///
    /// # Errors
    /// [`Code::NotLeader`], [`Code::Unavailable`] if a shard with groups has no leader that answers.
    pub async fn list_groups(&self) -> Result<Vec<Listed>, Error> {
        self.catch_up_with_meta().await?;
        let asked = self.meta.shards_of_groups().into_iter().map(|shard| self.ask_groups(shard, None, READ_WAIT));
        // Boxed, since the compiler cannot tell otherwise that what it borrows lives long enough.
        let asked: Vec<_> = asked.map(FutureExt::boxed).collect();
        let found: Vec<Vec<GroupStatus>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        let listed = found.into_iter().flatten().map(|GroupStatus { group, described, .. }| Listed {
            group,
            protocol_type: described.protocol_type,
            state: described.state,
        });
        let mut listed: Vec<Listed> = listed.collect();
        listed.sort_unstable_by(|one, other| one.group.cmp(&other.group));
        Ok(listed)
    }

    /// A group with its members, and how far it has read.
    ///
    /// # Errors
    /// [`Code::UnknownGroup`]; as [`list_groups`](Self::list_groups).
    pub async fn describe_group(&self, group: &str) -> Result<GroupStatus, Error> {
        let unknown = || Error::new(Code::UnknownGroup, format!("there is no group `{group}`"));
        let shard = self.shard_of_group(group).await?.ok_or_else(unknown)?;
        let found = self.ask_groups(shard, Some(group), READ_WAIT).await?.into_iter().next();
        found.filter(|found| found.described.state != GroupState::Dead).ok_or_else(unknown)
    }

    /// Deletes a group without members, with what it committed.
    ///
    /// # Errors
    /// [`Code::UnknownGroup`], [`Code::GroupNotEmpty`]; as [`list_groups`](Self::list_groups); [`Code::Timeout`]: it may
    /// yet be deleted.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        empty(&self.describe_group(group).await?)?;
        self.change_group(group, Command::DeleteGroup(internal::DeleteGroup { group: group.to_owned() })).await
    }

    /// Sets how far a group without members has read, wherever that was: of all partitions of a topic, or of those that it
    /// has committed. `dry_run` only says how far that would be. Of a topic also for a group that there is not yet.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; as [`delete_group`](Self::delete_group).
    pub async fn reset_group(
        &self,
        group: &str,
        topic: Option<&str>,
        to: ResetTo,
        dry_run: bool,
    ) -> Result<Vec<Reset>, Error> {
        let committed = match self.describe_group(group).await {
            Err(error) if error.code == Code::UnknownGroup && topic.is_some() => Vec::new(),
            status => {
                let status = status?;
                empty(&status)?;
                status.offsets
            }
        };
        let mut by_topic: BTreeMap<TopicId, BTreeMap<PartitionId, Offset>> = BTreeMap::new();
        for of in committed {
            by_topic.entry(of.topic).or_default().insert(of.partition, of.offset);
        }
        let mut reset = Vec::new();
        if let Some(topic) = topic {
            let topic = self.find_topic(topic).await?;
            let before = by_topic.remove(&topic.id).unwrap_or_default();
            reset.push((topic.id, self.reset_in(&topic, &before, to, |_| true).await?));
        } else {
            for (id, before) in by_topic {
                // What was deleted meanwhile is not read any more.
                let Some(topic) = known(self.find_topic_by_id(id).await)? else { continue };
                reset.push((id, self.reset_in(&topic, &before, to, |of| before.contains_key(&of)).await?));
            }
        }
        if !dry_run {
            self.commit_reset(group, &reset).await?;
        }
        Ok(reset.into_iter().flat_map(|(_, reset)| reset).collect())
    }

    /// Where a group is to read on in those partitions of a topic that are chosen.
    async fn reset_in(
        &self,
        topic: &TopicInfo,
        before: &BTreeMap<PartitionId, Offset>,
        to: ResetTo,
        is_chosen: impl Fn(PartitionId) -> bool,
    ) -> Result<Vec<Reset>, Error> {
        let at = match to {
            ResetTo::Earliest => Some(OffsetAt::Earliest),
            ResetTo::Latest => Some(OffsetAt::Latest),
            ResetTo::Time(ns) => Some(OffsetAt::Time(ns)),
            ResetTo::Offset(_) | ResetTo::Shift(_) => None,
        };
        let asked: BTreeMap<PartitionId, Offset> = match at {
            Some(at) => self.list_offsets(&topic.name, at).await?.into_iter().collect(),
            None => BTreeMap::new(),
        };
        let partitions = self.partitions(&topic.name).await?;
        let reset = |info: &PartitionInfo| {
            let of = info.partition;
            let to = (to, asked.get(&of).copied());
            Reset::new(&topic.name, of, before.get(&of).copied(), to, [info.log_start, info.high_watermark])
        };
        Ok(partitions.iter().filter(|info| is_chosen(info.partition)).filter_map(reset).collect())
    }

    async fn commit_reset(&self, group: &str, reset: &[(TopicId, Vec<Reset>)]) -> Result<(), Error> {
        let offset = |topic: TopicId, reset: &Reset| internal::CommittedOffset {
            topic: topic.to_bytes(),
            partition: reset.partition.0,
            offset: reset.after.0,
            ..internal::CommittedOffset::default()
        };
        let offsets: Vec<_> =
            reset.iter().flat_map(|(topic, of)| of.iter().map(move |of| offset(*topic, of))).collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let commit = internal::CommitOffsets { group: group.to_owned(), generation: -1, offsets, ..<_>::default() };
        self.change_group(group, Command::CommitOffsets(commit)).await
    }

    /// Proposes a change that the shard refuses if the group has members.
    async fn change_group(&self, group: &str, command: Command) -> Result<(), Error> {
        let shard = self.groups().shard_of(group).await.map_err(|refusal| refusal.into_error(group))?;
        match self.propose(shard, command).await {
            // A consumer was faster.
            Err(error) if error.code == Code::UnknownMember => Err(has_members(group)),
            changed => changed.map(drop),
        }
    }

    /// The shard of a group; `None` if there are no groups at all.
    async fn shard_of_group(&self, group: &str) -> Result<Option<ShardId>, Error> {
        if let Some(shard) = self.meta.group_shard(group) {
            return Ok(Some(shard));
        }
        self.catch_up_with_meta().await?;
        Ok(self.meta.group_shard(group))
    }

    /// Asks the leader of a shard for one group, or for all in short.
    ///
    /// # Errors
    /// [`Code::NotLeader`], [`Code::Unavailable`]: none answered in so long.
    pub(crate) async fn ask_groups(
        &self,
        shard: ShardId,
        group: Option<&str>,
        patience: Duration,
    ) -> Result<Vec<GroupStatus>, Error> {
        let mut tries = self.router.tries(shard, patience, true);
        loop {
            let leader = tries.leader().await?;
            let answer = match leader {
                Leader::Here => self.groups_here(shard, group).await.map_err(Missed::from),
                Leader::At(node) => {
                    let frame = groups_of(shard, group);
                    let asked = self.router.ask_leader(shard, node, Method::Groups, frame, patience).await;
                    asked.and_then(|asked| read_groups(asked.body))
                }
            };
            if let Some(answer) = tries.settle(leader, answer).await {
                return answer;
            }
        }
    }

    /// One group of a shard that this node leads, or all of them in short: without members and offsets.
    ///
    /// # Errors
    /// [`Code::NotLeader`], [`Code::Unavailable`].
    pub(crate) async fn groups_here(&self, shard: ShardId, group: Option<&str>) -> Result<Vec<GroupStatus>, Error> {
        let groups = self.groups();
        let Some(group) = group else {
            self.led_shard(shard).await?;
            let of_shard = |listed: &Listed| self.meta.group_shard(&listed.group) == Some(shard);
            return Ok(groups.list().into_iter().filter(of_shard).map(GroupStatus::from).collect());
        };
        let described = groups.describe(group).await.map_err(|refusal| refusal.into_error(group))?;
        let committed = groups.committed_here(group).await.map_err(|refusal| refusal.into_error(group))?;
        let offsets = committed.iter().map(Committed::into_owned).collect();
        Ok(vec![GroupStatus { group: group.to_owned(), described, offsets }])
    }

    /// What `system.groups` shows of the groups that this node coordinates.
    pub(super) fn group_infos(&self) -> Vec<GroupInfo> {
        self.groups().list().into_iter().flat_map(|listed| self.infos_of(&listed)).collect()
    }

    fn infos_of(&self, listed: &Listed) -> Vec<GroupInfo> {
        let Some(shard) = self.meta.group_shard(&listed.group).and_then(|shard| self.shard(shard)) else {
            return Vec::new();
        };
        let found = shard.read(|state| state.groups().get(&listed.group).cloned());
        let info = |partition| GroupInfo {
            group: listed.group.clone(),
            shard: shard.id(),
            state: listed.state.to_string(),
            partition,
            committed: None,
            member: None,
        };
        let Some(found) = found else { return vec![info(None)] };
        let mut infos: BTreeMap<(String, PartitionId), GroupInfo> = BTreeMap::new();
        let key = |topic: &str, partition| (topic.to_owned(), partition);
        for ((topic, partition), committed) in found.offsets() {
            let Ok(topic) = self.meta.topic(*topic) else { continue };
            let key = key(&topic.name, *partition);
            infos.entry(key.clone()).or_insert_with(|| info(Some(key))).committed = Some(committed.offset);
        }
        for (id, member) in &found.membership().members {
            let reader =
                GroupMemberInfo { id: id.clone(), client_id: member.client_id.clone(), host: member.host.clone() };
            for (topic, partitions) in assigned(&member.assignment) {
                for partition in partitions {
                    let key = key(&topic, partition);
                    infos.entry(key.clone()).or_insert_with(|| info(Some(key))).member = Some(reader.clone());
                }
            }
        }
        if infos.is_empty() { vec![info(None)] } else { infos.into_values().collect() }
    }
}

fn empty(status: &GroupStatus) -> Result<(), Error> {
    match status.described.state {
        GroupState::Empty | GroupState::Dead => Ok(()),
        GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
            Err(has_members(&status.group))
        }
    }
}

fn has_members(group: &str) -> Error {
    let message = format!("group `{group}` has members: stop its consumers, and wait until their sessions have ended");
    Error::new(Code::GroupNotEmpty, message)
}

/// `None` for a topic that there is no more.
fn known(found: Result<Arc<TopicInfo>, Error>) -> Result<Option<Arc<TopicInfo>>, Error> {
    match found {
        Err(error) if error.code == Code::UnknownTopic => Ok(None),
        found => found.map(Some),
    }
}
