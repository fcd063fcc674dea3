//! From the body of an HTTP request to record batches, and from their results to a summary. Pure: no IO.
//!
//! `split` cuts a body into records without copying, `key` finds a record's key in its value, `plan` spreads the records
//! over partitions and builds the batches, `summary` says what became of each.

mod key;
mod plan;
mod split;
mod summary;

use stratalog_broker::Multiline;
use stratalog_proto::config::Format;

#[cfg(test)]
mod lies;
#[cfg(test)]
mod tests;

pub(crate) use plan::{Plan, PlannedBatch, Refused, plan};
pub(crate) use split::{Shape, for_each_record};
pub(crate) use summary::{Outcome, Summary};

/// What the records of one request have in common.
#[derive(Clone, Debug)]
pub(crate) struct IngestOptions {
    /// The field whose value is a record's key; dots reach into nested objects.
    pub(crate) key_field: Option<String>,
    /// The key of every record.
    pub(crate) key: Option<String>,
    /// The partition of every record; else its key decides, else they are spread.
    pub(crate) partition: Option<u32>,
    /// The timestamp of every record, in milliseconds since the epoch.
    pub(crate) timestamp_ms: i64,
    /// How many partitions the topic has.
    pub(crate) partitions: u32,
    /// Where spreading starts: a number that goes up with each request.
    pub(crate) first_spread: u32,
    /// The topic's `max.message.bytes`.
    pub(crate) max_batch_bytes: usize,
    /// The topic's format, which says what lines are no records.
    pub(crate) format: Format,
    /// Which lines begin a record, if not each; only for [`Shape::Lines`].
    pub(crate) multiline: Option<Multiline>,
}
