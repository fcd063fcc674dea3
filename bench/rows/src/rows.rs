//! What is asked of a node about its rows.

use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use stratalog_bench_log::{Failure, Node};
use stratalog_client::{Client, QueryOptions};

/// Long ago: dropping what is older seals a topic and drops nothing.
const LONG_AGO_NS: i64 = 1;
const LONG: Duration = Duration::from_secs(120);

/// The number that a statement answers.
///
/// # Errors
/// The statement fails, or answers something else.
pub(crate) async fn number(client: &Client, sql: &str) -> Result<i64, Failure> {
    let options = QueryOptions { timeout: Some(Duration::from_secs(60)), ..QueryOptions::default() };
    let (_, batches, _) = client.sql(sql, &options).await?.collect().await?;
    let value = batches.iter().find(|batch| batch.num_rows() > 0).and_then(|batch| {
        let column = batch.columns().first()?.as_primitive_opt::<Int64Type>()?;
        column.is_valid(0).then(|| column.value(0))
    });
    value.ok_or_else(|| Failure(format!("`{sql}` answers no number")))
}

/// Waits until a topic has so many rows.
///
/// # Errors
/// It has not after two minutes: a record was lost, or came twice.
pub(crate) async fn wait_for(client: &Client, topic: &str, rows: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + LONG;
    let sql = format!("SELECT count(*) FROM {topic}");
    loop {
        let found = number(client, &sql).await? as u64;
        if found == rows {
            return Ok(());
        }
        if found > rows || Instant::now() > deadline {
            return Err(Failure(format!("{rows} records were acknowledged, and topic {topic} has {found} rows")));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Seals everything that a topic has in its tail.
///
/// # Errors
/// A seal fails.
pub(crate) async fn seal(client: &Client, topic: &str) -> Result<(), Failure> {
    client.drop_before(topic, LONG_AGO_NS, false).await?;
    Ok(())
}

/// Waits until no row is in a tail any more.
///
/// # Errors
/// There still are after two minutes.
pub(crate) async fn wait_for_seals(node: &Node) -> Result<(), Failure> {
    let deadline = Instant::now() + LONG;
    while node.metric("stratalog_rows_tail")? > 0.0 {
        if Instant::now() > deadline {
            return Err(Failure("rows are still unsealed after two minutes".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
