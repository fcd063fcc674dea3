//! What a group knows of its log without reading the disk: where each entry lies, its term, and the payloads that are
//! not yet durable or were written a short while ago.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};

use bytes::Bytes;
use stratalog_storage::{FrameKind, LanePos};

/// Where an entry lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) pos: LanePos,
    pub(super) kind: FrameKind,
}

/// An entry as far as memory knows it.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) slot: Slot,
    /// `None`: it is durable, read it from the lane.
    pub(super) payload: Option<Bytes>,
}

/// From this index on, entries have this term.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    term: u64,
}

/// A payload in memory, and the number of the append that wrote it.
#[derive(Debug)]
struct Cached {
    payload: Bytes,
    append: u64,
}

/// Bytes of a frame's header in the lane, to count what entries take there.
const FRAME_HEADER_BYTES: u64 = 48;

/// A contiguous log: entries `first..first + slots.len()`; the newest payloads are also in memory.
#[derive(Debug, Default)]
pub(super) struct LogIndex {
    /// (term, index) of the entry before the first one; `None` if the log never let go of an entry.
    base: Option<(u64, u64)>,
    /// (term, index) up to which Raft no longer reads; at or above `base`.
    marker: Option<(u64, u64)>,
    first: u64,
    slots: VecDeque<Slot>,
    runs: VecDeque<Run>,
    /// What the entries take in the lane.
    bytes: u64,
    /// Payloads of the last `cache.len()` entries.
    cache: VecDeque<Cached>,
    cached_bytes: usize,
    /// Appends up to this number are durable.
    flushed: u64,
}

impl LogIndex {
    /// A log without entries that goes on after (term, index).
    pub(super) fn after(term: u64, index: u64) -> Self {
        let base = Some((term, index));
        Self { base, marker: base, first: index + 1, ..Self::default() }
    }

    /// (term, index) up to which Raft no longer reads.
    pub(super) fn marker(&self) -> Option<(u64, u64)> {
        self.marker
    }

    /// (term, index) of the entry before the first one.
    pub(super) fn base(&self) -> Option<(u64, u64)> {
        self.base
    }

    /// (term, index) of the last entry, held or not.
    pub(super) fn last(&self) -> Option<(u64, u64)> {
        match self.slots.len() {
            0 => self.base,
            _ => Some((self.term_of(self.next() - 1), self.next() - 1)),
        }
    }

