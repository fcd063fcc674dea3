//! One node is read from the start to the end while the load goes on: what it gives out has to be what was sent.

use std::time::Duration;

use stratalog_client::{Client, ClientError, ConsumerOptions, QueryOptions, Stop};
use stratalog_proto::PartitionId;

use super::record::runs;
use super::{Shared, WORDS};
use crate::failure::Failure;

/// How long one node may take to give everything.
const READ_WITHIN: Duration = Duration::from_secs(120);
/// What cannot be read at once may be fetched from others meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads every record of the topic from a node's own replicas, and `rows`, too, if it is asked for; what of it nobody sent.
///
/// # Errors
/// What the node says if it cannot give everything: that is no wrong answer.
pub(crate) async fn read_from(shared: &Shared, address: &str, rows: bool) -> Result<Vec<String>, Failure> {
    let client = Client::connect_only(address).await?;
    let all: Vec<u32> = (0..shared.load.partitions).collect();
    let mut wrong = read_partitions(shared, &client, &all).await?;
    if rows {
        let read = tokio::time::timeout(READ_WITHIN, read_rows(shared, &client)).await;
        wrong.extend(read.map_err(|_| Failure(format!("its rows took longer than {READ_WITHIN:?}")))??);
    }
    Ok(wrong)
}

/// The same of some partitions, from whoever a client asks.
///
/// # Errors
/// As [`read_from`].
pub(crate) async fn read_partitions(
    shared: &Shared,
    client: &Client,
    partitions: &[u32],
) -> Result<Vec<String>, Failure> {
    let options = ConsumerOptions {
        partitions: Some(partitions.iter().copied().map(PartitionId).collect()),
        stop: Stop::AtEnd,
        patience: PATIENCE,
        from_follower: true,
        ..ConsumerOptions::default()
    };
    let reading = async {
        let mut wrong = Vec::new();
        let mut consumer = client.consumer(&shared.load.topic, options).await?;
        while let Some(records) = consumer.next().await? {
            let altered = runs(&records, shared.load.padding).into_iter().flat_map(|run| run.altered);
            wrong.extend(altered.map(|(offset, how)| format!("offset {offset}: {how}")));
        }
        Ok::<_, ClientError>(wrong)
    };
    let read = tokio::time::timeout(READ_WITHIN, reading).await;
    Ok(read.map_err(|_| Failure(format!("it took longer than {READ_WITHIN:?}")))??)
}

/// Every row says in its text what its id is.
async fn read_rows(shared: &Shared, client: &Client) -> Result<Vec<String>, ClientError> {
    let said = format!("concat('the word', CAST(id % {WORDS} AS VARCHAR), ' of v', CAST(id AS VARCHAR))");
    let (topic, padding) = (&shared.load.topic, shared.load.padding);
    let sql =
        format!("SELECT _partition, _offset, id FROM {topic} WHERE text <> {said} OR length(padding) <> {padding}");
    let options = QueryOptions { timeout: Some(READ_WITHIN), ..QueryOptions::default() };
    let (_, batches, _) = client.sql(&sql, &options).await?.collect().await?;
    let rows = batches.iter().flat_map(super::reader::rows);
    Ok(rows.map(|(partition, offset, id)| format!("the row at {partition}/{offset} with id {id}")).collect())
}
