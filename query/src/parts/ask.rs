//! Small questions to other nodes, which have no part in a query.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use stratalog_proto::{Code, Error, NodeId, internal};

use super::ipc::Decoder;
use crate::core::Core;
use crate::error::from_datafusion;
use crate::query::Query;

/// The most bytes of a table that a node may send.
const MAX_TABLE_BYTES: usize = 64 << 20;

/// The rows of a table of the schema `system` as a node sees it.
///
/// # Errors
/// What the node refuses with, [`Code::Unavailable`] if it does not answer in time, and [`Code::InvalidRequest`] for rows
/// of other columns, as a node of another version may have.
pub(crate) async fn system_rows(
    core: &Core,
    node: NodeId,
    name: &str,
    schema: SchemaRef,
    patience: Duration,
    query: &Query,
) -> Result<RecordBatch, Error> {
    let table = internal::SystemTable { name: name.to_owned() };
    let timeout = patience.min(query.deadline().saturating_duration_since(Instant::now()));
    let answer = answer(core, node, internal::run_part::What::System(table), schema, timeout);
    let late = |_| Error::new(Code::Unavailable, format!("node {node} did not answer within {timeout:?}"));
    tokio::time::timeout(timeout, answer).await.map_err(late)?
}

/// Ends a query at another node.
///
/// # Errors
/// [`Code::InvalidRequest`] if none of that id runs there; that the node does not answer.
pub(crate) async fn kill(core: &Core, node: NodeId, id: &str, query: &Query) -> Result<(), Error> {
    let kill = internal::run_part::What::Kill(internal::KillQuery { id: id.to_owned() });
    let left = query.deadline().saturating_duration_since(Instant::now());
    let schema = SchemaRef::new(arrow::datatypes::Schema::empty());
    answer(core, node, kill, schema, left).await.map(drop)
}

async fn answer(
    core: &Core,
    node: NodeId,
    what: internal::run_part::What,
    schema: SchemaRef,
    timeout: Duration,
) -> Result<RecordBatch, Error> {
    let mut frames = core.workers.run(node, internal::RunPart { what: Some(what) }, timeout);
    let (mut decoder, mut batches, mut bytes) = (Decoder::new(schema.clone()), Vec::new(), 0);
    while let Some(frame) = frames.next().await.transpose()? {
        bytes += frame.body.len();
        if bytes > MAX_TABLE_BYTES {
            return Err(Error::new(Code::QueryBudget, format!("node {node} sends more than {MAX_TABLE_BYTES} bytes")));
        }
        let wrong =
            |error| Error::new(Code::InvalidRequest, format!("node {node} answers with other columns: {error}"));
        batches.extend(decoder.batches(frame.body).map_err(wrong)?);
        if frame.frame.end.is_some() {
            return concat_batches(&schema, &batches).map_err(|error| from_datafusion(error.into()));
        }
    }
    Err(Error::new(Code::Unavailable, format!("the answer of node {node} broke off")))
}