    /// The index after the last entry.
    pub(super) fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The index of the first entry that is held, or would be.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// What the entries take in the lane, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The lane file of the first entry.
    pub(super) fn first_file(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.pos.file)
    }

    /// Why an entry with this index cannot follow, if it cannot.
    pub(super) fn objection(&self, index: u64) -> Option<String> {
        let expected = self.next();
        let begins = self.slots.is_empty() && self.base.is_none();
        (index != expected && !begins).then(|| format!("entry {index} came where entry {expected} was expected"))
    }

    /// Adds an entry that is durable already, or in memory with the number of its append.
    ///
    /// # Panics
    /// If the entry does not follow: a log must not have holes.
    pub(super) fn push(&mut self, index: u64, term: u64, slot: Slot, in_memory: Option<(Bytes, u64)>) {
        assert_eq!(self.objection(index), None, "L2: the log has no holes");
        if self.slots.is_empty() {
            self.first = index;
            self.runs.clear();
        }
        if self.runs.back().is_none_or(|run| run.term != term) {
            self.runs.push_back(Run { first: index, term });
        }
        self.bytes += frame_bytes(&slot);
        self.slots.push_back(slot);
        match in_memory {
            Some((payload, append)) => {
                self.cached_bytes += payload.len();
                self.cache.push_back(Cached { payload, append });
            }
            None => self.clear_cache(),
        }
    }

    /// Removes the entries above `last`; all of them for `None`.
    ///
    /// # Panics
    /// If that would take back entries that the log has let go of: they were committed.
    pub(super) fn truncate_after(&mut self, last: Option<u64>) {
        assert!(last >= self.base.map(|(_, index)| index), "L2: {last:?} is below the log's start, {:?}", self.base);
        let keep = last.map_or(0, |last| (last + 1).saturating_sub(self.first)) as usize;
        let gone = self.slots.len().saturating_sub(keep);
        for cached in self.cache.drain(self.cache.len().saturating_sub(gone)..) {
            self.cached_bytes -= cached.payload.len();
        }
        self.bytes -= self.slots.drain(self.slots.len() - gone..).map(|slot| frame_bytes(&slot)).sum::<u64>();
        let next = self.next();
        while self.runs.back().is_some_and(|run| run.first >= next) {
            self.runs.pop_back();
        }
    }

    /// Raft no longer reads the entries up to and including `index`, which the log has. They stay.
    pub(super) fn mark(&mut self, term: u64, index: u64) {
        self.marker = self.marker.max(Some((term, index)));
    }

    /// Makes the log go on after (term, index), without any entry.
    pub(super) fn jump(&mut self, term: u64, index: u64) {
        let flushed = self.flushed;
        *self = Self { flushed, ..Self::after(term, index) };
    }

    /// Makes a log that was read back begin after (term, index), which it has or begins after.
    pub(super) fn begin_after(&mut self, term: u64, index: u64) {
        self.mark(term, index);
        self.release(index);
        self.base = Some((term, index));
        self.first = index + 1;
    }

    /// Removes the entries up to and including `index`, which has to be marked.
    pub(super) fn release(&mut self, index: u64) {
        if index < self.first || self.slots.is_empty() {
            return;
        }
        let index = index.min(self.next() - 1);
        assert!(self.marker.is_some_and(|(_, marker)| index <= marker), "L4: Raft still reads entry {index}");
        let base = (self.term_of(index), index);
        let gone = (index + 1 - self.first) as usize;
        self.bytes -= self.slots.drain(..gone).map(|slot| frame_bytes(&slot)).sum::<u64>();
        self.first = index + 1;
        while self.cache.len() > self.slots.len() {
            self.pop_cached();
        }
        while self.runs.len() > 1 && self.runs[1].first <= self.first {
            self.runs.pop_front();
        }
        self.base = Some(base);
    }

    /// The term of an entry, or of the last entry before it.
    pub(super) fn term_of(&self, index: u64) -> u64 {
        let after = self.runs.partition_point(|run| run.first <= index);
        let before = self.base.filter(|(_, base)| *base <= index).map_or(0, |(term, _)| term);
        after.checked_sub(1).map_or(before, |run| self.runs[run].term)
    }

    /// Whether the log has exactly this entry, or let go of it last.
    pub(super) fn has(&self, term: u64, index: u64) -> bool {
        self.base == Some((term, index)) || (self.first..self.next()).contains(&index) && self.term_of(index) == term
    }

    /// The last entry of each run of one term within `range`, which the log has to hold.
    pub(super) fn run_ends(&self, range: RangeInclusive<u64>) -> Vec<(u64, u64)> {
        let within = |index: &u64| range.contains(index);
        let ends = self.runs.iter().skip(1).map(|run| run.first - 1).filter(within);
        let mut ends: Vec<u64> = ends.filter(|end| end != range.end()).collect();
        ends.push(*range.end());
        ends.into_iter().map(|end| (self.term_of(end), end)).collect()
    }

    /// The number of the append that has yet to become durable before entry `index` is.
    pub(super) fn append_of(&self, index: u64) -> Option<u64> {
        let last = self.next().checked_sub(1)?.min(index);
        let place = last.checked_sub(self.next() - self.cache.len() as u64)?;
        Some(self.cache[place as usize].append).filter(|append| *append > self.flushed)
    }

    /// What each entry above `after`, up to `through`, takes in the lane, in bytes; ascending. Those that are not held are
    /// left out.
    pub(super) fn sizes(&self, after: u64, through: u64) -> impl Iterator<Item = u64> {
        let place = |index: u64| index.saturating_sub(self.first).min(self.slots.len() as u64) as usize;
        let (first, end) = (place(after + 1), place(through + 1));
        self.slots.range(first.min(end)..end).map(frame_bytes)
    }

    /// The lane file of an entry.
    pub(super) fn file_of(&self, index: u64) -> Option<u64> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.slots.get(place).map(|slot| slot.pos.file)
    }

    /// One entry.
    pub(super) fn get(&self, index: u64) -> Option<Located> {
        let slot = *self.slots.get(usize::try_from(index.checked_sub(self.first)?).ok()?)?;
        let in_cache = index.checked_sub(self.next() - self.cache.len() as u64);
        let payload = in_cache.map(|place| self.cache[place as usize].payload.clone());
        Some(Located { index, term: self.term_of(index), slot, payload })
    }

    /// The entries of a range that the log has, until their payloads exceed `max_bytes`; at least one if there is one.
    pub(super) fn range(&self, range: Range<u64>, max_bytes: usize) -> Vec<Located> {
        let mut bytes = 0usize;
        let present = range.start.max(self.first)..range.end.min(self.next());
        let within = |entry: &Located| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(entry.slot.pos.len.max(1) as usize);
            first || bytes <= max_bytes
        };
        present.filter_map(|index| self.get(index)).take_while(within).collect()
    }

    /// The appends up to `append` are durable: their payloads may leave memory while it holds over `budget_bytes`.
    pub(super) fn flushed(&mut self, append: u64, budget_bytes: usize) {
        self.flushed = self.flushed.max(append);
        self.evict(budget_bytes);
    }

    /// Lets durable payloads go, oldest first, until the rest fits `budget_bytes`.
    pub(super) fn evict(&mut self, budget_bytes: usize) {
        let flushed = self.flushed;
        while self.cached_bytes > budget_bytes && self.cache.front().is_some_and(|cached| cached.append <= flushed) {
            self.pop_cached();
        }
    }

    fn pop_cached(&mut self) {
        if let Some(cached) = self.cache.pop_front() {
            self.cached_bytes -= cached.payload.len();
        }
    }

    fn clear_cache(&mut self) {
        self.cache.clear();
        self.cached_bytes = 0;
    }
}

