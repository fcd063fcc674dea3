//! What the broker knows of the node: `system.shards`, `system.settings`, `system.events`, `system.jobs`,
//! `system.connections`.

use arrow::array::RecordBatch;
use datafusion::common::Result;

use super::{numbers, optional_texts, rows_of, small_numbers, texts, times, truths};
use crate::catalog::Catalog;

/// One row a shard.
pub(super) fn shards(catalog: &dyn Catalog) -> Result<RecordBatch> {
    let shards = catalog.shards();
    rows_of(vec![
        ("shard", small_numbers(shards.iter().map(|info| info.shard.0))),
        ("leader", truths(shards.iter().map(|info| info.leader))),
        ("applied", numbers(shards.iter().map(|info| info.applied.0))),
        ("visible", numbers(shards.iter().map(|info| info.visible.0))),
        ("replay_frontier", numbers(shards.iter().map(|info| info.replay_frontier.0))),
        ("log_bytes", numbers(shards.iter().map(|info| info.log_bytes))),
        ("replay_segments", numbers(shards.iter().map(|info| info.replay_segments))),
        ("segments", numbers(shards.iter().map(|info| info.segments))),
        ("tail_rows", numbers(shards.iter().map(|info| info.tail_rows))),
        ("tail_bytes", numbers(shards.iter().map(|info| info.tail_bytes))),
        ("producers", numbers(shards.iter().map(|info| info.producers))),
    ])
}

/// One row a setting of the node.
pub(super) fn settings(catalog: &dyn Catalog) -> Result<RecordBatch> {
    let settings = catalog.settings();
    rows_of(vec![
        ("name", texts(settings.iter().map(|setting| &setting.name))),
        ("value", texts(settings.iter().map(|setting| &setting.value))),
    ])
}

/// One row an event, the newest first.
pub(super) fn events(catalog: &dyn Catalog) -> Result<RecordBatch> {
    let events = catalog.events();
    rows_of(vec![
        ("time", times(events.iter().map(|event| Some(event.time_ns)))),
        ("level", texts(events.iter().map(|event| &event.level))),
        ("source", texts(events.iter().map(|event| &event.source))),
        ("message", texts(events.iter().map(|event| &event.message))),
    ])
}

/// One row a job in the background.
pub(super) fn jobs(catalog: &dyn Catalog) -> Result<RecordBatch> {
    let jobs = catalog.jobs();
    rows_of(vec![
        ("id", texts(jobs.iter().map(|job| &job.id))),
        ("kind", texts(jobs.iter().map(|job| &job.kind))),
        ("topic", texts(jobs.iter().map(|job| &job.topic))),
        ("shard", small_numbers(jobs.iter().map(|job| job.shard.0))),
        ("state", texts(jobs.iter().map(|job| &job.state))),
        ("what", texts(jobs.iter().map(|job| &job.what))),
        ("progress", texts(jobs.iter().map(|job| &job.progress))),
        ("error", optional_texts(jobs.iter().map(|job| job.error.as_deref()))),
    ])
}

/// One row a connection of a client.
pub(super) fn connections(catalog: &dyn Catalog) -> Result<RecordBatch> {
    let connections = catalog.connections();
    rows_of(vec![
        ("listener", texts(connections.iter().map(|connection| &connection.listener))),
        ("client", texts(connections.iter().map(|connection| &connection.client))),
        ("client_id", texts(connections.iter().map(|connection| &connection.client_id))),
        ("software", texts(connections.iter().map(|connection| &connection.software))),
        ("software_version", texts(connections.iter().map(|connection| &connection.software_version))),
        ("since", times(connections.iter().map(|connection| Some(connection.since_ns)))),
        ("requests", numbers(connections.iter().map(|connection| connection.requests))),
        ("bytes_in", numbers(connections.iter().map(|connection| connection.bytes_in))),
        ("bytes_out", numbers(connections.iter().map(|connection| connection.bytes_out))),
    ])
}
