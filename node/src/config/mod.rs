//! The settings of a node: one documented structure, from a file, the environment and flags, in rising order of
//! precedence. This is the only place that reads any of them. `docs/CONFIG.md` describes each key.

mod cluster;
mod kafka;
mod load;
mod texts;
mod units;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stratalog_broker::groups::GroupOptions;
use stratalog_broker::{BrokerOptions, ClusterOptions, ReplayOptions, RowsOptions, ScrubOptions};
use stratalog_query::EngineOptions;
use stratalog_storage::LaneOptions;

use crate::events::events;
use crate::failure::Failure;
use crate::priority::yield_to_others;

pub(crate) use cluster::Cluster;
pub(crate) use kafka::Kafka;
pub(crate) use load::load;
pub(crate) use texts::Addresses;
pub(crate) use units::Bytes;
use units::Span;

/// Every setting of a node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// Allows listeners outside loopback, though there is neither TLS nor authentication yet.
    pub(crate) insecure: bool,
    pub(crate) grpc: Listener,
    pub(crate) http: HttpListener,
    pub(crate) kafka: Kafka,
    pub(crate) log: Log,
    pub(crate) cluster: Cluster,
    pub(crate) topics: Topics,
    pub(crate) produce: Produce,
    pub(crate) lane: Lane,
    pub(crate) replay: Replay,
    pub(crate) rows: Rows,
    pub(crate) scrub: Scrub,
    pub(crate) groups: Groups,
    pub(crate) query: Query,
}

/// `[grpc]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    /// Address and port.
    pub(crate) listen: String,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HttpListener {
    /// Address and port.
    pub(crate) listen: String,
    /// The largest request body, after decompression.
    pub(crate) max_body: Bytes,
}

/// Where the listeners of a node are bound.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    /// `None`: there is none.
    pub(crate) kafka: Option<SocketAddr>,
    /// Those that have names.
    pub(crate) kafka_listeners: BTreeMap<String, SocketAddr>,
}

/// `[log]`: what the node says about itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives such as `info,stratalog_broker=debug`.
    pub(crate) level: String,
    /// `text` or `json`.
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// `[topics]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Topics {
    /// Partitions of a topic that is created without a number.
    pub(crate) partitions: u32,
}

/// `[produce]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Produce {
    /// Bytes of record batches that may wait for the log in each shard before produce is refused.
    pub(crate) buffer: Bytes,
}

/// `[lane]`: the write-ahead log of the node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Lane {
    /// The size of a log file.
    pub(crate) file: Bytes,
    /// What the log files may take together; above it the oldest are made free early.
    pub(crate) budget: Bytes,
    /// What the log leaves free on its device, for what makes room again.
    pub(crate) reserve: Bytes,
}

/// `[replay]`: from the log to replay segments.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Replay {
    /// A shard's log is rolled into replay segments when this much of it is in none.
    pub(crate) roll_bytes: Bytes,
}

/// `[rows]`: from records to queryable segments.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rows {
    /// A topic's tail is sealed when it holds this much in a shard.
    pub(crate) seal_bytes: Bytes,
    /// A topic's tail is sealed when its oldest row has waited this long.
    pub(crate) seal_age: Span,
    /// From so much in all tails of the node on, the largest is sealed: bounds what a start makes again.
    pub(crate) rebuild_bytes: Bytes,
    /// How long a query waits after a start for rows that are made again.
    pub(crate) rebuild_wait: Span,
    /// Bytes of segments that merging reads in a second; 0: nothing is merged by itself.
    pub(crate) merge_rate: Bytes,
    /// Memory for all tails of the node; above it produce is slowed.
    pub(crate) tail_budget: Bytes,
}

/// `[scrub]`: reading segments again, to find what the disk has lost.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Scrub {
    /// Bytes that are read in a second; 0: nothing is read again.
    pub(crate) rate: Bytes,
    /// How often everything is read.
    pub(crate) every: Span,
}

/// `[groups]`: consumer groups.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Groups {
    /// How long the first member of an empty group waits for others.
    pub(crate) initial_rebalance_delay: Span,
    /// For how long the offsets of a group without members are kept.
    pub(crate) offsets_retention: Span,
}

/// `[query]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Query {
    /// Memory that all running queries share.
    pub(crate) memory: Bytes,
    /// Deadline of a query that names none.
    pub(crate) timeout: Span,
    /// The longest deadline that a query may name.
    pub(crate) max_timeout: Span,
    /// Disk for what running queries have no memory for, all together; one query may have half of it.
    pub(crate) spill_bytes: Bytes,
    /// Queries that run at once.
    pub(crate) max_running: u32,
    /// Queries that wait for others to end before they are refused.
    pub(crate) max_waiting: u32,
}

const MIB: u64 = 1 << 20;

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: "stratalog-data".into(),
            insecure: false,
            grpc: Listener { listen: "127.0.0.1:7070".to_owned() },
            http: HttpListener::default(),
            kafka: Kafka::default(),
            log: Log::default(),
            cluster: Cluster::default(),
            topics: Topics::default(),
            produce: Produce::default(),
            lane: Lane::default(),
            replay: Replay::default(),
            rows: Rows::default(),
            scrub: Scrub::default(),
            groups: Groups::default(),
            query: Query::default(),
        }
    }
}

