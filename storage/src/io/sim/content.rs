//! One file: as programs see it, and as the medium would give it back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A sector is written whole or not at all; everything larger may be torn.
pub(super) const SECTOR: usize = 512;
/// The most versions of a sector between two syncs that may survive, besides the oldest and the newest.
const MAX_BETWEEN: usize = 3;

type Sector = [u8; SECTOR];

#[derive(Clone, Default)]
pub(super) struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that were written and not synced, with what they held in between if they were written more than once.
    dirty: BTreeMap<usize, Vec<Sector>>,
    /// Sectors of which a sync failed: clean in memory, perhaps not on the medium, and no later sync helps.
    doubtful: BTreeSet<usize>,
    /// Sectors whose last write never reached the medium, though it was acknowledged and synced.
    lost: BTreeSet<usize>,
    /// What sectors held before the sync that replaced it.
    before: BTreeMap<usize, Sector>,
    /// How many have the file open.
    pub(super) handles: usize,
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    pub(super) fn get(&self, range: Range<u64>) -> Option<&[u8]> {
        self.now.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
    }

    pub(super) fn sector(&self, n: usize) -> [u8; SECTOR] {
        sector_of(&self.now, n)
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.touch(offset..end);
        self.extend(end);
        self.now[offset..end].copy_from_slice(bytes);
    }

    /// Writes zeroes over a range, as far as the file goes.
    pub(super) fn zero(&mut self, range: Range<usize>) {
        let range = range.start.min(self.len())..range.end.min(self.len());
        self.touch(range.clone());
        self.now[range].fill(0);
    }

    /// Makes the file at least `len` bytes long.
    pub(super) fn extend(&mut self, len: usize) {
        self.now.resize(self.now.len().max(len), 0);
    }

    /// Cuts or extends the file.
    pub(super) fn set_len(&mut self, len: usize) {
        self.touch(len..self.len().max(len));
        self.now.resize(len, 0);
    }

    /// All bytes as they are on the medium, to change them there.
    pub(super) fn edit<R>(&mut self, edit: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let before = self.now.clone();
        let result = edit(&mut self.now);
        self.durable.resize(self.now.len(), 0);
        for n in 0..self.now.len().div_ceil(SECTOR) {
            let edited = sector_of(&self.now, n);
            if edited != sector_of(&before, n) {
                put_sector(&mut self.durable, n, &edited);
            }
        }
        result
    }

    /// What was written becomes durable, unless the medium lies.
    pub(super) fn sync(&mut self) {
        let known = self.durable.len();
        self.durable.resize(self.now.len(), 0);
        for n in std::mem::take(&mut self.dirty).into_keys() {
            let (old, new) = (sector_of(&self.durable, n), sector_of(&self.now, n));
            if old == new || self.lost.contains(&n) {
                continue;
            }
            if n * SECTOR < known {
                self.before.insert(n, old);
            }
            put_sector(&mut self.durable, n, &new);
        }
    }

    /// A sync that failed: the pages are clean now, and nobody knows what the medium has of them.
    pub(super) fn fail_sync(&mut self) {
        self.doubtful.extend(std::mem::take(&mut self.dirty).into_keys());
    }

    /// The sectors of a range lose their write at the next restart, though syncs go well.
    pub(super) fn lose(&mut self, range: Range<usize>) {
        self.lost.extend(sectors(range));
    }

    /// What a sector held before the last sync that changed it.
    pub(super) fn version_before(&self, n: usize) -> Option<&Sector> {
        self.before.get(&n)
    }

    /// The file after the process died: all that was written, but for writes that were lost.
    pub(super) fn after_kill(mut self) -> Content {
        for n in std::mem::take(&mut self.lost) {
            let durable = sector_of(&self.durable, n);
            put_sector(&mut self.now, n, &durable);
        }
        self.handles = 0;
        self
    }

    /// The file after the power failed. Of the length, and of each sector that may differ, `choose` is given the number of
    /// versions and names the one that survives: 0 is the oldest.
    pub(super) fn after_power_cut(&self, choose: &mut impl FnMut(usize) -> usize) -> Content {
        let lengths = [self.durable.len(), self.now.len()];
        let len = if lengths[0] == lengths[1] { lengths[0] } else { lengths[choose(2)] };
        let mut left = self.durable.clone();
        left.resize(len, 0);
        let uncertain: BTreeSet<usize> = self.dirty.keys().chain(&self.doubtful).copied().collect();
        for n in uncertain.into_iter().filter(|n| n * SECTOR < len && !self.lost.contains(n)) {
            let versions = self.versions(n);
            if versions.len() > 1 {
                put_sector(&mut left, n, &versions[choose(versions.len())]);
            }
        }
        Content { now: left.clone(), durable: left, before: self.before.clone(), ..Content::default() }
    }

    /// The different contents that a sector may have after a power cut, the oldest first.
    fn versions(&self, n: usize) -> Vec<Sector> {
        let mut versions = vec![sector_of(&self.durable, n)];
        versions.extend(self.dirty.get(&n).into_iter().flatten());
        versions.push(sector_of(&self.now, n));
        versions.dedup();
        versions
    }

    /// Notes that the sectors of a range are about to change.
    fn touch(&mut self, range: Range<usize>) {
        for n in sectors(range) {
            let written_before = self.dirty.contains_key(&n) || self.doubtful.remove(&n);
            let between = self.dirty.entry(n).or_default();
            if written_before && between.len() < MAX_BETWEEN {
                between.push(sector_of(&self.now, n));
            }
            self.lost.remove(&n);
        }
    }
}

/// The numbers of the sectors that a range of bytes touches.
pub(super) fn sectors(range: Range<usize>) -> Range<usize> {
    if range.is_empty() { 0..0 } else { range.start / SECTOR..range.end.div_ceil(SECTOR) }
}

/// A sector; zeroes where the file has ended.
pub(super) fn sector_of(bytes: &[u8], n: usize) -> Sector {
    let mut sector = [0; SECTOR];
    let found = bytes.get(n * SECTOR..).unwrap_or(&[]);
    let len = found.len().min(SECTOR);
    sector[..len].copy_from_slice(&found[..len]);
    sector
}

/// Writes a sector, as far as the file goes.
pub(super) fn put_sector(bytes: &mut [u8], n: usize, sector: &Sector) {
    let place = bytes.get_mut(n * SECTOR..).unwrap_or_default();
    let len = place.len().min(SECTOR);
    place[..len].copy_from_slice(&sector[..len]);
}
