//! How long a record batch spends in each stage of its way into the log.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use stratalog_storage::{GroupTimes, LaneObserver};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

/// The stages of the write path, each a histogram; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Stages {
    family: Family<StageLabel, Histogram>,
    queue: Histogram,
    write: Histogram,
    sync: Histogram,
    replicate: Histogram,
    apply: Histogram,
}

impl Default for Stages {
    fn default() -> Self {
        // 10 µs to about 5 s.
        let family: Family<_, _> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_01, 2.0, 20)));
        let stage = |stage| Histogram::clone(&family.get_or_create(&StageLabel { stage }));
        let [queue, write, sync, replicate, apply] = ["queue", "write", "sync", "replicate", "apply"].map(stage);
        Self { queue, write, sync, replicate, apply, family }
    }
}

impl Stages {
    pub(super) fn register(&self, registry: &mut Registry) {
        let what = "Time of each stage on the way into the log: a command's wait for its entry, a group's write and its \
                    fdatasync, an entry's way from the log to its commit, and its application";
        registry.register_with_unit("produce_stage", what, Unit::Seconds, self.family.clone());
    }

    /// A command became part of an entry this long after it came.
    pub(crate) fn queued(&self, waited: Duration) {
        self.queue.observe(waited.as_secs_f64());
    }

    /// An entry was committed this long after it was appended here.
    pub(crate) fn replicated(&self, took: Duration) {
        self.replicate.observe(took.as_secs_f64());
    }

    /// An entry was applied.
    pub(crate) fn applied(&self, took: Duration) {
        self.apply.observe(took.as_secs_f64());
    }
}

impl LaneObserver for Stages {
    fn group(&self, times: &GroupTimes) {
        self.write.observe(times.write.as_secs_f64());
        self.sync.observe(times.sync.as_secs_f64());
    }
}
