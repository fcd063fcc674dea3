//! Which entries of a group's log are there.

use stratalog_proto::{RaftIndex, Term};

use crate::{FrameKind, RecoveredFrame};

/// A truncate that keeps no entry has this index.
const KEEPS_NONE: RaftIndex = RaftIndex(u64::MAX);

/// Entries without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: RaftIndex,
    last: RaftIndex,
}

/// The entries of one group, as its frames come by.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    spans: Vec<Span>,
    /// A purge said that the log goes on behind this entry.
    purged: Option<RaftIndex>,
    term: Term,
}

impl Spans {
    /// Takes the next frame of the group; returns what is wrong with it.
    pub(super) fn take(&mut self, frame: &RecoveredFrame) -> Option<String> {
        match frame.kind {
            FrameKind::Truncate => self.truncate(frame.index),
            FrameKind::Purge => self.purged = self.purged.max(Some(frame.index)),
            FrameKind::Blank | FrameKind::Normal | FrameKind::Membership => return self.entry(frame),
        }
        None
    }

    fn entry(&mut self, frame: &RecoveredFrame) -> Option<String> {
        let index = frame.index;
        let older_term = frame.term < self.term;
        self.term = self.term.max(frame.term);
        let last = self.spans.last().map(|span| span.last);
        let wrong = match last {
            Some(last) if index <= last => {
                Some(format!("entry {index} follows entry {last}, and no truncate lies between"))
            }
            Some(last) if index.0 == last.0 + 1 => None,
            Some(last) if self.purged.is_none_or(|purged| purged.0 + 1 != index.0) => {
                Some(format!("entries {} to {} are missing before entry {index}", last.0 + 1, index.0 - 1))
            }
            _ => None,
        };
        match self.spans.last_mut() {
            Some(span) if index.0 == span.last.0.wrapping_add(1) => span.last = index,
            _ => self.spans.push(Span { first: index, last: index }),
        }
        wrong.or_else(|| {
            older_term.then(|| format!("entry {index} is of term {}, one before it of term {}", frame.term, self.term))
        })
    }

    /// The entries above `kept` are void.
    fn truncate(&mut self, kept: RaftIndex) {
        self.term = Term(0);
        if kept == KEEPS_NONE {
            self.spans.clear();
            return;
        }
        self.spans.retain(|span| span.first <= kept);
        if let Some(span) = self.spans.last_mut() {
            span.last = span.last.min(kept);
        }
    }

    /// The last entries without a gap: the first and the last of them.
    pub(super) fn last(&self) -> Option<(RaftIndex, RaftIndex)> {
        self.spans.last().map(|span| (span.first, span.last))
    }

    /// What is missing of the entries above `frontier` up to `through`.
    pub(super) fn missing(&self, frontier: RaftIndex, through: RaftIndex) -> Option<(RaftIndex, RaftIndex)> {
        if frontier >= through {
            return None;
        }
        let mut next = frontier.0 + 1;
        for span in &self.spans {
            if span.first.0 <= next && next <= span.last.0 {
                next = span.last.0 + 1;
            }
        }
        (next <= through.0).then_some((RaftIndex(next), through))
    }
}

#[cfg(test)]
mod tests {
    use stratalog_proto::{ReplicaId, ShardId};

    use super::*;
    use crate::LanePos;

    fn frame(kind: FrameKind, index: u64) -> RecoveredFrame {
        let pos = LanePos { file: 1, offset: 0, len: 0 };
        let (shard, replica) = (ShardId(1), ReplicaId(1));
        RecoveredFrame { shard, term: Term(2), replica, index: RaftIndex(index), kind, pos }
    }

    fn entries(spans: &mut Spans, indexes: impl IntoIterator<Item = u64>) -> Vec<String> {
        indexes.into_iter().filter_map(|index| spans.take(&frame(FrameKind::Normal, index))).collect()
    }

    #[test]
    fn a_log_may_start_anywhere_and_has_no_gaps() {
        let mut spans = Spans::default();
        assert!(entries(&mut spans, 7..10).is_empty());
        assert_eq!(entries(&mut spans, [12]), ["entries 10 to 11 are missing before entry 12"]);
        assert_eq!(spans.last(), Some((RaftIndex(12), RaftIndex(12))));
        assert_eq!(entries(&mut spans, [11]).len(), 1, "an entry that goes back");
    }

    #[test]
    fn a_truncate_voids_what_lies_above_it() {
        let mut spans = Spans::default();
        entries(&mut spans, 1..10);
        assert_eq!(spans.take(&frame(FrameKind::Truncate, 4)), None);
        assert_eq!(spans.last(), Some((RaftIndex(1), RaftIndex(4))));
        assert!(entries(&mut spans, 5..7).is_empty());
        spans.take(&frame(FrameKind::Truncate, u64::MAX));
        assert_eq!(spans.last(), None);
        assert!(entries(&mut spans, 0..2).is_empty());
    }

    #[test]
    fn a_log_goes_on_behind_a_purge_and_back_before_it() {
        let mut spans = Spans::default();
        entries(&mut spans, 1..=4);
        spans.take(&frame(FrameKind::Purge, 100));
        assert!(entries(&mut spans, 101..=105).is_empty());
        assert_eq!(spans.last(), Some((RaftIndex(101), RaftIndex(105))));
        spans.take(&frame(FrameKind::Truncate, 4));
        assert_eq!(spans.last(), Some((RaftIndex(1), RaftIndex(4))));
    }

    #[test]
    fn the_log_above_the_frontier_has_to_be_there() {
        let mut spans = Spans::default();
        entries(&mut spans, 5..=9);
        assert_eq!(spans.missing(RaftIndex(4), RaftIndex(9)), None);
        assert_eq!(spans.missing(RaftIndex(9), RaftIndex(9)), None);
        assert_eq!(spans.missing(RaftIndex(4), RaftIndex(12)), Some((RaftIndex(10), RaftIndex(12))));
        assert_eq!(spans.missing(RaftIndex(2), RaftIndex(9)), Some((RaftIndex(3), RaftIndex(9))));
    }
}
