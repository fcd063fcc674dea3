//! Accounting for every offset of a topic (S1).

use stratalog_proto::TopicId;
use stratalog_storage::RowCounts;

use super::shard_rows::ShardRows;

/// Where the offsets of a topic in a shard are (S1): all at or below the fence are in exactly one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Offsets assigned at or below the fence.
    pub(crate) offsets: u64,
    /// Rows in live segments.
    pub(crate) live_rows: u64,
    /// Sealed offsets without a row in one.
    pub(crate) counts: RowCounts,
    /// Rows in the tail.
    pub(crate) tail_rows: u64,
    /// Offsets without a row since the row frontier: control batches, gaps and `raw` topics.
    pub(crate) tail_rowless: u64,
    /// Offsets above the row frontier and below log start: their records may be gone, and then no row is made of them.
    pub(crate) passed: u64,
}

impl Coverage {
    /// S1: rows and what is counted are the offsets, but for those that log start has passed.
    pub(crate) fn holds(&self) -> bool {
        let known = self.live_rows + self.counts.total() + self.tail_rows + self.tail_rowless;
        (known..=known.saturating_add(self.passed)).contains(&self.offsets)
    }

    /// Offsets that never had a row, sealed or not.
    #[cfg(test)]
    pub(crate) fn rowless(&self) -> u64 {
        self.counts.rowless + self.tail_rowless
    }
}

impl ShardRows {
    /// Accounts for every offset of a topic. `None` while it is held back, while the tail is rebuilt and has not come to the
    /// topic's row frontier or does not know how that came to be where it is, and while its rows are made from replay segments: how many offsets there are at an index
    /// behind the replay frontier is not known.
    pub(super) fn coverage(&self, topic: TopicId) -> Option<Coverage> {
        self.tail.read(topic, |tail| {
            let manifest = self.log.manifest();
            let live = manifest.topic(topic)?;
            let (frontier, fence) = (live.row_frontier, tail.materialized);
            if tail.held.is_some() || fence < frontier || !tail.knows(frontier) {
                return None;
            }
            let unsealed = tail.chunks.iter().filter(|chunk| chunk.first_index > frontier);
            Some(Coverage {
                offsets: self.log.offsets_through(topic, fence)?,
                live_rows: live.live_rows(),
                counts: live.counts,
                tail_rows: unsealed.map(|chunk| chunk.rows.num_rows() as u64).sum(),
                tail_rowless: tail.rowless_above(frontier),
                passed: self.log.passed(topic, fence).values().map(|of| of.most(of.end.unwrap_or(of.log_start))).sum(),
            })
        })
    }

    /// What does not agree of a topic's rows and offsets (S1).
    pub(super) fn disagreement(&self, topic: TopicId) -> Option<Coverage> {
        let coverage = self.coverage(topic).filter(|coverage| !coverage.holds())?;
        // The state may have moved while the offsets were counted. What is wrong stays so.
        self.coverage(topic).filter(|again| *again == coverage)
    }
}
