//! What becomes of the log: how much is written for each byte produced, and how the log is kept short.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use stratalog_storage::{LaneStats, LaneUsage};

use super::{ShardFigures, ShardGauge, ShardLabel};

/// What bytes are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct KindLabel {
    pub(super) kind: &'static str,
}

const LANE: KindLabel = KindLabel { kind: "lane" };
const ZEROES: KindLabel = KindLabel { kind: "zeroes" };
const REC: KindLabel = KindLabel { kind: "rec" };
const STATE: KindLabel = KindLabel { kind: "state" };
const COL: KindLabel = KindLabel { kind: "col" };
const MERGED: KindLabel = KindLabel { kind: "merged_col" };

/// The metrics of rolling, snapshots and letting go of the log. Clones share them.
#[derive(Clone)]
pub(crate) struct ReplayMetrics {
    written: Family<KindLabel, Counter>,
    roll_seconds: Histogram,
    roll_failures: Counter,
    repacks: Counter,
    damaged: Counter,
    snapshot_seconds: Histogram,
    snapshot_failures: Counter,
}

/// What is read at a scrape.
#[derive(Default)]
pub(super) struct LogGauges {
    frontier: ShardGauge,
    snapshot: ShardGauge,
    log_bytes: ShardGauge,
    recs: ShardGauge,
    waiting: ShardGauge,
    lost: ShardGauge,
    lane_bytes: Gauge<i64, AtomicI64>,
    aside_bytes: Gauge<i64, AtomicI64>,
    first_file: Gauge<i64, AtomicI64>,
    last_file: Gauge<i64, AtomicI64>,
    recycled: Counter,
    last: Mutex<(LaneStats, u64, u64)>,
}

impl ReplayMetrics {
    pub(super) fn new() -> Self {
        // 1 ms to about 33 s.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        Self {
            written: Family::default(),
            roll_seconds: seconds(),
            roll_failures: Counter::default(),
            repacks: Counter::default(),
            damaged: Counter::default(),
            snapshot_seconds: seconds(),
            snapshot_failures: Counter::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let what = "Bytes written to disk, by what they are: the log, zeroes ahead of it, replay segments, snapshots of \
                    state, column segments made of rows, and those made of others. Divided by the bytes produced: the \
                    write amplification";
        registry.register_with_unit("written", what, Unit::Bytes, self.written.clone());
        let what = "Rolling a range of a shard's log into replay segments, from reading it to the applied Roll";
        registry.register_with_unit("roll", what, Unit::Seconds, self.roll_seconds.clone());
        registry.register("roll_failures", "Rolls that did not come to count", self.roll_failures.clone());
        registry.register("repacks", "Packed replay segments that were rewritten", self.repacks.clone());
        let what = "Replay segments that were found damaged, and are fetched from another replica";
        registry.register("replay_segments_damaged", what, self.damaged.clone());
        let what = "Making the state of a group durable, and letting go of its log";
        registry.register_with_unit("snapshot", what, Unit::Seconds, self.snapshot_seconds.clone());
        registry.register("snapshot_failures", "Snapshots that failed", self.snapshot_failures.clone());
    }

    /// Counts one roll.
    pub(crate) fn rolled(&self, took: Duration, done: bool) {
        if done {
            self.roll_seconds.observe(took.as_secs_f64());
        } else {
            self.roll_failures.inc();
        }
    }

    /// Counts one snapshot.
    pub(crate) fn snapshot_taken(&self, took: Duration, done: bool) {
        if done {
            self.snapshot_seconds.observe(took.as_secs_f64());
        } else {
            self.snapshot_failures.inc();
        }
    }

    /// Counts a rewritten segment.
    pub(crate) fn repacked(&self) {
        self.repacks.inc();
    }

    /// Counts segments that were found damaged.
    pub(crate) fn rec_damaged(&self, segments: u64) {
        self.damaged.inc_by(segments);
    }

    /// Counts bytes of replay segments.
    pub(crate) fn rec_written(&self, bytes: u64) {
        self.written.get_or_create(&REC).inc_by(bytes);
    }

    /// Counts bytes of state files.
    pub(crate) fn state_written(&self, bytes: u64) {
        self.written.get_or_create(&STATE).inc_by(bytes);
    }
}

impl LogGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        let what = "The Raft index up to which batches are in replay segments";
        registry.register("replay_frontier", what, self.frontier.clone());
        let what = "The replay frontier of the newest durable snapshot: a start reads the log from here on";
        registry.register("snapshot_frontier", what, self.snapshot.clone());
        let what = "Log that a shard holds on to";
        registry.register_with_unit("shard_log", what, Unit::Bytes, self.log_bytes.clone());
        registry.register("replay_segments", "Live replay segments", self.recs.clone());
        let what = "Live replay segments whose files are not on this node";
        registry.register("replay_segments_missing", what, self.waiting.clone());
        let what =
            "1 where a part of the log was damaged: the replica does not vote until a leader has sent what it lacks";
        registry.register("log_lost", what, self.lost.clone());
        let lane = registry.sub_registry_with_prefix("lane");
        lane.register_with_unit("files", "What the files of the log take", Unit::Bytes, self.lane_bytes.clone());
        let what = "Files of the log that were set aside, because it was damaged";
        lane.register_with_unit("set_aside", what, Unit::Bytes, self.aside_bytes.clone());
        lane.register("first_file", "The oldest file of the log that is needed", self.first_file.clone());
        lane.register("last_file", "The file of the log that is written to", self.last_file.clone());
        lane.register("recycled_files", "Files of the log that were used again", self.recycled.clone());
    }

    pub(super) fn update(&self, shards: &[ShardFigures], usage: LaneUsage) {
        for shard in shards {
            let label = ShardLabel { shard: shard.shard.0 };
            self.frontier.get_or_create(&label).set(shard.replay_frontier as i64);
            self.snapshot.get_or_create(&label).set(shard.snapshot_frontier as i64);
            self.log_bytes.get_or_create(&label).set(shard.log_bytes as i64);
            self.recs.get_or_create(&label).set(shard.recs as i64);
            self.waiting.get_or_create(&label).set(shard.missing_recs as i64);
            self.lost.get_or_create(&label).set(i64::from(shard.lost));
        }
        self.lane_bytes.set(usage.bytes as i64);
        self.first_file.set(usage.first_file as i64);
        self.last_file.set(usage.last_file as i64);
    }

    /// Bytes of the log's files that were set aside.
    pub(super) fn set_aside(&self, bytes: u64) {
        self.aside_bytes.set(bytes as i64);
    }

    /// Brings the bytes that the lane, the sealer and the merger count up to what they say.
    pub(super) fn count(&self, replay: &ReplayMetrics, lane: LaneStats, sealed_bytes: u64, merged_bytes: u64) {
        let mut last = self.last.lock();
        let (lane_before, sealed_before, merged_before) = *last;
        let written = |kind: &KindLabel, bytes: u64| replay.written.get_or_create(kind).inc_by(bytes);
        written(&LANE, lane.bytes - lane_before.bytes);
        written(&ZEROES, lane.zeroed_bytes - lane_before.zeroed_bytes);
        written(&COL, sealed_bytes.saturating_sub(sealed_before));
        written(&MERGED, merged_bytes.saturating_sub(merged_before));
        self.recycled.inc_by(lane.recycled_files - lane_before.recycled_files);
        *last = (lane, sealed_bytes, merged_bytes);
    }
}
