//! `system.queries`: the queries that run, and the last that ended.

use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryPool;
use stratalog_proto::v1;

use super::{numbers, optional_texts, rows_of, texts, times};
use crate::queries::{Ended, Outcome, Queries};
use crate::query::Query;

struct Row {
    state: &'static str,
    text: String,
    client: String,
    arrived_ns: i64,
    memory: usize,
    peak_memory: usize,
    error: Option<String>,
    stats: v1::QueryStats,
}

/// One row a query: those that run first.
pub(super) fn table(queries: &Queries) -> Result<RecordBatch> {
    let running = queries.running().into_iter().map(|query| of_running(&query));
    let rows: Vec<Row> = running.chain(queries.ended().into_iter().map(of_ended)).collect();
    let stats = || rows.iter().map(|row| &row.stats);
    rows_of(vec![
        ("id", texts(stats().map(|stats| &stats.query_id))),
        ("state", texts(rows.iter().map(|row| row.state))),
        ("sql", texts(rows.iter().map(|row| &row.text))),
        ("client", texts(rows.iter().map(|row| &row.client))),
        ("started", times(rows.iter().map(|row| Some(row.arrived_ns)))),
        ("elapsed_us", numbers(stats().map(|stats| stats.elapsed_us))),
        ("rows", numbers(stats().map(|stats| stats.rows_returned))),
        ("rows_scanned", numbers(stats().map(|stats| stats.rows_scanned))),
        ("bytes_scanned", numbers(stats().map(|stats| stats.bytes_scanned))),
        ("memory", numbers(rows.iter().map(|row| row.memory as u64))),
        ("peak_memory", numbers(rows.iter().map(|row| row.peak_memory as u64))),
        ("spilled", numbers(stats().map(|stats| stats.spilled_bytes))),
        ("error", optional_texts(rows.iter().map(|row| row.error.as_deref()))),
    ])
}

fn of_running(query: &Query) -> Row {
    Row {
        state: query.phase().name(),
        text: query.text.clone(),
        client: query.client.clone(),
        arrived_ns: query.arrived_ns,
        memory: query.memory.reserved(),
        peak_memory: query.memory.peak(),
        error: None,
        stats: query.stats(),
    }
}

fn of_ended(query: Ended) -> Row {
    Row {
        state: query.outcome.name(),
        text: query.text,
        client: query.client,
        arrived_ns: query.arrived_ns,
        memory: 0,
        peak_memory: query.peak_memory,
        error: match query.outcome {
            Outcome::Failed(error) => Some(format!("{}: {}", error.code, error.message)),
            Outcome::Done | Outcome::Left => None,
        },
        stats: query.stats,
    }
}