impl Default for HttpListener {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8080".to_owned(), max_body: Bytes(32 * MIB) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self { partitions: 4 }
    }
}

impl Default for Produce {
    fn default() -> Self {
        Self { buffer: Bytes(32 * MIB) }
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self { file: Bytes(128 * MIB), budget: Bytes(1024 * MIB), reserve: Bytes(256 * MIB) }
    }
}

impl Default for Replay {
    fn default() -> Self {
        Self { roll_bytes: Bytes(64 * MIB) }
    }
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            seal_bytes: Bytes(64 * MIB),
            seal_age: Span(Duration::from_secs(60)),
            rebuild_bytes: Bytes(128 * MIB),
            rebuild_wait: Span(Duration::from_secs(10)),
            merge_rate: Bytes(32 * MIB),
            tail_budget: Bytes(512 * MIB),
        }
    }
}

impl Default for Groups {
    fn default() -> Self {
        let GroupOptions { initial_rebalance_delay, offsets_retention, .. } = GroupOptions::default();
        Self { initial_rebalance_delay: Span(initial_rebalance_delay), offsets_retention: Span(offsets_retention) }
    }
}

impl Default for Scrub {
    fn default() -> Self {
        let ScrubOptions { rate_bytes, every } = ScrubOptions::default();
        Self { rate: Bytes(rate_bytes), every: Span(every) }
    }
}

impl Default for Query {
    fn default() -> Self {
        Self {
            memory: Bytes(1024 * MIB),
            timeout: Span(Duration::from_secs(60)),
            max_timeout: Span(Duration::from_secs(600)),
            spill_bytes: Bytes(16 * 1024 * MIB),
            max_running: 16,
            max_waiting: 256,
        }
    }
}

