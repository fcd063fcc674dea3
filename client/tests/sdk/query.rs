//! Answers are whole, or errors.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use stratalog_client::{Client, QueryOptions};
use stratalog_proto::v1::query_chunk::Chunk;
use stratalog_proto::{Code, Error, RaftIndex, ShardId, Token, v1};

use super::node::{Node, TOPIC};

pub(crate) const ROWS: i64 = 1_000;

/// The bytes of an Arrow stream with two batches.
pub(crate) fn arrow_stream() -> Vec<u8> {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    for start in [0, ROWS] {
        let column = Arc::new(Int64Array::from_iter_values(start..start + ROWS));
        writer.write(&RecordBatch::try_new(schema.clone(), vec![column]).unwrap()).unwrap();
    }
    writer.into_inner().unwrap()
}

pub(crate) fn chunk(chunk: Chunk) -> Result<v1::QueryChunk, tonic::Status> {
    Ok(v1::QueryChunk { chunk: Some(chunk) })
}

pub(crate) fn stats() -> Result<v1::QueryChunk, tonic::Status> {
    chunk(Chunk::Stats(v1::QueryStats { rows_returned: 2 * ROWS as u64, ..v1::QueryStats::default() }))
}

/// A node whose next answer is these chunks.
async fn answering(chunks: Vec<Result<v1::QueryChunk, tonic::Status>>) -> (Node, Client) {
    let node = Node::start(1);
    node.shared.state.lock().answers.push_back(chunks);
    let client = node.client().await;
    (node, client)
}

#[tokio::test]
async fn an_answer_cut_anywhere_into_chunks_is_read() {
    for size in [1, 7, 100, 1 << 20] {
        let pieces =
            arrow_stream().chunks(size).map(|piece| chunk(Chunk::Arrow(piece.to_vec().into()))).collect::<Vec<_>>();
        let (_node, client) = answering(pieces.into_iter().chain([stats()]).collect()).await;
        let (schema, batches, stats) =
            client.sql("SELECT n", &QueryOptions::default()).await.unwrap().collect().await.unwrap();
        assert_eq!(schema.field(0).name(), "n");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [ROWS as usize; 2]);
        assert_eq!(stats.rows_returned, 2 * ROWS as u64);
    }
}

#[tokio::test]
async fn statistics_are_there_once_the_rows_have_ended() {
    let (_node, client) = answering(vec![chunk(Chunk::Arrow(arrow_stream().into())), stats()]).await;
    let request = v1::SearchRequest { topic: TOPIC.to_owned(), ..v1::SearchRequest::default() };
    let mut answer = client.search(request).await.unwrap();
    assert_eq!(answer.schema().await.unwrap().fields().len(), 1);
    assert!(answer.next().await.unwrap().is_some());
    assert!(answer.stats().is_none());
    assert!(answer.next().await.unwrap().is_some());
    assert!(answer.next().await.unwrap().is_none());
    assert!(answer.stats().is_some());
    assert!(answer.next().await.unwrap().is_none());
}

#[tokio::test]
async fn an_answer_without_statistics_is_short() {
    let (_node, client) = answering(vec![chunk(Chunk::Arrow(arrow_stream().into()))]).await;
    let mut answer = client.sql("SELECT n", &QueryOptions::default()).await.unwrap();
    for _ in 0..2 {
        assert!(answer.next().await.unwrap().is_some());
    }
    let error = answer.next().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("not whole"), "{error}");
}

#[tokio::test]
async fn statistics_in_the_middle_of_a_batch_are_an_error() {
    let mut cut = arrow_stream();
    cut.truncate(cut.len() / 2);
    let (_node, client) = answering(vec![chunk(Chunk::Arrow(cut.into())), stats()]).await;
    let answer = client.sql("SELECT n", &QueryOptions::default()).await.unwrap();
    assert_eq!(answer.collect().await.unwrap_err().code(), Code::Internal);
}

#[tokio::test]
async fn an_error_after_rows_keeps_its_code() {
    let failure = Err(Error::new(Code::QueryBudget, "too much memory").into());
    let (_node, client) = answering(vec![chunk(Chunk::Arrow(arrow_stream().into())), failure]).await;
    let error = client.sql("SELECT n", &QueryOptions::default()).await.unwrap().collect().await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::QueryBudget, "too much memory"));
}

#[tokio::test]
async fn bytes_that_are_no_arrow_stream_are_an_error() {
    let (_node, client) = answering(vec![chunk(Chunk::Arrow(vec![0x55; 64].into())), stats()]).await;
    let answer = client.sql("SELECT n", &QueryOptions::default()).await.unwrap();
    assert!(answer.collect().await.is_err());
}

#[tokio::test]
async fn tokens_and_timeout_reach_the_node() {
    let (node, client) = answering(vec![chunk(Chunk::Arrow(arrow_stream().into())), stats()]).await;
    let token = Token { shard: ShardId(3), index: RaftIndex(77) };
    let options =
        QueryOptions { tokens: vec![token], timeout: Some(Duration::from_micros(10)), ..QueryOptions::default() };
    client.sql("SELECT n", &options).await.unwrap().collect().await.unwrap();
    let request = node.shared.state.lock().sql.pop().unwrap();
    assert_eq!((request.sql.as_str(), request.timeout_ms), ("SELECT n", 1));
    assert_eq!(request.tokens, [v1::Token { shard: 3, index: 77 }]);
}
