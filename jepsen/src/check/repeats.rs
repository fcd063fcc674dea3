//! Values that are at two offsets, and whose doing that is.
//!
//! A node writes a sequence of a producer's epoch once. librdkafka begins a new epoch when a partition's sequence was broken, and
//! numbers anew whatever it had under way in all of its partitions: what was written and not acknowledged is there twice then.
//! `docs/KAFKA.md` tells when. With the epochs of both records this is told apart from a node that wrote twice what it was sent once.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::Kind;
use super::log::MAX_PARTITIONS;
use super::paged::Paged;
use crate::history::{ClientKind, CopyPart, Header, Source};

/// So many are kept until the end; what comes later is judged at once.
const MAX_KEPT: usize = 1 << 16;

/// A partition and an offset.
pub(super) type Place = (u32, u64);

#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Value and a place of it → where it was seen before, and what to call that.
    kept: BTreeMap<(u64, Place), (Place, Kind)>,
    /// Where values were acknowledged that are in several places.
    acked: BTreeMap<u64, Place>,
    /// By partition; two more than the epoch that wrote each offset, 0: it is not known.
    epochs: BTreeMap<u32, Paged<u32>>,
    /// Processes that number anew.
    renewing: BTreeSet<u32>,
}

impl Repeats {
    pub(super) fn new(header: &Header) -> Self {
        let renewing = header.processes.iter().filter(|process| process.client == ClientKind::Librdkafka);
        Self { renewing: renewing.map(|process| process.process).collect(), ..Self::default() }
    }

    /// What a replica says of the epochs of its records.
    pub(super) fn see_epochs(&mut self, part: &CopyPart) {
        let is_of_this_harness =
            part.partition < MAX_PARTITIONS && part.first.checked_add(part.epochs.len() as u64).is_some();
        if part.source != Source::Replica || !is_of_this_harness {
            return;
        }
        let epochs = self.epochs.entry(part.partition).or_default();
        for (epoch, offset) in part.epochs.iter().zip(part.first..) {
            if let (Some(known), Ok(number)) = (epochs.get_mut(offset), u32::try_from(i32::from(*epoch) + 2)) {
                *known = number;
            }
        }
    }

    /// Keeps a value that is at `place`, too; false if there is no room for more.
    pub(super) fn keep(&mut self, value: u64, place: Place, before: Place, kind: Kind) -> bool {
        let is_kept = self.kept.len() < MAX_KEPT || self.kept.contains_key(&(value, place));
        if is_kept {
            self.kept.entry((value, place)).or_insert((before, kind));
        }
        is_kept
    }

    /// A value that is in several places was acknowledged at this one.
    pub(super) fn note_ack(&mut self, value: u64, place: Place) {
        if self.acked.len() < MAX_KEPT {
            self.acked.insert(value, place);
        }
    }

    /// Everything that was kept.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Place, Place, Kind)> {
        self.kept.iter().map(|((value, place), (before, kind))| (*value, *place, *before, *kind))
    }

    /// Everywhere that a value is; nothing if it is in one place.
    pub(super) fn places(&self, value: u64) -> BTreeSet<Place> {
        let of_value = self.kept.range((value, (0, 0))..=(value, (u32::MAX, u64::MAX)));
        of_value.flat_map(|((_, place), (before, _))| [*place, *before]).collect()
    }

    /// Whether a process wrote a value at these places in epochs of its own choice, each later than the one before, and was told of
    /// none but the last: it sends nothing again that it heard of, and no node takes an epoch that is over.
    pub(super) fn are_anew(&self, process: u32, value: u64, places: &BTreeSet<Place>) -> bool {
        let epochs: Vec<_> = places.iter().map_while(|place| self.epoch(*place)).collect();
        self.renewing.contains(&process)
            && epochs.len() == places.len()
            && epochs.is_sorted_by(|one, next| one < next)
            && self.acked.get(&value).is_none_or(|acked| places.last() == Some(acked))
    }

    fn epoch(&self, (partition, offset): Place) -> Option<u32> {
        // 0 is unknown, 1 no epoch at all.
        self.epochs.get(&partition)?.get(offset).checked_sub(2)
    }
}
