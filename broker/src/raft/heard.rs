//! What the leaders of a group said of how far it is, and with that: how fresh is what a replica has applied.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Between two marks. A leader is heard of more often while there is something to replicate.
const APART: Duration = Duration::from_millis(250);
/// Marks that are kept. Who has not applied the oldest of them is behind by seconds.
const MARKS: usize = 16;

/// What leaders said, as one replica heard it.
#[derive(Debug, Default)]
pub(super) struct Heard {
    last: Option<Instant>,
    /// The highest index that any of them said is committed.
    committed: u64,
    /// Up to where everything was committed at some moment, newest last.
    marks: VecDeque<(Instant, u64)>,
}

impl Heard {
    /// Somebody who may lead says that entries up to this one are committed. It counts once it was
    /// [answered](Self::answered): one that leads no more knows of less, and is refused.
    pub(super) fn says(&mut self, committed: u64) {
        self.committed = self.committed.max(committed);
    }

    /// What a leader said was taken from it, so that it is the leader of the newest term. It knew what is committed when it
    /// said that, and not when the answer went out, which may be a slow write of this disk later.
    pub(super) fn answered(&mut self, said: Instant, now: Instant) {
        self.last = Some(now);
        if self.marks.back().is_some_and(|(at, _)| said.saturating_duration_since(*at) < APART) {
            return;
        }
        if self.marks.len() == MARKS {
            self.marks.pop_front();
        }
        self.marks.push_back((said, self.committed));
    }

    /// When a leader was heard of last.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// How long ago nothing was committed that lies above `applied`; `None` if that is longer ago than is remembered.
    pub(super) fn age_of(&self, applied: u64, now: Instant) -> Option<Duration> {
        let (at, _) = self.marks.iter().rev().find(|(_, committed)| *committed <= applied)?;
        Some(now.duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_applied_is_as_fresh_as_the_newest_mark_that_it_reaches() {
        let (mut heard, start) = (Heard::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(heard.age_of(100, start), None, "nobody said anything");
        for (millis, committed) in [(0, 5), (300, 7), (310, 9), (600, 20)] {
            heard.says(committed);
            heard.answered(at(millis), at(millis));
        }
        let age = |applied| heard.age_of(applied, at(1_000)).map(|age| age.as_millis());
        assert_eq!([age(20), age(9), age(7), age(5), age(4)], [Some(400), Some(700), Some(700), Some(1_000), None]);
        assert_eq!(heard.last(), Some(at(600)));
    }

    #[test]
    fn a_replica_that_is_cut_off_grows_old_whatever_it_has_applied() {
        let (mut heard, start) = (Heard::default(), Instant::now());
        heard.says(5);
        heard.answered(start, start);
        heard.says(3);
        assert_eq!(heard.age_of(5, start + Duration::from_secs(9)), Some(Duration::from_secs(9)));
        let later = start + Duration::from_secs(9);
        heard.answered(later, later);
        assert_eq!(heard.age_of(3, start + Duration::from_secs(9)), None, "what was committed once stays it");
    }

    #[test]
    fn what_was_answered_late_is_as_old_as_what_was_said() {
        let (mut heard, start) = (Heard::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        heard.says(5);
        heard.answered(start, at(3));
        assert_eq!(heard.age_of(5, at(4)), Some(Duration::from_secs(4)));
        assert_eq!(heard.last(), Some(at(3)));
        heard.says(9);
        heard.answered(at(5), at(5));
        heard.says(9);
        heard.answered(at(2), at(6));
        assert_eq!(heard.age_of(9, at(6)), Some(Duration::from_secs(1)), "marks stay in their order");
    }

    #[test]
    fn x1_marks_are_bounded() {
        let (mut heard, start) = (Heard::default(), Instant::now());
        (0..1_000).for_each(|n| {
            heard.says(n);
            let now = start + APART * n as u32;
            heard.answered(now, now);
        });
        assert_eq!(heard.marks.len(), MARKS);
    }
}
