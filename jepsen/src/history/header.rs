//! What a checker has to know of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Source;

/// The first line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// [`super::FORMAT`].
    pub(crate) format: u32,
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    /// How long faults and load were to last, in seconds.
    pub(crate) length_s: u64,
    /// When the run began, in milliseconds since the epoch: times of operations count from there.
    pub(crate) started_ms: i64,
    pub(crate) versions: Versions,
    /// What this machine could inject, and what it could not.
    pub(crate) capabilities: Vec<String>,
    pub(crate) missing: Vec<String>,
    pub(crate) topic: String,
    pub(crate) partitions: u32,
    /// A record's text has the word `value % words`.
    pub(crate) words: u64,
    pub(crate) processes: Vec<Process>,
    /// What may look like an anomaly, and is none in this run.
    pub(crate) excuses: Vec<Excuse>,
    pub(crate) requires: Requires,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Versions {
    pub(crate) harness: String,
    /// As `stratalog --version` says.
    pub(crate) node: String,
    /// Those of the Kafka clients, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kafka: Option<String>,
}

/// A client of the run; operations name it by its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pub(crate) process: u32,
    pub(crate) role: Role,
    /// The only node that it talks to; `None`: any.
    pub(crate) node: Option<u64>,
    #[serde(default, skip_serializing_if = "ClientKind::is_sdk")]
    pub(crate) client: ClientKind,
}

/// What a process speaks through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ClientKind {
    /// The Rust SDK.
    #[default]
    Sdk,
    /// Kafka's protocol, in a process of its own.
    Librdkafka,
}

impl ClientKind {
    fn is_sdk(&self) -> bool {
        *self == Self::Sdk
    }
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    Producer,
    Consumer,
    Querier,
    Searcher,
    Watcher,
    /// Creates, changes and deletes topics of its own.
    Operator,
    /// Of a consumer group, in which it reads what the group gives it.
    Member,
    /// Asks what the group has committed.
    Observer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Excuse {
    /// Retention or deletion moves log starts: offsets below the one that the copies begin at may be gone.
    LogStartMoves,
}

/// What has to have happened before "no anomaly" means anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Requires {
    /// Fault → how often it has to have fired while records were being acknowledged.
    pub(crate) faults: BTreeMap<String, u64>,
    /// Operations that have to have succeeded, by the name of their line; each partition needs one acknowledged send.
    pub(crate) operations: BTreeMap<String, u64>,
    /// The same of those that went through librdkafka.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) kafka_operations: BTreeMap<String, u64>,
    /// Source → nodes from which each partition has to have been read to its end.
    pub(crate) copies: BTreeMap<Source, u64>,
    /// Sends that have to have been tried at a node while it was cut off from all others.
    #[serde(default)]
    pub(crate) sends_while_cut_off: u64,
    /// Probe → how often it has to have been made.
    #[serde(default)]
    pub(crate) probes: BTreeMap<String, u64>,
    /// How fast the cluster has to be back.
    #[serde(default)]
    pub(crate) promises: Vec<Promise>,
}

/// A bound on how much a fault may be felt, in the partitions that it concerns, or by all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Promise {
    /// The longest time without an acknowledgement around a fault; the 99th percentile over all faults of a kind.
    Gap { fault: String, within_ms: u64 },
    /// From the end of a fault to the next acknowledgement, in the partition that comes last; each time.
    Back { fault: String, within_ms: u64 },
    /// From the beginning of a fault that lasts longer than this to the first read of all high watermarks by a client of another
    /// node: somebody leads every shard again.
    Replaced { fault: String, within_ms: u64 },
    /// Leaders that are elected while a fault lasts, in all shards and the metadata together, for each minute that began.
    Elections { fault: String, a_minute: u64 },
    /// So many times longer than before anything was broken may sends take while a fault lasts: the 99th percentiles.
    Slowed { fault: String, times: u64 },
    /// The same for half a minute, or until the next fault, beginning so long after the end of each.
    Recovered { fault: String, within_ms: u64, times: u64 },
}

impl Header {
    /// Of a run that does nothing and requires nothing.
    pub(crate) fn empty() -> Self {
        Self {
            format: super::FORMAT,
            scenario: String::new(),
            seed: 0,
            length_s: 0,
            started_ms: 0,
            versions: Versions::default(),
            capabilities: Vec::new(),
            missing: Vec::new(),
            topic: String::new(),
            partitions: 0,
            words: 1,
            processes: Vec::new(),
            excuses: Vec::new(),
            requires: Requires::default(),
        }
    }
}
