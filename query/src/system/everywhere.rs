//! Tables to which every node of the cluster contributes what it knows: of what happens at it, and of the shards that it
//! leads. A node that does not answer is missing in them, with a warning: they are for who wants to know what is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use datafusion::common::Result;
use futures::future::join_all;
use stratalog_proto::{Code, Error, NodeId, ShardId};

use super::{GROUPS, PARTITIONS, groups, own_rows};
use crate::core::Core;
use crate::error::from_datafusion;
use crate::parts;
use crate::query::Query;

/// Of these, rows about a shard come from the node that leads it. Of the others each node has its own.
const OF_LEADERS: [&str; 3] = [GROUPS, PARTITIONS, "segments"];
/// How long a node is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The rows of a table over all nodes; `None` if there is none of the name.
///
/// # Errors
/// None but defects.
pub(super) async fn rows(core: &Core, name: &str, running: &Query) -> Result<Option<RecordBatch>, Error> {
    let Some(rows) = gathered(core, name, running).await? else { return Ok(None) };
    if name != GROUPS {
        return Ok(Some(rows));
    }
    // Afterwards, so that no group is ahead of its partition.
    let partitions = gathered(core, PARTITIONS, running).await?;
    partitions.map(|partitions| groups::with_lag(&rows, &partitions)).transpose().map_err(from_datafusion)
}

/// What the nodes contribute.
async fn gathered(core: &Core, name: &str, running: &Query) -> Result<Option<RecordBatch>, Error> {
    let Some(own) = own_rows(core, name).map_err(from_datafusion)? else { return Ok(None) };
    let schema = own.schema();
    let asked = core.workers.others().into_iter().map(|node| {
        let schema = schema.clone();
        async move { (node, parts::system_rows(core, node, name, schema, PATIENCE, running).await) }
    });
    let mut of_nodes = vec![(core.workers.me(), own)];
    for (node, answer) in join_all(asked).await {
        match answer {
            Ok(rows) => of_nodes.push((node, rows)),
            Err(error) => tracing::warn!(%node, %error, "a node is missing in system.{name}"),
        }
    }
    let whole = if OF_LEADERS.contains(&name) { of_leaders(core, of_nodes).await } else { of_each(of_nodes) };
    whole.map(Some).map_err(from_datafusion)
}

/// The rows of this node alone, for another that asks.
///
/// # Errors
/// [`Code::InvalidRequest`] if there is no such table.
pub(crate) fn rows_here(core: &Core, name: &str) -> Result<RecordBatch, Error> {
    let rows = own_rows(core, name).map_err(from_datafusion)?;
    rows.ok_or_else(|| Error::new(Code::InvalidRequest, "no table of that name is made of what nodes know"))
}

/// The columns of a table; `None` if there is none of the name.
///
/// # Errors
/// None but defects.
pub(super) fn schema(core: &Core, name: &str) -> Result<Option<SchemaRef>> {
    let Some(own) = own_rows(core, name)? else { return Ok(None) };
    if name == GROUPS {
        let partitions = own_rows(core, PARTITIONS)?;
        return partitions.map(|partitions| Ok(groups::with_lag(&own, &partitions)?.schema())).transpose();
    }
    if OF_LEADERS.contains(&name) {
        return Ok(Some(own.schema()));
    }
    Ok(Some(with_node(core.workers.me(), &own)?.schema()))
}

fn of_each(of_nodes: Vec<(NodeId, RecordBatch)>) -> Result<RecordBatch> {
    let rows = of_nodes.iter().map(|(node, rows)| with_node(*node, rows)).collect::<Result<Vec<_>>>()?;
    Ok(concat_batches(&rows[0].schema(), &rows)?)
}

/// The rows behind a column that says whose they are.
fn with_node(node: NodeId, rows: &RecordBatch) -> Result<RecordBatch> {
    let nodes: ArrayRef = Arc::new(UInt64Array::from(vec![node.0; rows.num_rows()]));
    let schema = rows.schema();
    let fields =
        [Arc::new(Field::new("node", DataType::UInt64, true))].into_iter().chain(schema.fields().iter().cloned());
    let columns = [nodes].into_iter().chain(rows.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
}

/// The rows of each shard as its leader has them. A shard without one is as this node knows it, if it does.
async fn of_leaders(core: &Core, of_nodes: Vec<(NodeId, RecordBatch)>) -> Result<RecordBatch> {
    let schema = of_nodes[0].1.schema();
    let shards: Vec<ShardId> = of_nodes.iter().flat_map(|(_, rows)| shards_of(rows)).flatten().collect();
    let leaders = if of_nodes.len() == 1 { BTreeMap::new() } else { leaders(core, shards).await };
    let me = core.workers.me();
    let mut kept = Vec::with_capacity(of_nodes.len());
    for (node, rows) in &of_nodes {
        let leads = |shard: Option<ShardId>| shard.map(|shard| leaders.get(&shard).unwrap_or(&me) == node);
        kept.push(filter_record_batch(rows, &shards_of(rows).map(leads).collect::<BooleanArray>())?);
    }
    Ok(concat_batches(&schema, &kept)?)
}

async fn leaders(core: &Core, mut shards: Vec<ShardId>) -> BTreeMap<ShardId, NodeId> {
    shards.sort_unstable();
    shards.dedup();
    let found = core.workers.elsewhere(&shards, Instant::now() + PATIENCE).await;
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "a table about shards shows them as this node knows them");
        BTreeMap::new()
    })
}

fn shards_of(rows: &RecordBatch) -> impl Iterator<Item = Option<ShardId>> {
    let shards = rows.column_by_name("shard").and_then(|column| column.as_primitive_opt::<UInt32Type>());
    shards.into_iter().flatten().map(|shard| shard.map(ShardId))
}
