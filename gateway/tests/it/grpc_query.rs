use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use serde_json::Value;
use stratalog_proto::v1::query_chunk::Chunk;
use stratalog_proto::v1::query_client::QueryClient;
use stratalog_proto::v1::{QueryChunk, QueryStats, SearchRequest, SqlRequest, Token};
use stratalog_proto::{Code, Error};
use tonic::Streaming;

use crate::node::Node;

/// The rows and the statistics, which have to come last.
async fn collect(mut stream: Streaming<QueryChunk>) -> Result<(Vec<RecordBatch>, QueryStats), Error> {
    let (mut bytes, mut stats) = (Vec::new(), None);
    while let Some(chunk) = stream.message().await? {
        assert!(stats.is_none(), "a chunk after the statistics");
        match chunk.chunk.unwrap() {
            Chunk::Arrow(piece) => bytes.extend_from_slice(&piece),
            Chunk::Stats(last) => stats = Some(last),
        }
    }
    let batches = StreamReader::try_new(&bytes[..], None).unwrap().map(Result::unwrap).collect();
    Ok((batches, stats.expect("a whole answer ends with statistics")))
}

fn sql(sql: &str, tokens: Vec<Token>) -> SqlRequest {
    SqlRequest { sql: sql.into(), tokens, ..SqlRequest::default() }
}

/// The tokens of a produce over HTTP.
fn tokens(summary: &Value) -> Vec<Token> {
    let token = |token: &Value| {
        let part = |name: &str| token[name].as_u64().unwrap();
        Token { shard: part("shard") as u32, index: part("index") }
    };
    summary["tokens"].as_array().unwrap().iter().map(token).collect()
}

#[tokio::test]
async fn sql_and_search_answer_as_arrow() {
    let node = Node::with_topic("events").await;
    let summary = node.produce("events", "{\"n\":1,\"msg\":\"alpha\"}\n{\"n\":2,\"msg\":\"beta\"}\n".into()).await;
    let tokens = tokens(&summary);
    let mut query = QueryClient::new(node.channel().await);
    let answer = query.sql(sql("SELECT n FROM events ORDER BY n", tokens.clone())).await.unwrap().into_inner();
    let (batches, stats) = collect(answer).await.unwrap();
    let found: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!((found, stats.rows_returned), (vec![1, 2], 2));

    let search = SearchRequest { topic: "events".into(), query: "alpha".into(), tokens, ..SearchRequest::default() };
    let (batches, stats) = collect(query.search(search).await.unwrap().into_inner()).await.unwrap();
    assert_eq!((batches.iter().map(RecordBatch::num_rows).sum::<usize>(), stats.rows_returned), (1, 1));

    let (batches, _) =
        collect(query.sql(sql("SELECT 1 AS one WHERE false", vec![])).await.unwrap().into_inner()).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    node.stop().await;
}

#[tokio::test]
async fn bad_queries_are_statuses_with_codes() {
    let node = Node::with_topic("events").await;
    let mut query = QueryClient::new(node.channel().await);
    let status = query.sql(sql("SELECT", vec![])).await.unwrap_err();
    assert_eq!((status.code(), Error::from(status).code), (tonic::Code::InvalidArgument, Code::InvalidSql));
    let search = |topic: &str, query: &str| SearchRequest {
        topic: topic.into(),
        query: query.into(),
        ..SearchRequest::default()
    };
    let cases = [
        ("events", "(a", Code::InvalidSearch),
        ("nope", "a", Code::UnknownTopic),
        ("../x", "a", Code::InvalidTopicName),
    ];
    for (topic, text, code) in cases {
        assert_eq!(Error::from(query.search(search(topic, text)).await.unwrap_err()).code, code, "{topic} {text}");
    }
    let many = vec![Token { shard: 1, index: 1 }; 5_000];
    assert_eq!(Error::from(query.sql(sql("SELECT 1", many)).await.unwrap_err()).code, Code::InvalidRequest);
    node.stop().await;
}

#[tokio::test]
async fn client_that_leaves_midstream_cancels_its_query() {
    let node = Node::with_topic("events").await;
    let lines: String = (0..100).map(|n| format!("{{\"msg\":\"{n} {}\"}}\n", "x".repeat(100))).collect();
    let summary = node.produce("events", lines).await;
    let mut query = QueryClient::new(node.channel().await);
    let text = "SELECT a.msg, b.msg AS m FROM events a CROSS JOIN events b CROSS JOIN events c CROSS JOIN events d";
    let mut stream = query.sql(sql(text, tokens(&summary))).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    drop(stream);
    for _ in 0..200 {
        if node.metric("stratalog_gateway_queries_cancelled_total").await >= 1.0 {
            node.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the query still runs ten seconds after its client left");
}