fn frame_bytes(slot: &Slot) -> u64 {
    FRAME_HEADER_BYTES + u64::from(slot.pos.len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(len: u32) -> Slot {
        Slot { pos: LanePos { file: 1, offset: 0, len }, kind: FrameKind::Normal }
    }

    fn log(terms: &[u64], append: impl Fn(u64) -> u64) -> LogIndex {
        let mut index = LogIndex::default();
        for (at, term) in terms.iter().enumerate() {
            let at = at as u64 + 1;
            index.push(at, *term, slot(10), Some((Bytes::from(vec![at as u8; 10]), append(at))));
        }
        index
    }

    #[test]
    fn terms_follow_appends_truncations_and_releases() {
        let mut index = log(&[1, 1, 2, 2, 5], |_| 1);
        assert_eq!((1..=5).map(|i| index.term_of(i)).collect::<Vec<_>>(), [1, 1, 2, 2, 5]);
        index.truncate_after(Some(3));
        assert_eq!(index.last(), Some((2, 3)));
        index.push(4, 6, slot(1), Some((Bytes::new(), 2)));
        index.mark(1, 2);
        assert!(index.get(1).is_some(), "the marker frees nothing");
        index.release(2);
        assert_eq!((index.base(), index.term_of(3), index.last()), (Some((1, 2)), 2, Some((6, 4))));
        assert_eq!(index.run_ends(3..=4), [(2, 3), (6, 4)]);
        index.mark(6, 4);
        index.release(4);
        assert_eq!((index.last(), index.bytes()), (Some((6, 4)), 0));
        assert!(index.objection(6).is_some() && index.objection(5).is_none());
    }

    #[test]
    #[should_panic(expected = "L4")]
    fn l4_an_entry_that_raft_reads_is_not_released() {
        let mut index = log(&[1, 1, 1], |_| 1);
        index.mark(1, 1);
        index.release(2);
    }

    #[test]
    #[should_panic(expected = "L2")]
    fn l2_a_truncation_below_the_logs_start_is_refused() {
        let mut index = log(&[1, 1, 1], |_| 1);
        index.mark(1, 2);
        index.release(2);
        index.truncate_after(Some(1));
    }

    #[test]
    fn an_entry_waits_for_its_append_until_that_is_durable() {
        let mut index = log(&[1, 1, 1], |at| at);
        assert_eq!((index.append_of(2), index.append_of(9)), (Some(2), Some(3)));
        index.flushed(2, 0);
        assert_eq!((index.append_of(2), index.append_of(3)), (None, Some(3)));
    }

    #[test]
    fn only_durable_payloads_leave_memory() {
        let mut index = log(&[1, 1, 1, 1], |at| at);
        index.evict(0);
        assert!(index.get(1).unwrap().payload.is_some(), "not yet durable");
        index.flushed(2, 15);
        let in_memory: Vec<bool> = (1..=4).map(|i| index.get(i).unwrap().payload.is_some()).collect();
        assert_eq!(in_memory, [false, false, true, true]);
        index.flushed(4, 15);
        assert_eq!(index.get(4).unwrap().payload.unwrap(), Bytes::from(vec![4; 10]));
        assert!(index.get(3).unwrap().payload.is_none());
    }

    #[test]
    fn an_entry_rewritten_after_a_truncation_is_not_taken_for_the_flushed_one() {
        let mut index = log(&[1, 1, 1], |at| at);
        index.truncate_after(Some(1));
        index.push(2, 2, slot(10), Some((Bytes::from(vec![9; 10]), 4)));
        index.flushed(3, 0);
        assert_eq!(index.get(2).unwrap().payload.unwrap(), Bytes::from(vec![9; 10]));
    }

    #[test]
    fn a_range_is_cut_by_bytes_and_never_empty() {
        let index = log(&[1; 6], |_| 1);
        assert_eq!(index.range(0..100, 25).len(), 2);
        assert_eq!(index.range(3..100, 1).len(), 1);
        assert_eq!(index.range(7..100, 1).len(), 0);
        assert_eq!(index.range(2..4, 1_000).len(), 2);
    }
}
