//! What became of offsets that have no row in a live segment.

use stratalog_proto::internal;

/// Offsets of a topic in a shard, up to where its partitions are sealed, that have no row in a live segment (S1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// They never had a row.
    pub rowless: u64,
    /// Their segment was dropped, or lay below log start as a whole.
    pub dropped: u64,
    /// They lay below log start when their segment was merged.
    pub trimmed: u64,
    /// Somebody asked to erase them.
    pub erased: u64,
}

impl RowCounts {
    /// The sums of both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            rowless: self.rowless.saturating_add(other.rowless),
            dropped: self.dropped.saturating_add(other.dropped),
            trimmed: self.trimmed.saturating_add(other.trimmed),
            erased: self.erased.saturating_add(other.erased),
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        [self.dropped, self.trimmed, self.erased].into_iter().fold(self.rowless, u64::saturating_add)
    }
}

impl From<RowCounts> for internal::RowCounts {
    fn from(counts: RowCounts) -> Self {
        let RowCounts { rowless, dropped, trimmed, erased } = counts;
        Self { rowless, dropped, trimmed, erased }
    }
}

impl From<internal::RowCounts> for RowCounts {
    fn from(counts: internal::RowCounts) -> Self {
        let internal::RowCounts { rowless, dropped, trimmed, erased } = counts;
        Self { rowless, dropped, trimmed, erased }
    }
}
