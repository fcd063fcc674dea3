//! What a replica could not fetch.

use std::collections::HashMap;
use std::sync::Arc;

use stratalog_proto::{Error, SegmentId};

use crate::trouble::Trouble;

/// Segments that may fail before the others wait for another time, too: perhaps nobody can be reached.
pub(crate) const MAX_FAILURES: usize = 4;

/// The failures of one replica.
#[derive(Default)]
pub(crate) struct Troubles {
    all: Trouble,
    /// How often each segment that is still missing has failed.
    failures: HashMap<SegmentId, u32>,
}

impl Troubles {
    /// What of all that is missing is to be tried now, those last that failed most often. After a failure those that failed
    /// wait for a while, and the others do not.
    pub(crate) fn due<M>(&mut self, mut missing: Vec<Arc<M>>, id: impl Fn(&M) -> SegmentId) -> Vec<Arc<M>> {
        let mut failures = std::mem::take(&mut self.failures);
        self.failures = missing.iter().filter_map(|meta| failures.remove_entry(&id(meta))).collect();
        let failed = |meta: &Arc<M>| self.failures.get(&id(meta)).copied().unwrap_or(0);
        if self.all.is_waiting() {
            missing.retain(|meta| failed(meta) == 0);
        }
        missing.sort_by_key(failed);
        missing
    }

    /// The segments that have failed so often, and are still missing.
    pub(crate) fn failed_often(&self, times: u32) -> impl Iterator<Item = SegmentId> {
        self.failures.iter().filter(move |(_, failures)| **failures >= times).map(|(segment, _)| *segment)
    }

    /// What failed in one round; the first of it if that is news.
    pub(crate) fn note<'a>(&mut self, failed: &'a [(SegmentId, Error)]) -> Option<&'a (SegmentId, Error)> {
        for (segment, _) in failed {
            *self.failures.entry(*segment).or_default() += 1;
        }
        match failed.first() {
            Some(first) => self.all.failed(&first.1).then_some(first),
            None if self.all.is_waiting() => None,
            None => {
                self.all.is_over();
                None
            }
        }
    }
}
