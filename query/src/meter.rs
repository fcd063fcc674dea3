//! What a query read: counted while it runs, reported with its answer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use stratalog_proto::v1;

use crate::parts::TopicRows;

/// Counters of one query, shared by all its scans.
#[derive(Debug)]
pub(crate) struct Meter {
    started: Instant,
    pub(crate) rows_scanned: AtomicU64,
    pub(crate) bytes_scanned: AtomicU64,
    pub(crate) segments_total: AtomicU64,
    pub(crate) segments_pruned: AtomicU64,
    pub(crate) granules_total: AtomicU64,
    pub(crate) granules_pruned: AtomicU64,
    pub(crate) tail_rows: AtomicU64,
    pub(crate) rows_returned: AtomicU64,
    fences: Mutex<Vec<v1::ShardFence>>,
    catalogue_version: AtomicU64,
    dead_letter_topics: Mutex<BTreeSet<String>>,
}

impl Meter {
    /// Starts the clock.
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            rows_scanned: AtomicU64::new(0),
            bytes_scanned: AtomicU64::new(0),
            segments_total: AtomicU64::new(0),
            segments_pruned: AtomicU64::new(0),
            granules_total: AtomicU64::new(0),
            granules_pruned: AtomicU64::new(0),
            tail_rows: AtomicU64::new(0),
            rows_returned: AtomicU64::new(0),
            fences: Mutex::new(Vec::new()),
            catalogue_version: AtomicU64::new(0),
            dead_letter_topics: Mutex::default(),
        }
    }

    /// Forgets what was counted.
    pub(crate) fn begin_again(&self) {
        let counters = [
            &self.rows_scanned,
            &self.bytes_scanned,
            &self.segments_total,
            &self.segments_pruned,
            &self.granules_total,
            &self.granules_pruned,
            &self.tail_rows,
        ];
        counters.into_iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
        self.fences.lock().clear();
        self.dead_letter_topics.lock().clear();
    }

    /// Notes which version of the catalogue names were looked up in.
    pub(crate) fn version(&self, catalogue_version: u64) {
        self.catalogue_version.fetch_max(catalogue_version, Ordering::Relaxed);
    }

    /// Notes the fences of a topic. A shard that hosts two topics of the query has two; the older one holds for both.
    pub(crate) fn fence(&self, rows: &TopicRows) {
        self.version(rows.snapshot.version);
        let mut fences = self.fences.lock();
        for new in rows.fences() {
            match fences.iter_mut().find(|fence| fence.shard == new.shard) {
                None => fences.push(new),
                Some(known) if known.index > new.index => *known = new,
                Some(_) => {}
            }
        }
        fences.sort_by_key(|fence| fence.shard);
    }

    /// Notes a topic that the query names, if it has dead letters: whoever misses something in the answer may want to know.
    pub(crate) fn dead_letters(&self, rows: &TopicRows) {
        if rows.have_dead_letters() {
            self.dead_letter_topics.lock().insert(rows.snapshot.topic.name.clone());
        }
    }

    /// The counters now.
    pub(crate) fn stats(&self) -> v1::QueryStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        v1::QueryStats {
            rows_returned: read(&self.rows_returned),
            rows_scanned: read(&self.rows_scanned),
            bytes_scanned: read(&self.bytes_scanned),
            segments_total: read(&self.segments_total),
            segments_pruned: read(&self.segments_pruned),
            granules_total: read(&self.granules_total),
            granules_pruned: read(&self.granules_pruned),
            tail_rows: read(&self.tail_rows),
            elapsed_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            fences: self.fences.lock().clone(),
            catalogue_version: read(&self.catalogue_version),
            dead_letter_topics: self.dead_letter_topics.lock().iter().cloned().collect(),
            ..v1::QueryStats::default()
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
