//! When entries came into this replica's log, for as long as they are not committed: how long replication takes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Entries that are timed at once. A replica that is cut off from a majority collects more, and times none of them.
const MAX_ENTRIES: usize = 4_096;

/// The index and the time of each, ascending.
#[derive(Debug, Default)]
pub(super) struct Uncommitted(Mutex<VecDeque<(u64, Instant)>>);

impl Uncommitted {
    /// An entry came, now. What had its index, or a higher one, was replaced.
    pub(super) fn appended(&self, index: u64) {
        let mut entries = self.0.lock();
        while entries.back().is_some_and(|(last, _)| *last >= index) {
            entries.pop_back();
        }
        if entries.len() < MAX_ENTRIES {
            entries.push_back((index, Instant::now()));
        }
    }

    /// An entry was committed, with all before it: how long ago it came, if it was timed.
    pub(super) fn committed(&self, index: u64) -> Option<Duration> {
        let mut entries = self.0.lock();
        while entries.front().is_some_and(|(first, _)| *first < index) {
            entries.pop_front();
        }
        let (_, since) = entries.pop_front_if(|(first, _)| *first == index)?;
        Some(since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_timed_once_and_what_it_replaced_never() {
        let uncommitted = Uncommitted::default();
        (5..9).for_each(|index| uncommitted.appended(index));
        uncommitted.appended(7);
        assert!(uncommitted.committed(6).is_some() && uncommitted.committed(6).is_none());
        assert!(uncommitted.committed(7).is_some(), "the one that took its place");
        assert!(uncommitted.committed(8).is_none(), "it was replaced");
        assert!(uncommitted.0.lock().is_empty());
    }

    #[test]
    fn x1_what_is_never_committed_takes_bounded_memory() {
        let uncommitted = Uncommitted::default();
        (0..2 * MAX_ENTRIES as u64).for_each(|index| uncommitted.appended(index));
        assert_eq!(uncommitted.0.lock().len(), MAX_ENTRIES);
        assert!(uncommitted.committed(2 * MAX_ENTRIES as u64).is_none());
        assert!(uncommitted.0.lock().is_empty());
    }
}
