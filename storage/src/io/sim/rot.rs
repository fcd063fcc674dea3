//! Damage to bytes that were durable.

use std::ops::Range;
use std::path::Path;

use super::SimDisk;
use super::content::{Content, SECTOR, put_sector, sector_of, sectors};
use super::dice::Dice;

/// What a medium does to bytes that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rot {
    /// One bit is another.
    Flip,
    /// A sector reads as zeroes.
    Zero,
    /// A sector holds what it held before its last change; only where it had been written before.
    Stale,
    /// Two sectors have changed places.
    Swap,
}

impl Rot {
    /// All kinds.
    pub const ALL: [Rot; 4] = [Rot::Flip, Rot::Zero, Rot::Stale, Rot::Swap];
}

impl SimDisk {
    /// Damages a file within `range`, where the disk's seed says. Returns the place of the sectors that changed, in bytes;
    /// `None` if nothing did, for example because a sector of zeroes was to be zeroed.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn rot(&self, path: &Path, kind: Rot, range: Range<u64>) -> Option<Range<u64>> {
        let mut dice = self.faults.lock().dice().fork();
        let mut world = self.world.lock();
        let id = world.names.get(path).unwrap_or_else(|| panic!("{} is not there", path.display()));
        let content = world.file(id);
        let end = range.end.min(content.len() as u64);
        if range.start >= end {
            return None;
        }
        let hurt = match kind {
            Rot::Flip => flip(content, range.start..end, &mut dice),
            Rot::Zero => replace(content, range.start..end, &mut dice, |_, _| Some([0; SECTOR])),
            Rot::Stale => {
                replace(content, range.start..end, &mut dice, |content, n| content.version_before(n).copied())
            }
            Rot::Swap => swap(content, range.start..end, &mut dice),
        };
        hurt.map(|sectors| (sectors.start * SECTOR) as u64..(sectors.end * SECTOR) as u64)
    }
}

fn flip(content: &mut Content, range: Range<u64>, dice: &mut Dice) -> Option<Range<usize>> {
    let (at, bit) = (dice.within(range) as usize, dice.below(8));
    content.edit(|bytes| bytes[at] ^= 1 << bit);
    Some(at / SECTOR..at / SECTOR + 1)
}

/// Puts something else into one of the sectors for which there is something else.
fn replace(
    content: &mut Content,
    range: Range<u64>,
    dice: &mut Dice,
    other: impl Fn(&Content, usize) -> Option<[u8; SECTOR]>,
) -> Option<Range<usize>> {
    let differs = |n: &usize| other(content, *n).is_some_and(|other| content.sector(*n) != other);
    let candidates: Vec<usize> = sectors(range.start as usize..range.end as usize).filter(differs).collect();
    let n = *dice.pick(&candidates)?;
    let other = other(content, n)?;
    content.edit(|bytes| put_sector(bytes, n, &other));
    Some(n..n + 1)
}

fn swap(content: &mut Content, range: Range<u64>, dice: &mut Dice) -> Option<Range<usize>> {
    let all: Vec<usize> = sectors(range.start as usize..range.end as usize).collect();
    let (one, other) = (*dice.pick(&all)?, *dice.pick(&all)?);
    let (first, last) = (one.min(other), one.max(other));
    if content.sector(first) == content.sector(last) {
        return None;
    }
    content.edit(|bytes| {
        let (a, b) = (sector_of(bytes, first), sector_of(bytes, last));
        put_sector(bytes, first, &b);
        put_sector(bytes, last, &a);
    });
    Some(first..last + 1)
}
