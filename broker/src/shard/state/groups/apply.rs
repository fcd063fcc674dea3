//! How commands change groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stratalog_proto::{Code, Error, PartitionId, TopicId, internal};

use super::super::topic_id;
use super::codec::{committed, membership};
use super::{
    CommittedOffset, GROUP_BYTES, Group, GroupTable, MAX_GROUP_ID_BYTES, MAX_GROUPS, MAX_MEMBERSHIP_BYTES, MAX_OFFSETS,
    MAX_TABLE_BYTES, Membership, Phase,
};
use crate::outcome::CommandResult;

impl GroupTable {
    /// Changes who is in a group.
    ///
    /// # Errors
    /// [`Code::Conflict`] if it was changed since the command was built; [`Code::InvalidRequest`] for members that contradict
    /// each other, or a generation that is not the next one (G1); [`Code::Overloaded`] if there are too many groups.
    pub(in crate::shard::state) fn change(
        &mut self,
        change: &internal::GroupState,
        time_ns: i64,
    ) -> Result<CommandResult, Error> {
        check_id(&change.group)?;
        let mut next = membership(change)?;
        check_bytes(&next)?;
        let before = self.get(&change.group);
        let (revision, generation) =
            before.map_or((0, 0), |group| (group.membership.revision, group.membership.generation));
        if change.expect != revision {
            let message = format!("the members of group `{}` were changed at the same time", change.group);
            return Err(Error::new(Code::Conflict, message));
        }
        let is_begun = before.is_some_and(|group| group.membership.phase != Phase::Empty);
        let follows = match next.phase {
            Phase::Stable => is_begun && next.generation == generation,
            Phase::Empty | Phase::Completing => generation.checked_add(1) == Some(next.generation),
        };
        if !follows {
            let message = format!("G1: generation {} does not follow generation {generation}", next.generation);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        next.revision = revision.checked_add(1).ok_or_else(|| invalid("a group changes no more"))?;
        let is_empty = next.phase == Phase::Empty;
        let less = before.map_or(0, |group| group.membership.bytes());
        let group = self.changed(&change.group, next.bytes(), less)?;
        group.membership = next;
        group.empty_since_ns = if is_empty { time_ns } else { 0 };
        Ok(CommandResult::Done)
    }

    /// Remembers how far a group has read.
    ///
    /// # Errors
    /// [`Code::UnknownMember`], [`Code::FencedInstance`], [`Code::IllegalGeneration`], [`Code::RebalanceInProgress`] of who
    /// may not commit (G1); [`Code::InvalidRequest`], [`Code::Overloaded`] of what is too much.
    pub(in crate::shard::state) fn commit(
        &mut self,
        commit: &internal::CommitOffsets,
        time_ns: i64,
    ) -> Result<CommandResult, Error> {
        check_id(&commit.group)?;
        match self.get(&commit.group) {
            Some(group) => may_commit(&group.membership, commit)?,
            None if commit.generation < 0 => {}
            None => return Err(illegal_generation(commit.generation, 0)),
        }
        let offsets: BTreeMap<_, _> =
            commit.offsets.iter().map(|raw| committed(raw, time_ns)).collect::<Result<_, _>>()?;
        if offsets.is_empty() {
            return Ok(CommandResult::Done);
        }
        let known = |place: &(TopicId, PartitionId)| self.get(&commit.group).and_then(|group| group.offsets.get(place));
        let fresh = offsets.keys().filter(|place| known(place).is_none()).count();
        if self.get(&commit.group).map_or(0, |group| group.offsets.len()) + fresh > MAX_OFFSETS {
            let message = format!("a group commits offsets of at most {MAX_OFFSETS} partitions");
            return Err(Error::new(Code::Overloaded, message));
        }
        let less = offsets.keys().filter_map(known).map(CommittedOffset::bytes).sum();
        let is_new = self.get(&commit.group).is_none();
        let group = self.changed(&commit.group, offsets.values().map(CommittedOffset::bytes).sum(), less)?;
        if is_new {
            group.empty_since_ns = time_ns;
        }
        group.offsets.extend(offsets);
        Ok(CommandResult::Done)
    }

    /// Forgets a group.
    ///
    /// # Errors
    /// [`Code::UnknownGroup`]; [`Code::GroupNotEmpty`].
    pub(in crate::shard::state) fn delete(&mut self, id: &str) -> Result<CommandResult, Error> {
        let group = self.get(id).ok_or_else(|| unknown(id))?;
        if group.membership.phase != Phase::Empty {
            return Err(Error::new(Code::GroupNotEmpty, format!("group `{id}` has members")));
        }
        self.remove(id);
        Ok(CommandResult::Done)
    }

    /// Forgets offsets of a group; those that it does not have are forgotten already.
    ///
    /// # Errors
    /// [`Code::UnknownGroup`].
    pub(in crate::shard::state) fn delete_offsets(
        &mut self,
        delete: &internal::DeleteOffsets,
    ) -> Result<CommandResult, Error> {
        let places = places(&delete.offsets)?;
        self.get(&delete.group).ok_or_else(|| unknown(&delete.group))?;
        self.forget(&delete.group, &places)
    }

    /// Forgets offsets that nobody needed for long, and the group with the last of them. What was used meanwhile stays.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for an id of a topic that is none.
    pub(in crate::shard::state) fn expire(&mut self, expire: &internal::ExpireOffsets) -> Result<CommandResult, Error> {
        let places = places(&expire.offsets)?;
        let expired = self.get(&expire.group).and_then(|group| group.expired(expire.before_ns));
        let Some(expired) = expired else { return Ok(CommandResult::Done) };
        let expired = expired.into_iter().filter(|place| places.contains(place)).collect();
        self.forget(&expire.group, &expired)?;
        if self.get(&expire.group).is_some_and(|group| group.offsets.is_empty()) {
            self.remove(&expire.group);
        }
        Ok(CommandResult::Done)
    }

    fn forget(&mut self, id: &str, places: &BTreeSet<(TopicId, PartitionId)>) -> Result<CommandResult, Error> {
        let known = |place: &(TopicId, PartitionId)| self.get(id).and_then(|group| group.offsets.get(place));
        let less = places.iter().filter_map(known).map(CommittedOffset::bytes).sum();
        let group = self.changed(id, 0, less)?;
        places.iter().for_each(|place| _ = group.offsets.remove(place));
        Ok(CommandResult::Done)
    }

    /// A group to be changed, so that it has `more` bytes and `less` than before. It comes to be if there is none.
    ///
    /// # Errors
    /// [`Code::Overloaded`]: it would be too much. Nothing is changed.
    fn changed(&mut self, id: &str, more: usize, less: usize) -> Result<&mut Group, Error> {
        let is_new = !self.groups.contains_key(id);
        if is_new && self.groups.len() >= MAX_GROUPS {
            let message = format!("a shard has at most {MAX_GROUPS} groups: delete those that are not needed");
            return Err(Error::new(Code::Overloaded, message));
        }
        let begun = if is_new { id.len() + GROUP_BYTES } else { 0 };
        let bytes = self.bytes + begun + more - less;
        if bytes > self.bytes.max(MAX_TABLE_BYTES) {
            let message = format!("the groups of a shard take at most {MAX_TABLE_BYTES} bytes: delete some");
            return Err(Error::new(Code::Overloaded, message));
        }
        self.bytes = bytes;
        let group = Arc::make_mut(self.groups.entry(id.to_owned()).or_default());
        group.bytes = group.bytes + more - less;
        Ok(group)
    }

    fn remove(&mut self, id: &str) {
        if let Some(group) = self.groups.remove(id) {
            self.bytes -= bytes_of(id, &group);
        }
    }

    /// Counts the bytes of all groups anew.
    ///
    /// # Errors
    /// [`Code::CorruptData`]: they are more than there may be.
    pub(super) fn restored(groups: BTreeMap<String, Arc<Group>>) -> Result<Self, Error> {
        let bytes = groups.iter().map(|(id, group)| bytes_of(id, group)).sum();
        if groups.len() > MAX_GROUPS || bytes > MAX_TABLE_BYTES {
            let message = format!("{} groups of {bytes} bytes are more than a shard has", groups.len());
            return Err(Error::new(Code::CorruptData, message));
        }
        Ok(Self { groups, bytes })
    }
}

/// Of a group with its id.
fn bytes_of(id: &str, group: &Group) -> usize {
    id.len() + GROUP_BYTES + group.bytes
}

/// G1: whether what is committed is of the group as it is.
fn may_commit(group: &Membership, commit: &internal::CommitOffsets) -> Result<(), Error> {
    if commit.generation < 0 && group.phase == Phase::Empty {
        return Ok(());
    }
    group.check_member(&commit.member, Some(commit.instance.as_str()).filter(|instance| !instance.is_empty()))?;
    if commit.generation != group.generation {
        return Err(illegal_generation(commit.generation, group.generation));
    }
    if group.phase == Phase::Completing {
        let message = "the group's members get their assignments anew; nothing was committed";
        return Err(Error::new(Code::RebalanceInProgress, message));
    }
    Ok(())
}

impl Membership {
    /// Whether a member is who it says.
    ///
    /// # Errors
    /// [`Code::UnknownMember`], [`Code::FencedInstance`].
    fn check_member(&self, member: &str, instance: Option<&str>) -> Result<(), Error> {
        let unknown = || Error::new(Code::UnknownMember, format!("the group has no member `{member}`"));
        if let Some(instance) = instance {
            let holder = self.members.iter().find(|(_, known)| known.instance.as_deref() == Some(instance));
            let (holder, _) = holder.ok_or_else(unknown)?;
            if holder != member {
                let message = format!("another process has joined the group as `{instance}`");
                return Err(Error::new(Code::FencedInstance, message));
            }
        }
        self.members.contains_key(member).then_some(()).ok_or_else(unknown)
    }
}

fn illegal_generation(of: i32, group: i32) -> Error {
    Error::new(Code::IllegalGeneration, format!("the group is in generation {group}, and not in {of}"))
}

fn places(raw: &[internal::OffsetPlace]) -> Result<BTreeSet<(TopicId, PartitionId)>, Error> {
    raw.iter().map(|place| Ok((topic_id(&place.topic)?, PartitionId(place.partition)))).collect()
}

pub(super) fn check_id(group: &str) -> Result<(), Error> {
    match (1..=MAX_GROUP_ID_BYTES).contains(&group.len()) {
        true => Ok(()),
        false => Err(invalid("the id of a group has 1 to 1,024 bytes")),
    }
}

pub(super) fn check_bytes(membership: &Membership) -> Result<(), Error> {
    let bytes = membership.bytes();
    if bytes <= MAX_MEMBERSHIP_BYTES {
        return Ok(());
    }
    let message = format!(
        "what the members of a group say and what is assigned to them takes {bytes} bytes, and may take \
         {MAX_MEMBERSHIP_BYTES}: use several groups"
    );
    Err(Error::new(Code::MessageTooLarge, message))
}

pub(super) fn invalid(what: &str) -> Error {
    Error::new(Code::InvalidRequest, what)
}

fn unknown(group: &str) -> Error {
    Error::new(Code::UnknownGroup, format!("there is no group `{group}`"))
}
