//! What happened in a run: a file with one JSON object a line, in the order in which operations ended.
//!
//! The first line is `begin` ([`Header`]: everything that a checker has to know of the run), the last one is `end`. Between
//! them stand operations, faults and the copies that were read when all was over. An operation whose outcome is not known is
//! `info`, never `fail`. A file without its last line is cut short, and proves nothing.
//!
//! ```json
//! {"send":{"process":1,"at":[1230100,1233240],"partition":2,"value":771,"outcome":{"ok":1841}}}
//! {"poll":{"process":7,"at":[1233000,1240000],"outcome":{"ok":[{"partition":2,"first":1840,"values":[769,771]}]}}}
//! {"fault":{"kind":"kill-leader","nodes":[1],"at":[1240000,5240000],"partitions":[0,2],"detail":"shard 1"}}
//! ```

mod group;
mod header;
mod ops;
mod reader;
mod writer;

use serde::{Deserialize, Serialize};

pub(crate) use group::{CommitOp, CommittedOp, RebalanceOp, SubscribeOp};
pub(crate) use header::{ClientKind, Excuse, Header, Process, Promise, Requires, Role, Versions};
pub(crate) use ops::{
    AssignOp, CopyEnd, CopyPart, CrashOp, End, Fault, MetaChange, MetaOp, MetaSeen, Outcome, PollOp, Position, Probe,
    QueryOp, Run, SearchOp, Seen, SendOp, Source, Terms, WatermarkOp, When,
};
pub(crate) use reader::{HistoryError, Reader};
pub(crate) use writer::Writer;

/// The format that this build writes, and the only one that it reads.
pub(crate) const FORMAT: u32 = 1;

/// Microseconds since the run began.
pub(crate) type Micros = u64;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    /// First.
    Begin(Box<Header>),
    /// A record was produced.
    Send(SendOp),
    /// A consumer takes a position.
    Assign(AssignOp),
    /// A consumer got records.
    Poll(PollOp),
    /// A member joins a consumer group.
    Subscribe(SubscribeOp),
    /// A member has other partitions from now on.
    Rebalance(RebalanceOp),
    /// A member commits offsets of its group.
    Commit(CommitOp),
    /// Somebody asks what a group has committed.
    Committed(CommittedOp),
    /// A client went away without a word.
    Crash(CrashOp),
    /// High watermarks were asked for.
    Watermarks(WatermarkOp),
    /// Rows were counted with SQL.
    Query(QueryOp),
    /// One record was searched for.
    Search(SearchOp),
    /// Metadata was changed or read.
    Meta(MetaOp),
    /// A piece of what a node has at the end.
    Copy(CopyPart),
    /// The end of that, for one partition.
    CopyEnd(CopyEnd),
    /// Something was broken, and mended.
    Fault(Fault),
    /// Something that has to be so was looked at.
    Probe(Probe),
    /// How often leaders were elected so far.
    Terms(Terms),
    /// Last.
    End(End),
}
