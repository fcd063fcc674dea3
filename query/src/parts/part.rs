//! A part of a query at another node, as the node that was asked knows it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use stratalog_proto::{Code, Error, NodeId, ShardId, internal, v1};

use super::ipc;
use super::workers::Workers;
use crate::query::Query;
use crate::scan::Ends;
use crate::schema::names;

/// A snapshot of a topic's rows in some shards, kept at the node that leads them. Dropping it closes it.
pub(crate) struct Part {
    pub(crate) node: NodeId,
    pub(crate) shards: Vec<ShardId>,
    /// The merged schema of its rows.
    pub(crate) schema: SchemaRef,
    pub(crate) opened: internal::PartOpened,
    /// The query that it is a part of.
    pub(crate) query: Arc<Query>,
    pub(crate) workers: Arc<dyn Workers>,
}

impl Part {
    /// What was opened for `shards`.
    ///
    /// # Errors
    /// [`Code::Internal`] for an answer that is not what was asked for (X1).
    pub(crate) fn new(
        node: NodeId,
        shards: Vec<ShardId>,
        opened: internal::PartOpened,
        query: &Arc<Query>,
        workers: &Arc<dyn Workers>,
    ) -> Result<Self, Error> {
        let wrong = |what: &str| Error::new(Code::Internal, format!("node {node} opened a part {what}: a defect"));
        let fenced: Vec<ShardId> = opened.fences.iter().map(|fence| ShardId(fence.shard)).collect();
        if fenced != shards {
            return Err(wrong(&format!("of shards {fenced:?} instead of {shards:?}")));
        }
        let schema =
            ipc::decode_schema(&opened.schema).map_err(|error| wrong(&format!("without a schema ({error})")))?;
        Ok(Self { node, shards, schema, opened, query: query.clone(), workers: workers.clone() })
    }

    /// What its answers include, by shard.
    pub(crate) fn fences(&self) -> impl Iterator<Item = v1::ShardFence> {
        let fence =
            |fence: &internal::PartFence| v1::ShardFence { shard: fence.shard, index: fence.index, lag: fence.lag };
        self.opened.fences.iter().map(fence)
    }

    /// Rows that are stored.
    pub(crate) fn rows(&self) -> usize {
        usize::try_from(self.opened.rows).unwrap_or(usize::MAX)
    }

    /// What is known of the ends of a column.
    pub(crate) fn ends(&self, column: &str) -> Ends {
        let (ends, scalar): (_, fn(i64) -> Option<ScalarValue>) = match column {
            names::TIME => {
                (&self.opened.time, |ns| Some(ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into()))))
            }
            names::PARTITION => {
                (&self.opened.partition, |number| Some(ScalarValue::Int32(Some(i32::try_from(number).ok()?))))
            }
            names::OFFSET => (&self.opened.offset, |offset| Some(ScalarValue::Int64(Some(offset)))),
            _ => return Ends::Unknown,
        };
        let values = match ends {
            None => return Ends::Unknown,
            Some(internal::PartEnds { least: Some(least), greatest: Some(greatest) }) => {
                (scalar(*least), scalar(*greatest))
            }
            Some(_) => return Ends::NoRows,
        };
        let (Some(least), Some(greatest)) = values else { return Ends::Unknown };
        Ends::Values(least, greatest)
    }

    /// `3` or `1,3`.
    pub(crate) fn shown_shards(&self) -> String {
        self.shards.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("node", &self.node).field("shards", &self.shards).finish_non_exhaustive()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.workers.close(self.node, self.opened.part);
    }
}
