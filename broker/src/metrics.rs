//! Counters of the node, as OpenMetrics text.

mod groups;
mod replay;
mod scrub;
mod stages;

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use stratalog_proto::{Error, ShardId};
use stratalog_storage::{LaneStats, LaneUsage, RowCounts};

use crate::rows::RowsStats;
use groups::GroupGauges;
use replay::{KindLabel, LogGauges};

pub(crate) use groups::{Lag, MAX_LAGS};
pub(crate) use replay::ReplayMetrics;
pub(crate) use scrub::ScrubMetrics;
pub(crate) use stages::Stages;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabel {
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: String,
}

type ShardGauge = Family<ShardLabel, Gauge<i64, AtomicI64>>;

/// What is read at a scrape.
pub(crate) struct Figures {
    pub(crate) shards: Vec<ShardFigures>,
    pub(crate) lane: LaneStats,
    pub(crate) lane_usage: LaneUsage,
    pub(crate) rows: RowsStats,
    pub(crate) topics: usize,
    pub(crate) lags: Vec<Lag>,
    pub(crate) buffered_bytes: usize,
}

/// What a shard shows at a scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardFigures {
    pub(crate) shard: ShardId,
    pub(crate) applied: u64,
    pub(crate) leader: bool,
    pub(crate) producers: usize,
    pub(crate) segments: usize,
    pub(crate) replay_frontier: u64,
    pub(crate) snapshot_frontier: u64,
    /// Bytes of log that it holds on to.
    pub(crate) log_bytes: u64,
    /// A part of its log is lost.
    pub(crate) lost: bool,
    /// Live replay segments, and those whose files are not here.
    pub(crate) recs: usize,
    pub(crate) missing_recs: usize,
}

/// The metrics of a broker.
pub(crate) struct Metrics {
    registry: Registry,
    produced_records: Counter,
    produced_bytes: Counter,
    produce_seconds: Histogram,
    stages: Stages,
    produce_errors: Family<CodeLabel, Counter>,
    fetched_bytes: Counter,
    buffered_bytes: Gauge<i64, AtomicI64>,
    applied: ShardGauge,
    leader: ShardGauge,
    producers: ShardGauge,
    segments: ShardGauge,
    topics: Gauge<i64, AtomicI64>,
    groups: GroupGauges,
    lane: LaneCounters,
    log: LogGauges,
    replay: ReplayMetrics,
    rows: RowsCounters,
    scrub: ScrubMetrics,
}

/// The lane counts for itself; at a scrape its counters are brought up to what it says.
#[derive(Default)]
struct LaneCounters {
    groups: Counter,
    frames: Counter,
    bytes: Counter,
    sync_seconds: Counter<f64, AtomicU64>,
    last: Mutex<LaneStats>,
}

