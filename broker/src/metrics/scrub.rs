//! Metrics of scrubs.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::KindLabel;

/// The metrics of scrubs. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct ScrubMetrics {
    passes: Counter,
    read: Counter,
    damaged: Family<KindLabel, Counter>,
}

impl ScrubMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let scrub = registry.sub_registry_with_prefix("scrub");
        scrub.register("passes", "Scrubs that have read all segments of the node", self.passes.clone());
        scrub.register_with_unit("read", "Segments that were read to find damage", Unit::Bytes, self.read.clone());
        let what = "Files of segments that a scrub found damaged, by kind: rec, col";
        scrub.register("damaged", what, self.damaged.clone());
    }

    /// Counts a whole pass.
    pub(crate) fn passed(&self) {
        self.passes.inc();
    }

    /// Counts bytes that were read.
    pub(crate) fn read(&self, bytes: u64) {
        self.read.inc_by(bytes);
    }

    /// Counts a damaged file.
    pub(crate) fn found_damaged(&self, kind: &'static str) {
        self.damaged.get_or_create(&KindLabel { kind }).inc();
    }
}
