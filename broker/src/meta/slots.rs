//! In which shards consumer groups live: each in that of its slot.

use std::collections::BTreeSet;

use stratalog_proto::{Code, Error, ShardId, internal};

use crate::outcome::CommandResult;

/// The slots of groups. A number for ever: the slot of a group decides where it is looked for.
const SLOTS: usize = 1_024;

/// The slot of a group: CRC-32 of its id, modulo the number of slots.
fn slot_of(group: &str) -> usize {
    crc32fast::hash(group.as_bytes()) as usize % SLOTS
}

/// Gives the slots to these shards in turn.
///
/// # Panics
/// If there are no shards.
pub(crate) fn spread(shards: &[ShardId]) -> internal::AssignSlots {
    assert!(!shards.is_empty(), "a cluster has at least one shard");
    internal::AssignSlots { shards: shards.iter().cycle().take(SLOTS).map(|shard| shard.0).collect() }
}

/// The shard of each slot; none until they were assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots(Vec<ShardId>);

impl Slots {
    /// Each once, ascending.
    pub(super) fn shards(&self) -> BTreeSet<ShardId> {
        self.0.iter().copied().collect()
    }

    pub(super) fn shard_of(&self, group: &str) -> Option<ShardId> {
        self.0.get(slot_of(group)).copied()
    }

    /// Gives each slot its shard. A second time it has to be the same one: a group would not be found any more (G1).
    ///
    /// # Errors
    /// [`Code::Conflict`] if they have others; [`Code::InvalidRequest`] for too few slots, or a shard that there is not.
    pub(super) fn assign(
        &mut self,
        shards: &[u32],
        is_there: impl Fn(ShardId) -> bool,
    ) -> Result<CommandResult, Error> {
        let assigned = Self::from_proto(shards).map_err(|what| Error::new(Code::InvalidRequest, what))?;
        if let Some(shard) = assigned.0.iter().find(|shard| !is_there(**shard)) {
            let message = format!("groups cannot live in shard {shard}, which there is not");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        if assigned.0.is_empty() {
            return Err(Error::new(Code::InvalidRequest, "an assignment names the shard of every slot of groups"));
        }
        if !self.0.is_empty() && *self != assigned {
            return Err(Error::new(Code::Conflict, "G1: the slots of groups have their shards already"));
        }
        *self = assigned;
        Ok(CommandResult::Done)
    }

    pub(super) fn to_proto(&self) -> Vec<u32> {
        self.0.iter().map(|shard| shard.0).collect()
    }

    /// # Errors
    /// What is wrong with them.
    pub(super) fn from_proto(shards: &[u32]) -> Result<Self, &'static str> {
        if !shards.is_empty() && shards.len() != SLOTS {
            return Err("groups have 1,024 slots, or none are assigned");
        }
        if shards.contains(&0) {
            return Err("groups do not live in the metadata group");
        }
        Ok(Self(shards.iter().map(|shard| ShardId(*shard)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign(slots: &mut Slots, shards: &[u32]) -> Result<CommandResult, Code> {
        slots.assign(shards, |shard| shard.0 < 5).map_err(|error| error.code)
    }

    #[test]
    fn g1_slots_are_assigned_once() {
        let mut slots = Slots::default();
        assert_eq!(slots.shard_of("g"), None);
        let even = spread(&[ShardId(1), ShardId(2), ShardId(4)]).shards;
        assert_eq!((even.len(), &even[..4]), (SLOTS, &[1, 2, 4, 1][..]));
        assert_eq!(assign(&mut slots, &even), Ok(CommandResult::Done));
        assert_eq!(assign(&mut slots, &even), Ok(CommandResult::Done), "it came twice");
        assert_eq!(assign(&mut slots, &[1; SLOTS]), Err(Code::Conflict));
        assert_eq!(slots.to_proto(), even);
        assert_eq!(slots.shards(), [1, 2, 4].map(ShardId).into());
        assert_eq!(Slots::from_proto(&even), Ok(slots));
    }

    #[test]
    fn slots_are_all_assigned_and_to_shards_that_there_are() {
        for shards in [&[1; SLOTS - 1][..], &[1; SLOTS + 1], &[], &[0; SLOTS], &[7; SLOTS]] {
            let mut slots = Slots::default();
            assert_eq!(assign(&mut slots, shards), Err(Code::InvalidRequest), "{} slots", shards.len());
            assert_eq!(slots, Slots::default());
        }
    }

    #[test]
    fn g1_the_slot_of_a_group_never_changes() {
        assert_eq!(["", "readers", "a", "größe"].map(slot_of), [0, 5, 579, 393]);
    }
}