/// Rows as the materializers and the sealer count them.
#[derive(Default)]
struct RowsCounters {
    tail_rows: Gauge<i64, AtomicI64>,
    tail_bytes: Gauge<i64, AtomicI64>,
    lag_entries: Gauge<i64, AtomicI64>,
    held_topics: Gauge<i64, AtomicI64>,
    lag_seconds: Gauge<f64, AtomicU64>,
    made: Counter,
    dead: Counter,
    parsed_bytes: Counter,
    sealed: Counter,
    segments: Counter,
    seal_failures: Counter,
    merges: Counter,
    merge_failures: Counter,
    merged_bytes: Counter,
    segments_damaged: Counter,
    segments_remade: Counter,
    offsets: Family<KindLabel, Gauge<i64, AtomicI64>>,
    last: Mutex<RowsStats>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("stratalog");
        let metrics = Self {
            produced_records: Counter::default(),
            produced_bytes: Counter::default(),
            // 0.1 ms to about 26 s.
            produce_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 19)),
            stages: Stages::default(),
            produce_errors: Family::default(),
            fetched_bytes: Counter::default(),
            buffered_bytes: Gauge::default(),
            applied: Family::default(),
            leader: Family::default(),
            producers: Family::default(),
            segments: Family::default(),
            topics: Gauge::default(),
            groups: GroupGauges::default(),
            lane: LaneCounters::default(),
            log: LogGauges::default(),
            replay: ReplayMetrics::new(),
            rows: RowsCounters::default(),
            scrub: ScrubMetrics::default(),
            registry: Registry::default(),
        };
        metrics.register_produce(&mut registry);
        metrics.register_state(&mut registry);
        metrics.register_lane(&mut registry);
        metrics.groups.register(&mut registry);
        metrics.log.register(&mut registry);
        metrics.replay.register(&mut registry);
        metrics.rows.register(registry.sub_registry_with_prefix("rows"));
        metrics.scrub.register(&mut registry);
        Self { registry, ..metrics }
    }

    fn register_produce(&self, registry: &mut Registry) {
        registry.register("produced_records", "Records acknowledged", self.produced_records.clone());
        registry.register_with_unit(
            "produced",
            "Record batches acknowledged",
            Unit::Bytes,
            self.produced_bytes.clone(),
        );
        let what = "From the arrival of a record batch to its acknowledgement";
        registry.register_with_unit("produce", what, Unit::Seconds, self.produce_seconds.clone());
        self.stages.register(registry);
        registry.register("produce_errors", "Record batches that were not acknowledged", self.produce_errors.clone());
        registry.register_with_unit("fetched", "Record batches read", Unit::Bytes, self.fetched_bytes.clone());
        let what = "Record batches on their way to the log";
        registry.register_with_unit("produce_buffer", what, Unit::Bytes, self.buffered_bytes.clone());
    }

    fn register_state(&self, registry: &mut Registry) {
        registry.register("topics", "Topics", self.topics.clone());
        registry.register(
            "applied_index",
            "The last applied Raft index; shard 0 is the metadata",
            self.applied.clone(),
        );
        registry.register("leader", "1 where this node leads the shard", self.leader.clone());
        registry.register("producers", "Idempotent producers remembered, by partition", self.producers.clone());
        registry.register("segments", "Live column segments", self.segments.clone());
    }

    fn register_lane(&self, registry: &mut Registry) {
        let lane = registry.sub_registry_with_prefix("lane");
        lane.register("flush_groups", "Writes of the log, each with one fdatasync", self.lane.groups.clone());
        lane.register("frames", "Frames written to the log", self.lane.frames.clone());
        lane.register_with_unit("written", "Bytes written to the log", Unit::Bytes, self.lane.bytes.clone());
        lane.register_with_unit("sync", "Time spent in fdatasync", Unit::Seconds, self.lane.sync_seconds.clone());
    }

    /// The stages of the write path.
    pub(crate) fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Those of the roller.
    pub(crate) fn replay(&self) -> &ReplayMetrics {
        &self.replay
    }

    /// Those of scrubs.
    pub(crate) fn scrub(&self) -> &ScrubMetrics {
        &self.scrub
    }

    /// Says how many bytes of the log's files were set aside.
    pub(crate) fn set_aside(&self, bytes: u64) {
        self.log.set_aside(bytes);
    }

    /// Counts one produce.
    pub(crate) fn produced(&self, took: Duration, bytes: usize, outcome: Result<u32, &Error>) {
        match outcome {
            Ok(records) => {
                self.produced_records.inc_by(u64::from(records));
                self.produced_bytes.inc_by(bytes as u64);
                self.produce_seconds.observe(took.as_secs_f64());
            }
            Err(error) => {
                let label = CodeLabel { code: error.code.name().to_owned() };
                self.produce_errors.get_or_create(&label).inc();
            }
        }
    }

    /// Counts what a fetch answered.
    pub(crate) fn fetched(&self, bytes: usize) {
        self.fetched_bytes.inc_by(bytes as u64);
    }

    /// OpenMetrics text, with the figures of the moment.
    pub(crate) fn text(&self, figures: &Figures) -> String {
        for shard in &figures.shards {
            let label = ShardLabel { shard: shard.shard.0 };
            self.applied.get_or_create(&label).set(shard.applied as i64);
            self.leader.get_or_create(&label).set(i64::from(shard.leader));
            self.producers.get_or_create(&label).set(shard.producers as i64);
            self.segments.get_or_create(&label).set(shard.segments as i64);
        }
        self.topics.set(figures.topics as i64);
        self.groups.update(&figures.lags);
        self.buffered_bytes.set(figures.buffered_bytes as i64);
        self.lane.update(figures.lane);
        self.log.update(&figures.shards, figures.lane_usage);
        let RowsStats { bytes_sealed, bytes_written_by_merges, .. } = figures.rows;
        self.log.count(&self.replay, figures.lane, bytes_sealed, bytes_written_by_merges);
        self.rows.update(figures.rows);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

impl LaneCounters {
    fn update(&self, now: LaneStats) {
        let mut last = self.last.lock();
        self.groups.inc_by(now.groups - last.groups);
        self.frames.inc_by(now.frames - last.frames);
        self.bytes.inc_by(now.bytes - last.bytes);
        self.sync_seconds.inc_by((now.sync_ns - last.sync_ns) as f64 / 1e9);
        *last = now;
    }
}

impl RowsCounters {
    fn register(&self, registry: &mut Registry) {
        registry.register("tail", "Rows that are not in a segment yet", self.tail_rows.clone());
        registry.register_with_unit("tail", "Memory of the tail", Unit::Bytes, self.tail_bytes.clone());
        let what = "Raft entries applied and not yet visible as rows";
        registry.register("lag_entries", what, self.lag_entries.clone());
        let what = "Topics without further rows, since a record batch of theirs cannot be read; counted in each shard";
        registry.register("held_topics", what, self.held_topics.clone());
        let what = "How far the slowest shard's rows are behind its log";
        registry.register_with_unit("lag", what, Unit::Seconds, self.lag_seconds.clone());
        registry.register("made", "Rows made of records", self.made.clone());
        registry.register("dead", "Rows whose value did not parse", self.dead.clone());
        registry.register_with_unit("parsed", "Record batches made into rows", Unit::Bytes, self.parsed_bytes.clone());
        registry.register("sealed", "Rows sealed into column segments", self.sealed.clone());
        registry.register("segments_sealed", "Column segments made", self.segments.clone());
        registry.register("seal_failures", "Seals that did not apply", self.seal_failures.clone());
        registry.register("merges", "Merges of column segments", self.merges.clone());
        registry.register("merge_failures", "Merges that did not apply", self.merge_failures.clone());
        let what = "Column segments that were read to be merged";
        registry.register_with_unit("merged", what, Unit::Bytes, self.merged_bytes.clone());
        let what = "Column segments that were found damaged";
        registry.register("segments_damaged", what, self.segments_damaged.clone());
        let what = "Column segments that no replica had whole, and whose rows were made again of the log";
        registry.register("segments_remade", what, self.segments_remade.clone());
        let what = "Sealed offsets without a row in a live segment, by what became of them";
        registry.register("offsets_without_row", what, self.offsets.clone());
    }

    fn update(&self, now: RowsStats) {
        let mut last = self.last.lock();
        self.tail_rows.set(now.tail_rows as i64);
        self.tail_bytes.set(now.tail_bytes as i64);
        self.lag_entries.set(now.lag_entries as i64);
        self.held_topics.set(now.held_topics as i64);
        self.lag_seconds.set(now.lag.as_secs_f64());
        self.made.inc_by(now.rows_made.saturating_sub(last.rows_made));
        self.dead.inc_by(now.dead_rows_made.saturating_sub(last.dead_rows_made));
        self.parsed_bytes.inc_by(now.bytes_parsed.saturating_sub(last.bytes_parsed));
        self.sealed.inc_by(now.rows_sealed.saturating_sub(last.rows_sealed));
        self.segments.inc_by(now.segments_sealed.saturating_sub(last.segments_sealed));
        self.seal_failures.inc_by(now.seal_failures.saturating_sub(last.seal_failures));
        self.merges.inc_by(now.merges.saturating_sub(last.merges));
        self.merge_failures.inc_by(now.merge_failures.saturating_sub(last.merge_failures));
        self.merged_bytes.inc_by(now.bytes_merged.saturating_sub(last.bytes_merged));
        self.segments_damaged.inc_by(now.segments_damaged.saturating_sub(last.segments_damaged));
        self.segments_remade.inc_by(now.segments_remade.saturating_sub(last.segments_remade));
        let RowCounts { rowless, dropped, trimmed, erased } = now.counts;
        for (kind, count) in [("rowless", rowless), ("dropped", dropped), ("trimmed", trimmed), ("erased", erased)] {
            self.offsets.get_or_create(&KindLabel { kind }).set(count as i64);
        }
        *last = now;
    }
}

#[cfg(test)]
mod tests {
    use stratalog_proto::Code;

    use super::*;

    #[test]
    fn a_scrape_is_openmetrics_text_and_counts_once() {
        let metrics = Metrics::new();
        metrics.produced(Duration::from_millis(1), 100, Ok(7));
        metrics.produced(Duration::from_millis(1), 100, Err(&Error::new(Code::Overloaded, "full")));
        metrics.replay().rec_written(10);
        metrics.stages().applied(Duration::from_micros(15));
        let shard = ShardFigures {
            shard: ShardId(2),
            applied: 9,
            leader: true,
            producers: 0,
            segments: 0,
            replay_frontier: 7,
            snapshot_frontier: 6,
            lost: true,
            log_bytes: 100,
            recs: 1,
            missing_recs: 0,
        };
        let figures = Figures {
            shards: vec![shard],
            lane: LaneStats { groups: 3, bytes: 20, ..LaneStats::default() },
            lane_usage: LaneUsage { first_file: 3, last_file: 4, bytes: 2048 },
            rows: RowsStats { tail_rows: 5, bytes_sealed: 30, ..RowsStats::default() },
            lags: vec![Lag { group: "g".to_owned(), topic: "t".to_owned(), partition: 2, records: 9 }],
            topics: 1,
            buffered_bytes: 0,
        };
        metrics.text(&figures);
        let text = metrics.text(&figures);
        for line in [
            "stratalog_produced_records_total 7",
            "stratalog_produced_bytes_total 100",
            "stratalog_produce_stage_seconds_bucket{le=\"0.00002\",stage=\"apply\"} 1",
            "stratalog_produce_errors_total{code=\"OVERLOADED\"} 1",
            "stratalog_applied_index{shard=\"2\"} 9",
            "stratalog_lane_flush_groups_total 3",
            "stratalog_group_lag{group=\"g\",topic=\"t\",partition=\"2\"} 9",
            "stratalog_rows_tail 5",
            "stratalog_written_bytes_total{kind=\"lane\"} 20",
            "stratalog_written_bytes_total{kind=\"rec\"} 10",
            "stratalog_written_bytes_total{kind=\"col\"} 30",
            "stratalog_replay_frontier{shard=\"2\"} 7",
            "stratalog_lane_files_bytes 2048",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
