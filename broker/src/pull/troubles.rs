//! What a replica could not fetch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::{Error, SegmentId};
use tokio::time::Instant;

use crate::trouble::Trouble;

/// After so many failures the others wait for another time, too, if it took so long: perhaps nobody can be reached. Who answers at
/// once that it does not have a segment is asked for all of them.
const MAX_SLOW_FAILURES: usize = 4;
const SLOW: Duration = Duration::from_secs(2);

/// What failed of all that was tried at a time.
pub(crate) struct Round {
    began: Instant,
    failed: Vec<(SegmentId, Error)>,
}

impl Round {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), failed: Vec::new() }
    }

    pub(crate) fn failed(&mut self, segment: SegmentId, error: Error) {
        self.failed.push((segment, error));
    }

    /// Whether the rest is to wait.
    pub(crate) fn is_vain(&self) -> bool {
        self.failed.len() >= MAX_SLOW_FAILURES && self.began.elapsed() >= SLOW
    }

    /// Whether nothing failed.
    pub(crate) fn went_well(&self) -> bool {
        self.failed.is_empty()
    }
}

/// The failures of one replica.
#[derive(Default)]
pub(crate) struct Troubles {
    all: Trouble,
    /// Of each segment that is still missing and has failed.
    failures: HashMap<SegmentId, Failures>,
}

/// How often a segment has failed, and since when.
struct Failures {
    times: u32,
    since: Instant,
}

impl Troubles {
    /// What of all that is missing is to be tried now, those last that failed most often. After a failure those that failed
    /// wait for a while, and the others do not.
    pub(crate) fn due<M>(&mut self, mut missing: Vec<Arc<M>>, id: impl Fn(&M) -> SegmentId) -> Vec<Arc<M>> {
        let mut failures = std::mem::take(&mut self.failures);
        self.failures = missing.iter().filter_map(|meta| failures.remove_entry(&id(meta))).collect();
        let failed = |meta: &Arc<M>| self.failures.get(&id(meta)).map_or(0, |failures| failures.times);
        if self.all.is_waiting() {
            missing.retain(|meta| failed(meta) == 0);
        }
        missing.sort_by_key(failed);
        missing
    }

    /// The segments that have failed so often, for so long, and are still missing.
    pub(crate) fn failed_for(&self, times: u32, long: Duration) -> impl Iterator<Item = SegmentId> {
        let is_old = move |failures: &Failures| failures.times >= times && failures.since.elapsed() >= long;
        self.failures.iter().filter(move |(_, failures)| is_old(failures)).map(|(segment, _)| *segment)
    }

    /// What failed in a round; the first of it if that is news.
    pub(crate) fn note<'a>(&mut self, round: &'a Round) -> Option<&'a (SegmentId, Error)> {
        for (segment, _) in &round.failed {
            let failures = self.failures.entry(*segment).or_insert_with(|| Failures { times: 0, since: round.began });
            failures.times += 1;
        }
        match round.failed.first() {
            Some(first) => self.all.failed(&first.1).then_some(first),
            None if self.all.is_waiting() => None,
            None => {
                self.all.is_over();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use stratalog_proto::Code;
    use uuid::Uuid;

    use super::*;

    fn segment(number: u128) -> SegmentId {
        SegmentId(Uuid::from_u128(number))
    }

    fn all_fail(due: &[Arc<SegmentId>]) -> Round {
        let mut round = Round::begin();
        due.iter().for_each(|id| round.failed(**id, Error::new(Code::Unavailable, "it is not on this node")));
        round
    }

    #[tokio::test(start_paused = true)]
    async fn l5_however_many_segments_nobody_has_all_of_them_are_known_as_lost_in_half_a_minute() {
        let (mut troubles, began) = (Troubles::default(), Instant::now());
        let missing: Vec<_> = (0..1_000).map(|number| Arc::new(segment(number))).collect();
        let lost = |troubles: &Troubles| troubles.failed_for(3, Duration::from_secs(30)).count();
        while lost(&troubles) < missing.len() {
            assert_eq!(lost(&troubles), 0, "all at once, so that their rows are made again together");
            let due = troubles.due(missing.clone(), |id| *id);
            let round = all_fail(&due);
            assert!(!round.is_vain());
            if !due.is_empty() {
                troubles.note(&round);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((30..40).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        troubles.due(missing[..10].to_vec(), |id| *id);
        assert_eq!(lost(&troubles), 10, "what is there again is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_in_which_nobody_answers_ends_early() {
        let mut round = Round::begin();
        for number in 0..3 {
            tokio::time::advance(SLOW).await;
            round.failed(segment(number), Error::new(Code::Unavailable, "nothing has come"));
            assert!(!round.is_vain() && !round.went_well());
        }
        round.failed(segment(3), Error::new(Code::Unavailable, "nothing has come"));
        assert!(round.is_vain());
    }
}
