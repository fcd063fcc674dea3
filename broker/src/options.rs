//! What a broker is started with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stratalog_query::EngineOptions;
use stratalog_storage::{Io, LaneOptions, RealDisk};

use crate::cluster::ClusterOptions;
use crate::events::Events;
use crate::groups::GroupOptions;
use crate::replay::ReplayOptions;
use crate::rows::RowsOptions;
use crate::scrub::ScrubOptions;

/// Settings of a broker. [`BrokerOptions::new`] gives each a default.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Everything that is kept on disk. Locked while the broker runs.
    pub data_dir: PathBuf,
    /// Shards of a new data directory; a directory that exists keeps the number it was made with.
    pub shards: u32,
    /// Partitions of a topic that is created without a number.
    pub default_partitions: u32,
    /// The write-ahead log.
    pub lane: LaneOptions,
    /// When the log becomes replay segments, and how much of it is kept.
    pub replay: ReplayOptions,
    /// Bytes of record batches that may be on their way to the log; beyond, producers wait.
    pub produce_buffer_bytes: usize,
    /// How long a produce waits for room in that buffer before it is refused with `OVERLOADED`.
    pub produce_wait: Duration,
    /// How long a produce waits for its acknowledgement before it ends with `TIMEOUT`, its outcome unknown.
    pub produce_timeout: Duration,
    /// Bytes of recently written log that all shards together keep in memory, for consumers and rows that follow closely.
    pub log_cache_bytes: usize,
    /// How long a start may take to apply the log and to rebuild the tail.
    pub recovery_timeout: Duration,
    /// How rows are made and sealed.
    pub rows: RowsOptions,
    /// How fast and how often what is on the disk is read again, to find damage.
    pub scrub: ScrubOptions,
    /// How queries run.
    pub engine: EngineOptions,
    /// How consumer groups are coordinated.
    pub groups: GroupOptions,
    /// The node among others.
    pub cluster: ClusterOptions,
    /// What happens on the node, for `system.events`; the broker only shows it.
    pub events: Arc<Events>,
    /// The settings of the node by key, for `system.settings`.
    pub settings: Vec<(String, String)>,
    /// The disk. The broker holds a bounded number of its files open for reading.
    pub disk: Arc<dyn Io>,
}

impl BrokerOptions {
    /// The defaults, on the real disk.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            shards: 4,
            default_partitions: 4,
            lane: LaneOptions::default(),
            replay: ReplayOptions::default(),
            produce_buffer_bytes: 64 << 20,
            produce_wait: Duration::from_secs(5),
            produce_timeout: Duration::from_secs(30),
            log_cache_bytes: 64 << 20,
            recovery_timeout: Duration::from_secs(600),
            rows: RowsOptions::default(),
            scrub: ScrubOptions::default(),
            engine: EngineOptions::default(),
            groups: GroupOptions::default(),
            cluster: ClusterOptions::default(),
            events: Arc::default(),
            settings: Vec::new(),
            disk: Arc::new(RealDisk),
        }
    }
}