impl Settings {
    /// Checks what the types cannot: bounds, and that nobody listens outside loopback unawares.
    ///
    /// # Errors
    /// [`Failure::Usage`], naming the key, the value and what is allowed.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        self.cluster.validate()?;
        bounded("topics.partitions", u64::from(self.topics.partitions), 1, 10_000)?;
        bounded("http.max_body", self.http.max_body.0, 1 << 10, 1 << 30)?;
        self.kafka.validate()?;
        bounded("produce.buffer", self.produce.buffer.0, 1 << 20, 1 << 34)?;
        bounded("lane.file", self.lane.file.0, 1 << 20, 1 << 30)?;
        bounded("lane.budget", self.lane.budget.0, 2 * self.lane.file.0, 1 << 44)?;
        bounded("lane.reserve", self.lane.reserve.0, 0, 1 << 40)?;
        bounded("replay.roll_bytes", self.replay.roll_bytes.0, 1 << 16, 1 << 30)?;
        if !self.lane.file.0.is_multiple_of(512) {
            return Err(Failure::Usage(format!("lane.file = {} is not a multiple of 512 bytes", self.lane.file.0)));
        }
        bounded("rows.seal_bytes", self.rows.seal_bytes.0, 1 << 16, 1 << 30)?;
        bounded("rows.rebuild_bytes", self.rows.rebuild_bytes.0, 1 << 20, 1 << 38)?;
        bounded("rows.merge_rate", self.rows.merge_rate.0, 0, 1 << 40)?;
        bounded("rows.tail_budget", self.rows.tail_budget.0, 1 << 20, 1 << 38)?;
        bounded("scrub.rate", self.scrub.rate.0, 0, 1 << 40)?;
        if self.scrub.every.0 < Duration::from_secs(1) {
            return Err(Failure::Usage(
                "scrub.every is shorter than a second; scrub.rate = 0 turns scrubs off".to_owned(),
            ));
        }
        if self.groups.initial_rebalance_delay.0 > Duration::from_secs(60) {
            return Err(Failure::Usage("groups.initial_rebalance_delay is longer than a minute".to_owned()));
        }
        bounded("query.memory", self.query.memory.0, 1 << 20, 1 << 40)?;
        bounded("query.spill_bytes", self.query.spill_bytes.0, 1 << 20, 1 << 44)?;
        bounded("query.max_running", u64::from(self.query.max_running), 1, 1_024)?;
        bounded("query.max_waiting", u64::from(self.query.max_waiting), 0, 65_536)?;
        if self.query.timeout.0 > self.query.max_timeout.0 {
            return Err(Failure::Usage("query.timeout is longer than query.max_timeout".to_owned()));
        }
        self.grpc_addr()?;
        self.http_addr()?;
        self.kafka_addr()?;
        self.kafka_addrs()?;
        Ok(())
    }

    /// Where gRPC listens.
    ///
    /// # Errors
    /// [`Failure::Usage`] for an address that does not resolve, or one outside loopback without `insecure`.
    pub(crate) fn grpc_addr(&self) -> Result<SocketAddr, Failure> {
        self.address("grpc.listen", &self.grpc.listen)
    }

    /// Where HTTP listens.
    ///
    /// # Errors
    /// As [`Settings::grpc_addr`].
    pub(crate) fn http_addr(&self) -> Result<SocketAddr, Failure> {
        self.address("http.listen", &self.http.listen)
    }

    /// Where Kafka clients are listened to, if anywhere.
    ///
    /// # Errors
    /// As [`Settings::grpc_addr`].
    pub(crate) fn kafka_addr(&self) -> Result<Option<SocketAddr>, Failure> {
        let listen = &self.kafka.listen;
        if listen.is_empty() { Ok(None) } else { self.address("kafka.listen", listen).map(Some) }
    }

    /// Where they are listened to by listeners that have names.
    ///
    /// # Errors
    /// As [`Settings::grpc_addr`].
    pub(crate) fn kafka_addrs(&self) -> Result<BTreeMap<String, SocketAddr>, Failure> {
        let named = self.kafka.listeners.iter();
        named
            .map(|(name, of)| Ok((name.clone(), self.address(&format!("kafka.listeners.{name}.listen"), &of.listen)?)))
            .collect()
    }

    fn address(&self, key: &str, text: &str) -> Result<SocketAddr, Failure> {
        let resolved = text.to_socket_addrs().ok().and_then(|mut found| found.next());
        let address = resolved.ok_or_else(|| {
            Failure::Usage(format!("{key} = \"{text}\" is not an address and a port, such as 127.0.0.1:7070"))
        })?;
        if address.ip().is_loopback() || self.insecure {
            return Ok(address);
        }
        Err(Failure::Usage(format!(
            "{key} = \"{text}\" would listen outside loopback, and TLS and authentication are not built yet: anyone who \
             reaches it could read and delete everything. Listen on 127.0.0.1, or say --insecure to allow it"
        )))
    }

    /// What the broker is started with, behind these listeners.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a secret or certificates of the cluster that cannot be read.
    pub(crate) fn broker_options(&self, bound: &Bound) -> Result<BrokerOptions, Failure> {
        Ok(BrokerOptions {
            shards: self.cluster.shards,
            default_partitions: self.topics.partitions,
            produce_buffer_bytes: self.produce.buffer.0 as usize,
            lane: LaneOptions {
                file_bytes: self.lane.file.0,
                reserve_bytes: self.lane.reserve.0,
                ..LaneOptions::default()
            },
            replay: ReplayOptions {
                roll_bytes: self.replay.roll_bytes.0,
                lane_bytes: self.lane.budget.0,
                ..ReplayOptions::default()
            },
            rows: RowsOptions {
                seal_bytes: self.rows.seal_bytes.0 as usize,
                seal_age: self.rows.seal_age.0,
                rebuild_bytes: self.rows.rebuild_bytes.0 as usize,
                rebuild_wait: self.rows.rebuild_wait.0,
                merge_rate_bytes: self.rows.merge_rate.0,
                tail_budget_bytes: self.rows.tail_budget.0 as usize,
                ..RowsOptions::default()
            },
            groups: GroupOptions {
                initial_rebalance_delay: self.groups.initial_rebalance_delay.0,
                offsets_retention: self.groups.offsets_retention.0,
                ..GroupOptions::default()
            },
            scrub: ScrubOptions { rate_bytes: self.scrub.rate.0, every: self.scrub.every.0 },
            engine: EngineOptions {
                memory_bytes: self.query.memory.0 as usize,
                default_timeout: self.query.timeout.0,
                max_timeout: self.query.max_timeout.0,
                spill_bytes: self.query.spill_bytes.0,
                query_spill_bytes: self.query.spill_bytes.0 / 2,
                max_running: self.query.max_running as usize,
                max_waiting: self.query.max_waiting as usize,
                on_thread_start: Some(yield_to_others),
                ..EngineOptions::default()
            },
            cluster: ClusterOptions {
                kafka_listeners: self.kafka.told(&self.cluster, bound),
                ..self.cluster.options(bound)?
            },
            events: events(),
            settings: self.listed(),
            ..BrokerOptions::new(self.data_dir.clone())
        })
    }

    /// Every setting by its key in the file, in the order of keys. What is secret hides itself.
    fn listed(&self) -> Vec<(String, String)> {
        let table = toml::Table::try_from(self).expect("settings are plain values");
        let mut listed = Vec::new();
        list("", table, &mut listed);
        listed.sort();
        listed
    }
}

fn list(prefix: &str, table: toml::Table, listed: &mut Vec<(String, String)>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(keys) => list(&format!("{prefix}{key}."), keys, listed),
            value => listed.push((format!("{prefix}{key}"), plain(value))),
        }
    }
}

/// A value without quotes around it.
fn plain(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    }
}

fn bounded(key: &str, value: u64, low: u64, high: u64) -> Result<(), Failure> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Failure::Usage(format!("{key} = {value} is out of bounds: it is {low} to {high}")))
}
