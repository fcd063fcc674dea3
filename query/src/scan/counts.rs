//! What one scan reads and leaves out, counted for the statistics of its query and for `EXPLAIN ANALYZE`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use stratalog_proto::internal;

use crate::meter::{self, Meter};

/// What knew that rows need not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// The manifest, of a whole segment.
    Manifest,
    /// Zone maps and log starts, of a granule.
    ZoneMaps,
    /// The text index, of a granule.
    Text,
}

const LEVELS: [(Level, &str); 3] =
    [(Level::Manifest, "manifest"), (Level::ZoneMaps, "zone_maps"), (Level::Text, "text")];

/// The counters of one scan.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    query: Arc<Meter>,
    segments: Count,
    granules: Count,
    segments_pruned: [Count; 3],
    granules_pruned: [Count; 3],
    rows_scanned: Count,
    bytes_scanned: Count,
    tail_rows: Count,
    output_rows: Count,
}

impl Counts {
    /// Counters that add to those of the query, and show in `metrics`.
    pub(crate) fn new(query: Arc<Meter>, metrics: &ExecutionPlanMetricsSet) -> Self {
        let counter = |name: String| MetricBuilder::new(metrics).global_counter(name);
        let levels = |what: &str| LEVELS.map(|(_, level)| counter(format!("{what}_pruned_by_{level}")));
        Self {
            query,
            output_rows: counter("output_rows".into()),
            segments: counter("segments".into()),
            segments_pruned: levels("segments"),
            granules: counter("granules".into()),
            granules_pruned: levels("granules"),
            rows_scanned: counter("rows_scanned".into()),
            bytes_scanned: counter("bytes_scanned".into()),
            tail_rows: counter("tail_rows".into()),
        }
    }

    /// A segment of so many granules belongs to what is scanned.
    pub(super) fn segment(&self, granules: usize) {
        add(&self.query.segments_total, &self.segments, 1);
        add(&self.query.granules_total, &self.granules, granules);
    }

    /// Nothing of a segment is read.
    pub(super) fn segment_pruned(&self, by: Level) {
        add(&self.query.segments_pruned, &self.segments_pruned[by as usize], 1);
    }

    /// So many granules are not read.
    pub(super) fn granules_pruned(&self, by: Level, granules: usize) {
        add(&self.query.granules_pruned, &self.granules_pruned[by as usize], granules);
    }

    /// Filters are evaluated on so many rows.
    pub(super) fn rows_scanned(&self, rows: usize) {
        add(&self.query.rows_scanned, &self.rows_scanned, rows);
    }

    /// So many bytes were read of columns, of the log or of the tail.
    pub(super) fn bytes_scanned(&self, bytes: usize) {
        add(&self.query.bytes_scanned, &self.bytes_scanned, bytes);
    }

    /// So many of the rows scanned are in no segment yet.
    pub(super) fn tail_rows(&self, rows: usize) {
        add(&self.query.tail_rows, &self.tail_rows, rows);
    }

    /// So many rows are given to the operator above.
    pub(super) fn output_rows(&self, rows: usize) {
        self.output_rows.add(rows);
    }

    /// All of them, for the node that asked.
    pub(crate) fn end(&self) -> internal::PartEnd {
        let all = |counts: &[Count; 3]| counts.iter().map(|count| count.value() as u64).collect();
        internal::PartEnd {
            segments: self.segments.value() as u64,
            segments_pruned: all(&self.segments_pruned),
            granules: self.granules.value() as u64,
            granules_pruned: all(&self.granules_pruned),
            rows_scanned: self.rows_scanned.value() as u64,
            bytes_scanned: self.bytes_scanned.value() as u64,
            tail_rows: self.tail_rows.value() as u64,
            output_rows: self.output_rows.value() as u64,
            ..internal::PartEnd::default()
        }
    }

    /// Adds what another node counted.
    pub(crate) fn add(&self, end: &internal::PartEnd) {
        let query = &self.query;
        add(&query.segments_total, &self.segments, number(end.segments));
        add(&query.granules_total, &self.granules, number(end.granules));
        for (pruned, of_scan) in end.segments_pruned.iter().zip(&self.segments_pruned) {
            add(&query.segments_pruned, of_scan, number(*pruned));
        }
        for (pruned, of_scan) in end.granules_pruned.iter().zip(&self.granules_pruned) {
            add(&query.granules_pruned, of_scan, number(*pruned));
        }
        add(&query.rows_scanned, &self.rows_scanned, number(end.rows_scanned));
        add(&query.bytes_scanned, &self.bytes_scanned, number(end.bytes_scanned));
        add(&query.tail_rows, &self.tail_rows, number(end.tail_rows));
        self.output_rows.add(number(end.output_rows));
    }
}

fn number(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn add(of_query: &AtomicU64, of_scan: &Count, count: usize) {
    meter::add(of_query, count);
    of_scan.add(count);
}
