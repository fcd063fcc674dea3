//! How far consumer groups are behind.

use std::sync::atomic::AtomicI64;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The most partitions of groups that are shown, so that a scrape is bounded.
pub(crate) const MAX_LAGS: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LagLabel {
    group: String,
    topic: String,
    partition: u32,
}

/// How far a group is behind in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lag {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// Records that it has not committed.
    pub(crate) records: u64,
}

/// Brought up to what is at each scrape.
#[derive(Default)]
pub(super) struct GroupGauges {
    lag: Family<LagLabel, Gauge<i64, AtomicI64>>,
    /// One scrape at a time.
    scraping: Mutex<()>,
}

impl GroupGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        let what = "Records that a consumer group coordinated here has not committed, where this node has a replica";
        registry.register("group_lag", what, self.lag.clone());
    }

    /// Shows these and no others.
    pub(super) fn update(&self, lags: &[Lag]) {
        let _one = self.scraping.lock();
        self.lag.clear();
        for Lag { group, topic, partition, records } in lags {
            let label = LagLabel { group: group.clone(), topic: topic.clone(), partition: *partition };
            self.lag.get_or_create(&label).set(i64::try_from(*records).unwrap_or(i64::MAX));
        }
    }
}
