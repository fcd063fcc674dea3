//! Readers of rows, hits and high watermarks. Each question is asked with what was acknowledged before it: that much its answer has
//! to show.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use stratalog_client::{Client, ClientError, QueryOptions};
use stratalog_proto::{Token, v1};

use super::{ANSWER_WITHIN, Shared, read_outcome};
use crate::history::{Line, Process, QueryOp, SearchOp, Seen, WatermarkOp};

const QUERY_EVERY: Duration = Duration::from_millis(700);
const SEARCH_EVERY: Duration = Duration::from_millis(400);
const WATCH_EVERY: Duration = Duration::from_millis(400);
/// What is asked of one node is asked anew so often: a node that stood still finds a question that is younger than what was
/// acknowledged elsewhere meanwhile.
const ASKED_ANEW: Duration = Duration::from_secs(1);
/// More than one hit is wrong already.
const HITS: u32 = 10;

pub(super) async fn query(shared: Arc<Shared>, process: Process, client: Client) {
    while !shared.is_over() {
        let (at_least, tokens) = shared.known.lock().acknowledged();
        let within = if process.node.is_some() { 3 * ASKED_ANEW } else { ANSWER_WITHIN };
        let counted = tokio::time::timeout(within, count(&client, &shared.load.topic, tokens));
        let (at, answer) = shared.timed(counted).await;
        let outcome = read_outcome(answer);
        shared.note(&Line::Query(QueryOp { process: process.process, at, at_least, outcome }));
        shared.sleep(QUERY_EVERY).await;
    }
}

async fn count(client: &Client, topic: &str, tokens: Vec<Token>) -> Result<Vec<Seen>, ClientError> {
    let sql = format!(
        "SELECT _partition, count(*), min(_offset), max(_offset), sum(_offset) FROM {topic} GROUP BY _partition"
    );
    let options = QueryOptions { tokens, ..QueryOptions::default() };
    let (_, batches, _) = client.sql(&sql, &options).await?.collect().await?;
    Ok(batches.iter().flat_map(seen).collect())
}

fn seen(batch: &RecordBatch) -> Vec<Seen> {
    let partitions = batch.column(0).as_primitive::<Int32Type>();
    let number = |column: usize, row: usize| batch.column(column).as_primitive::<Int64Type>().value(row) as u64;
    let rows = 0..batch.num_rows();
    rows.map(|row| Seen {
        partition: partitions.value(row) as u32,
        rows: number(1, row),
        first: number(2, row),
        last: number(3, row),
        sum: number(4, row),
    })
    .collect()
}

pub(super) async fn search(shared: Arc<Shared>, process: Process, client: Client) {
    let mut random = shared.random(process.process);
    while !shared.is_over() {
        shared.sleep(SEARCH_EVERY).await;
        let Some(acked) = shared.known.lock().choose(&mut random) else { continue };
        let request = v1::SearchRequest {
            topic: shared.load.topic.clone(),
            query: format!("text:v{}", acked.value),
            limit: HITS,
            tokens: vec![v1::Token { shard: acked.token.shard.0, index: acked.token.index.0 }],
            ..v1::SearchRequest::default()
        };
        let found = async {
            let (_, batches, _) = client.search(request).await?.collect().await?;
            Ok::<_, ClientError>(batches.iter().flat_map(places).collect::<Vec<_>>())
        };
        let (at, answer) = shared.timed(tokio::time::timeout(ANSWER_WITHIN, found)).await;
        let outcome = read_outcome(answer);
        let place = (acked.partition, acked.offset);
        shared.note(&Line::Search(SearchOp { process: process.process, at, value: acked.value, place, outcome }));
    }
}

/// Partition and offset of each hit.
fn places(batch: &RecordBatch) -> Vec<(u32, u64)> {
    let (Some(partitions), Some(offsets)) = (batch.column_by_name("_partition"), batch.column_by_name("_offset"))
    else {
        return Vec::new();
    };
    let (partitions, offsets) = (partitions.as_primitive::<Int32Type>(), offsets.as_primitive::<Int64Type>());
    (0..batch.num_rows()).map(|row| (partitions.value(row) as u32, offsets.value(row) as u64)).collect()
}

pub(super) async fn watch(shared: Arc<Shared>, process: Process, client: Client) {
    while !shared.is_over() {
        let at_least = shared.known.lock().known_to();
        let asked = async {
            let described = client.describe_topic(&shared.load.topic).await?;
            let mut marks = vec![0; shared.load.partitions as usize];
            for partition in described.partitions {
                if let Some(mark) = marks.get_mut(partition.partition as usize) {
                    *mark = partition.high_watermark;
                }
            }
            Ok::<_, ClientError>(marks)
        };
        let (at, answer) = shared.timed(tokio::time::timeout(ASKED_ANEW, asked)).await;
        let outcome = read_outcome(answer);
        shared.note(&Line::Watermarks(WatermarkOp { process: process.process, at, at_least, outcome }));
        shared.sleep(WATCH_EVERY).await;
    }
}

/// Partition, offset and value of each row of an answer to `SELECT _partition, _offset, id`.
pub(super) fn rows(batch: &RecordBatch) -> Vec<(u32, u64, u64)> {
    let partitions = batch.column(0).as_primitive::<Int32Type>();
    let [offsets, values] = [1, 2].map(|column| batch.column(column).as_primitive::<Int64Type>());
    let one = |row: usize| (partitions.value(row) as u32, offsets.value(row) as u64, values.value(row) as u64);
    (0..values.len()).map(one).collect()
}
