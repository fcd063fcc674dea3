//! Leader epochs of a partition: in which terms its offsets were assigned.

use std::collections::VecDeque;

use stratalog_proto::{Offset, Term};

/// The most epochs that a partition remembers beside those of its batches above the replay frontier. Replay segments
/// have those of theirs.
pub(super) const MAX_EPOCHS: usize = 128;

/// Terms with the first offset that was assigned in each, both ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    starts: VecDeque<(Term, Offset)>,
}

impl Epochs {
    /// Epochs that were read back; `None` if they do not ascend.
    pub(super) fn restore(starts: Vec<(Term, Offset)>) -> Option<Self> {
        let ascends = starts.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        ascends.then(|| Self { starts: starts.into() })
    }

    /// All of them, ascending.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (Term, Offset)> {
        self.starts.iter().copied()
    }

    /// A batch at `offset` was appended in `term`. Epochs that end at or below `needed_from` may be forgotten.
    pub(super) fn append(&mut self, term: Term, offset: Offset, needed_from: Offset) {
        let newest = self.starts.back().map(|(term, _)| *term);
        assert!(newest <= Some(term), "A1: terms do not go back along the log");
        if newest == Some(term) {
            return;
        }
        self.starts.push_back((term, offset));
        while self.starts.len() > MAX_EPOCHS && self.starts[1].1 <= needed_from {
            self.starts.pop_front();
        }
    }

    /// Forgets the epochs that end at or below `offset`.
    pub(super) fn forget_below(&mut self, offset: Offset) {
        while self.starts.len() > 1 && self.starts[1].1 <= offset {
            self.starts.pop_front();
        }
    }

    /// The term in which `offset` was assigned, if it is remembered.
    pub(super) fn of(&self, offset: Offset) -> Option<Term> {
        let after = self.starts.partition_point(|(_, first)| *first <= offset);
        Some(self.starts[after.checked_sub(1)?].0)
    }

    /// The newest epoch not above `asked`, and where it ends; the last one ends at `high_watermark`.
    pub(super) fn end_of(&self, asked: Term, high_watermark: Offset) -> Option<(Term, Offset)> {
        let after = self.starts.partition_point(|(term, _)| *term <= asked);
        let (term, _) = self.starts[after.checked_sub(1)?];
        Some((term, self.starts.get(after).map_or(high_watermark, |(_, first)| *first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(starts: &[(u64, u64)]) -> Epochs {
        let mut epochs = Epochs::default();
        starts.iter().for_each(|(term, first)| epochs.append(Term(*term), Offset(*first), Offset(0)));
        epochs
    }

    #[test]
    fn an_offset_has_the_epoch_that_began_last_before_it() {
        let epochs = epochs(&[(1, 0), (1, 5), (4, 10)]);
        let of = |offset| epochs.of(Offset(offset)).map(|term| term.0);
        assert_eq!([0, 9, 10, 99].map(of), [Some(1), Some(1), Some(4), Some(4)]);
        assert_eq!(epochs.iter().len(), 2);
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_began() {
        let epochs = epochs(&[(2, 0), (4, 10)]);
        let end = |asked| epochs.end_of(Term(asked), Offset(15)).map(|(term, end)| (term.0, end.0));
        assert_eq!([1, 2, 3, 4, 9].map(end), [None, Some((2, 10)), Some((2, 10)), Some((4, 15)), Some((4, 15))]);
    }

    #[test]
    fn the_oldest_epochs_are_forgotten_unless_a_batch_in_the_log_needs_them() {
        let mut epochs = Epochs::default();
        let most = MAX_EPOCHS as u64;
        (0..most + 10).for_each(|n| epochs.append(Term(n), Offset(n), Offset(0)));
        assert_eq!(epochs.iter().len() as u64, most + 10, "none of them ends below the first batch in the log");
        epochs.append(Term(most + 10), Offset(most + 10), Offset(5));
        assert_eq!(epochs.iter().next(), Some((Term(5), Offset(5))));
        epochs.forget_below(Offset(most));
        assert_eq!((epochs.of(Offset(most)), epochs.of(Offset(most - 1))), (Some(Term(most)), None));
    }

    #[test]
    fn x1_epochs_that_do_not_ascend_are_refused() {
        let pair = |term, first| (Term(term), Offset(first));
        assert!(Epochs::restore(vec![pair(1, 0), pair(2, 5)]).is_some());
        assert!(Epochs::restore(vec![pair(2, 0), pair(2, 5)]).is_none());
        assert!(Epochs::restore(vec![pair(1, 5), pair(2, 5)]).is_none());
    }
}
