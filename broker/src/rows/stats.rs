//! Numbers for metrics.

use std::sync::atomic::Ordering;
use std::time::Duration;

use stratalog_storage::RowCounts;

use super::runtime::Rows;
use super::shard_rows::ShardRows;

/// Of the shards that are led here, unless a line says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowsStats {
    pub(crate) tail_bytes: u64,
    pub(crate) tail_rows: u64,
    /// Of the shard that is furthest behind.
    pub(crate) lag: Duration,
    /// Raft entries that are applied and not yet rows, of all shards.
    pub(crate) lag_entries: u64,
    /// Topics that are held back since a batch of theirs cannot be read, counted in each of their shards.
    pub(crate) held_topics: u64,
    pub(crate) rows_made: u64,
    pub(crate) dead_rows_made: u64,
    pub(crate) bytes_parsed: u64,
    pub(crate) rows_sealed: u64,
    pub(crate) segments_sealed: u64,
    pub(crate) bytes_sealed: u64,
    pub(crate) seal_failures: u64,
    pub(crate) merges: u64,
    pub(crate) merge_failures: u64,
    pub(crate) bytes_merged: u64,
    pub(crate) bytes_written_by_merges: u64,
    /// Column segments of any replica that were found damaged, and are fetched again.
    pub(crate) segments_damaged: u64,
    /// Column segments that no replica had whole, and whose rows were made again.
    pub(crate) segments_remade: u64,
    /// Offsets without a row in a live segment, of all topics, by what became of them (S1).
    pub(crate) counts: RowCounts,
}

impl Rows {
    /// The numbers, now.
    pub(crate) fn stats(&self) -> RowsStats {
        let led = self.replicas.led();
        let sum = |f: fn(&ShardRows) -> u64| led.iter().map(|shard| f(shard)).sum();
        RowsStats {
            tail_bytes: self.usage.bytes() as u64,
            tail_rows: self.usage.rows() as u64,
            lag: led.iter().map(|shard| shard.progress.lag()).max().unwrap_or_default(),
            lag_entries: sum(|shard| shard.log.applied().0.saturating_sub(shard.tail.materialized().0)),
            held_topics: sum(|shard| shard.tail.held_count() as u64),
            rows_made: self.usage.made.rows.load(Ordering::Relaxed),
            dead_rows_made: self.usage.made.dead_rows.load(Ordering::Relaxed),
            bytes_parsed: self.usage.made.bytes.load(Ordering::Relaxed),
            rows_sealed: self.sealer.rows.load(Ordering::Relaxed),
            segments_sealed: self.sealer.segments.load(Ordering::Relaxed),
            bytes_sealed: self.sealer.bytes.load(Ordering::Relaxed),
            seal_failures: self.sealer.failures.load(Ordering::Relaxed),
            merges: self.merger.merges.load(Ordering::Relaxed),
            merge_failures: self.merger.failures.load(Ordering::Relaxed),
            bytes_merged: self.merger.bytes_read.load(Ordering::Relaxed),
            bytes_written_by_merges: self.merger.bytes_written.load(Ordering::Relaxed),
            segments_damaged: self.puller.damaged.load(Ordering::Relaxed),
            segments_remade: self.remaker.segments.load(Ordering::Relaxed),
            counts: self.counts(),
        }
    }

    fn counts(&self) -> RowCounts {
        let manifests = self.replicas.led().into_iter().map(|shard| shard.log.manifest());
        manifests.fold(RowCounts::default(), |sum, manifest| {
            manifest.topics().fold(sum, |sum, (_, live)| sum.plus(live.counts))
        })
    }
}
