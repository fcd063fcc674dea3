//! Operations, faults and copies, as they stand in a line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Micros;

/// When an operation was invoked and when it completed; of a fault: when it was in effect, and when its mending began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct When(pub(crate) Micros, pub(crate) Micros);

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome<T> {
    /// It did what was asked, and this is the answer.
    Ok(T),
    /// It certainly did nothing; why.
    Fail(String),
    /// It may have taken effect, may yet, or never will; why that is not known.
    Info(String),
}

impl<T> Outcome<T> {
    pub(crate) fn ok(&self) -> Option<&T> {
        if let Self::Ok(answer) = self { Some(answer) } else { None }
    }
}

/// One record. Values are unique in a run, small numbers, and ascend in the order in which a process sends them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendOp {
    pub(crate) process: u32,
    pub(crate) at: When,
    pub(crate) partition: u32,
    pub(crate) value: u64,
    /// The acknowledged offset.
    pub(crate) outcome: Outcome<u64>,
    /// With an unknown outcome: it was acknowledged all the same, though not where it is. So librdkafka does it if the answer was lost,
    /// and what it sent behind it was acknowledged.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) placeless: bool,
}

// As serde asks for it.
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Position {
    Earliest,
    Latest,
    Offset(u64),
}

/// A consumer takes a position in these partitions, and forgets any other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AssignOp {
    pub(crate) process: u32,
    pub(crate) at: When,
    pub(crate) partitions: Vec<u32>,
    pub(crate) from: Position,
    pub(crate) outcome: Outcome<()>,
}

/// Records that a consumer got, in the order in which it got them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PollOp {
    pub(crate) process: u32,
    pub(crate) at: When,
    pub(crate) outcome: Outcome<Vec<Run>>,
}

/// Values at consecutive offsets of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    pub(crate) partition: u32,
    pub(crate) first: u64,
    pub(crate) values: Vec<u64>,
    /// Offsets at which key, value or headers are not what was sent, and how they differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) altered: Vec<(u64, String)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CrashOp {
    pub(crate) process: u32,
    pub(crate) at: When,
}

/// A linearizable read of the high watermark of each partition, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatermarkOp {
    pub(crate) process: u32,
    pub(crate) at: When,
    /// For each partition one past the highest offset that was acknowledged before it was invoked.
    pub(crate) at_least: Vec<u64>,
    pub(crate) outcome: Outcome<Vec<u64>>,
}

/// A count of the rows of each partition, with the tokens of everything that was acknowledged before (Q1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryOp {
    pub(crate) process: u32,
    pub(crate) at: When,
    /// For each partition one past the highest offset that was acknowledged before it was invoked.
    pub(crate) at_least: Vec<u64>,
    pub(crate) outcome: Outcome<Vec<Seen>>,
}

/// Rows of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    pub(crate) partition: u32,
    pub(crate) rows: u64,
    /// The lowest, the highest and the sum of their offsets.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) sum: u64,
}

/// A search for one record that was acknowledged before, with its token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchOp {
    pub(crate) process: u32,
    pub(crate) at: When,
    pub(crate) value: u64,
    /// Partition and offset of its acknowledgement.
    pub(crate) place: (u32, u64),
    /// Partition and offset of each hit.
    pub(crate) outcome: Outcome<Vec<(u32, u64)>>,
}

/// What is done to a topic of its own, which has one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MetaChange {
    Create(u64),
    Alter(u64),
    Delete,
    Read,
}

/// What it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MetaSeen {
    /// The change took effect.
    Done,
    /// There is such a topic: a creation was refused.
    Exists,
    /// There is none: a change was refused, or nothing was read.
    Absent,
    /// The setting that was read.
    Setting(u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetaOp {
    pub(crate) process: u32,
    pub(crate) at: When,
    /// The topic.
    pub(crate) key: String,
    pub(crate) change: MetaChange,
    pub(crate) outcome: Outcome<MetaSeen>,
}

/// Where a copy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    /// The log, as the node's own replica has it.
    Replica,
    /// Rows, as the node answers SQL.
    Sql,
    /// Hits, as the node answers `MATCH` of each word.
    Search,
}

/// Records at consecutive offsets of one partition, when all was over. Records that come twice stand twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CopyPart {
    pub(crate) source: Source,
    pub(crate) node: u64,
    pub(crate) partition: u32,
    pub(crate) first: u64,
    pub(crate) values: Vec<u64>,
    /// Of a search: the word that found them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) word: Option<u64>,
    /// Of a replica: a checksum of each whole record as it was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) digests: Vec<u32>,
    /// Of a replica: the epoch of the idempotent producer that wrote each record; -1: it names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) epochs: Vec<i16>,
    /// Offsets at which key, value or headers are not what was sent, and how they differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) altered: Vec<(u64, String)>,
}

/// All that a source has of a partition stands above.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CopyEnd {
    pub(crate) source: Source,
    pub(crate) node: u64,
    pub(crate) partition: u32,
    pub(crate) at: When,
    /// Where the partition's log begins.
    pub(crate) from: u64,
    /// One past the last offset that was read.
    pub(crate) outcome: Outcome<u64>,
}

/// Something that was broken on purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) kind: String,
    /// Whom it hit.
    pub(crate) nodes: Vec<u64>,
    pub(crate) at: When,
    /// Partitions that lost their leader by it, or stood still.
    pub(crate) partitions: Vec<u32>,
    /// Directed links on which nothing arrived, `[from, to]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) cuts: Vec<(u64, u64)>,
    /// Nodes that were cut off from all others by that, in both directions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) alone: Vec<u64>,
    pub(crate) detail: String,
}

/// The highest term of each shard, the metadata's among them, that some node told of: each election begins a further one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Terms {
    pub(crate) at: When,
    pub(crate) terms: BTreeMap<u32, u64>,
}

/// Something that has to be so, and whether it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    pub(crate) what: String,
    pub(crate) at: When,
    pub(crate) held: bool,
    pub(crate) detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    /// Lines before this one.
    pub(crate) lines: u64,
    /// Why the run did not get as far as it should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) broken_off: Option<String>,
}
