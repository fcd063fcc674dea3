//! Queries: SQL and log search over topics, each a table whose rows lie in column segments and in the tail.
//!
//! [`Engine`] is the entry point; what it knows of the world comes through [`Catalog`]. A query takes one
//! [`TopicSnapshot`] of each topic that it names and answers from those alone.
//!
//! Invariants:
//! - Q1: a query sees a prefix of every partition, fixed when it starts; with a token it sees at least that record.
//! - Q2: the same query over tail, sealed and half-sealed rows gives the same answer, `NOT MATCH(…)` included.
//! - X1: no statement overflows a stack or takes memory without bound; each has a budget, a deadline and a cancel.
//!
//! This crate never sees Raft, and writes nothing but spill files, which nobody else reads.

mod admission;
mod answer;
mod budget;
mod catalog;
mod change;
mod changes;
mod core;
mod delivery;
mod engine;
mod error;
mod growth;
mod guarded;
mod joins;
mod json_get;
mod lengthy;
mod matching;
mod meter;
mod parameters;
mod parts;
mod positions;
mod queries;
mod query;
mod runtime;
mod scan;
mod schema;
mod search;
mod session;
mod spill;
mod sql;
mod statement;
mod system;
mod table;
mod try_cast;
mod widen;

#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use catalog::{
    Catalog, ConnectionInfo, EventInfo, GroupInfo, GroupMemberInfo, JobInfo, PartitionInfo, RawRecords, SettingInfo,
    ShardInfo, ShardSnapshot, TailChunk, TopicInfo, TopicSnapshot,
};
pub use changes::{Changes, TopicChange};
pub use engine::{Engine, EngineOptions};
pub use parameters::Parameter;
pub use parts::{Alone, PartBytes, Workers};
pub use positions::Positions;
pub use schema::merge_schemas;
pub use search::SearchRequest;
pub use statement::SqlRequest;
pub use widen::{LARGEST_PLAIN, widen};
