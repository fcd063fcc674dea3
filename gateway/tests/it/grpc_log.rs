use bytes::Bytes;
use futures::stream;
use stratalog_proto::batch::{Batch, BatchBuilder, Compression};
use stratalog_proto::v1::list_offsets_request::At;
use stratalog_proto::v1::log_client::LogClient;
use stratalog_proto::v1::topics_client::TopicsClient;
use stratalog_proto::v1::{
    CreateTopicRequest, DescribeTopicRequest, DropBeforeRequest, FetchPartition, FetchRequest, InitProducerRequest,
    ListOffsetsRequest, ListSegmentsRequest, ListTopicsRequest, PartitionBatch, ProduceRequest, ProduceResponse,
    VerifyTopicRequest,
};
use stratalog_proto::{Code, Error, ProducerId};
use tonic::transport::Channel;

use crate::node::Node;

fn batch(producer: (i64, i16), sequence: i32, values: &[String]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::Lz4).producer(ProducerId(producer.0), producer.1, sequence);
    for value in values {
        builder.push(1_000, None, Some(value.as_bytes()), &[]);
    }
    builder.finish()
}

fn request(request_id: u64, topic: &str, batches: Vec<(u32, Bytes)>) -> ProduceRequest {
    let batches = batches.into_iter().map(|(partition, batch)| PartitionBatch { partition, batch }).collect();
    ProduceRequest { request_id, topic: topic.to_owned(), batches }
}

/// Sends all requests at once, and ends; the answers by request id.
async fn produce(log: &mut LogClient<Channel>, requests: Vec<ProduceRequest>) -> Vec<ProduceResponse> {
    let mut stream = log.produce(stream::iter(requests)).await.unwrap().into_inner();
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        answers.push(answer);
    }
    answers.sort_by_key(|answer| answer.request_id);
    answers
}

async fn fetch(log: &mut LogClient<Channel>, partition: u32, offset: u64) -> Vec<Bytes> {
    let partitions = vec![FetchPartition { partition, offset }];
    let request = FetchRequest { topic: "events".into(), partitions, max_bytes: 1 << 20, ..FetchRequest::default() };
    let mut answer = log.fetch(request).await.unwrap().into_inner();
    assert_eq!(answer.partitions[0].code, 0, "{}", answer.partitions[0].message);
    answer.partitions.remove(0).batches
}

#[tokio::test]
async fn pipelined_batches_of_an_idempotent_producer_stay_in_order() {
    let node = Node::with_topic("events").await;
    let mut log = LogClient::new(node.channel().await);
    let id = log.init_producer(InitProducerRequest {}).await.unwrap().into_inner();
    let producer = (id.producer_id, id.producer_epoch as i16);
    let values = |n: i32| [format!("{{\"n\":{}}}", 2 * n), format!("{{\"n\":{}}}", 2 * n + 1)];
    let requests: Vec<_> =
        (0..500).map(|n| request(n as u64, "events", vec![(1, batch(producer, 2 * n, &values(n)))])).collect();
    let answers = produce(&mut log, requests.clone()).await;
    assert_eq!(answers.len(), 500);
    for (n, answer) in answers.iter().enumerate() {
        let result = &answer.results[0];
        assert_eq!((result.code, result.base_offset), (0, 2 * n as u64), "{}", result.message);
        assert!(result.token.is_some());
    }
    // The last ones again: the log has them already, at the offsets that they got.
    let again = produce(&mut log, requests[498..].to_vec()).await;
    assert_eq!(again.iter().map(|answer| answer.results[0].base_offset).collect::<Vec<_>>(), [996, 998]);

    let mut next = 0;
    while next < 1_000 {
        for bytes in fetch(&mut log, 1, next).await {
            let fetched = Batch::parse(bytes).unwrap();
            assert_eq!(fetched.header().base_offset as u64, next);
            for record in fetched.records(1 << 20).unwrap() {
                assert_eq!(record.unwrap().value.unwrap(), format!("{{\"n\":{next}}}"));
                next += 1;
            }
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn each_batch_has_its_own_result() {
    let node = Node::with_topic("events").await;
    let mut log = LogClient::new(node.channel().await);
    let good = batch((-1, -1), -1, &["{}".into()]);
    let mut broken = good.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let batches = vec![
        (0, good.clone()),
        (9, good.clone()),
        (0, broken.into()),
        (1, Bytes::from_static(b"\xff\xff\xff\xff")),
        (1, good.clone()),
    ];
    let requests = vec![
        request(1, "events", batches),
        request(2, "nope", vec![(0, good.clone())]),
        request(3, "../x", vec![(0, good)]),
        request(4, "events", vec![]),
    ];
    let codes = |answer: &ProduceResponse| {
        answer.results.iter().map(|result| Code::from_number(result.code)).collect::<Vec<_>>()
    };
    let answers = produce(&mut log, requests).await;
    let corrupt = Some(Code::CorruptBatch);
    assert_eq!(codes(&answers[0]), [None, Some(Code::UnknownPartition), corrupt, corrupt, None]);
    assert_eq!(codes(&answers[1]), [Some(Code::UnknownTopic)]);
    assert_eq!(codes(&answers[2]), [Some(Code::InvalidTopicName)]);
    assert!(answers[3].results.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn request_over_a_limit_ends_the_stream_with_its_reason() {
    let node = Node::with_topic("events").await;
    let mut log = LogClient::new(node.channel().await);
    let many = request(1, "events", vec![(0, Bytes::new()); 20_000]);
    let large = request(2, "events", vec![(0, vec![0; 20 << 20].into())]);
    for (refused, code) in [(many, Code::InvalidRequest), (large, Code::InvalidRequest)] {
        let good = request(0, "events", vec![(0, batch((-1, -1), -1, &["x".into()]))]);
        let mut answers = log.produce(stream::iter([good, refused])).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().results[0].code, 0);
        assert_eq!(Error::from(answers.message().await.unwrap_err()).code, code);
    }
    node.stop().await;
}

#[tokio::test]
async fn fetch_reports_each_partition_and_waits() {
    let node = Node::with_topic("events").await;
    let mut log = LogClient::new(node.channel().await);
    let partitions = [(1, 7), (5, 0)].map(|(partition, offset)| FetchPartition { partition, offset }).to_vec();
    let request = FetchRequest { topic: "events".into(), partitions, ..FetchRequest::default() };
    let answer = log.fetch(request.clone()).await.unwrap().into_inner();
    let codes: Vec<_> = answer.partitions.iter().map(|partition| Code::from_number(partition.code)).collect();
    assert_eq!(codes, [Some(Code::OffsetOutOfRange), Some(Code::UnknownPartition)]);

    let waiting =
        FetchRequest { partitions: vec![FetchPartition { partition: 0, offset: 0 }], max_wait_ms: 20_000, ..request };
    let mut other = log.clone();
    let produced = async {
        produce(&mut other, vec![self::request(1, "events", vec![(0, batch((-1, -1), -1, &["x".into()]))])]).await
    };
    let (fetched, _) = tokio::join!(log.fetch(waiting), produced);
    let fetched = fetched.unwrap().into_inner();
    assert_eq!((fetched.partitions[0].batches.len(), fetched.partitions[0].high_watermark), (1, 1));
    let unknown = FetchRequest { topic: "nope".into(), ..FetchRequest::default() };
    assert_eq!(Error::from(log.fetch(unknown).await.unwrap_err()).code, Code::UnknownTopic);
    node.stop().await;
}

#[tokio::test]
async fn offsets_are_listed_by_kind() {
    let node = Node::with_topic("events").await;
    let mut log = LogClient::new(node.channel().await);
    produce(&mut log, vec![request(1, "events", vec![(0, batch((-1, -1), -1, &["x".into(), "y".into()]))])]).await;
    for (at, expected) in [(At::Earliest(true), [0, 0]), (At::Latest(true), [2, 0]), (At::TimeNs(0), [0, 0])] {
        let request = ListOffsetsRequest { topic: "events".into(), at: Some(at) };
        let offsets = log.list_offsets(request).await.unwrap().into_inner().offsets;
        assert_eq!(offsets.iter().map(|offset| offset.offset).collect::<Vec<_>>(), expected);
    }
    let nothing = ListOffsetsRequest { topic: "events".into(), at: None };
    assert_eq!(Error::from(log.list_offsets(nothing).await.unwrap_err()).code, Code::InvalidRequest);
    node.stop().await;
}

#[tokio::test]
async fn topics_are_managed_over_grpc() {
    let node = Node::start().await;
    let mut topics = TopicsClient::new(node.channel().await);
    let config = [("bucket".to_owned(), "1d".to_owned())].into();
    let created = CreateTopicRequest { name: "a".into(), partitions: 3, config };
    let topic = topics.create_topic(created.clone()).await.unwrap().into_inner();
    assert_eq!((topic.partitions, topic.config.unwrap().bucket_ns), (3, 86_400_000_000_000));
    assert_eq!(Error::from(topics.create_topic(created).await.unwrap_err()).code, Code::TopicExists);
    let bad = CreateTopicRequest { name: "../x".into(), ..CreateTopicRequest::default() };
    assert_eq!(Error::from(topics.create_topic(bad).await.unwrap_err()).code, Code::InvalidTopicName);

    let listed = topics.list_topics(ListTopicsRequest {}).await.unwrap().into_inner().topics;
    assert_eq!(listed.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["a"]);
    let described = topics.describe_topic(DescribeTopicRequest { name: "a".into() }).await.unwrap().into_inner();
    assert_eq!(described.partitions.len(), 3);
    let segments = topics.list_segments(ListSegmentsRequest { topic: "a".into() }).await.unwrap().into_inner();
    assert!(segments.segments.is_empty());
    let drop = DropBeforeRequest { topic: "a".into(), before_ns: 0, dry_run: true };
    assert_eq!(topics.drop_before(drop).await.unwrap().into_inner().rows, 0);
    node.stop().await;
}

#[tokio::test]
async fn a_topic_is_verified_partition_by_partition() {
    let node = Node::with_topic("events").await;
    let mut log = LogClient::new(node.channel().await);
    let values: Vec<String> = (0..7).map(|n| format!("{{\"n\":{n}}}")).collect();
    let requests = (0..3).map(|n| request(n, "events", vec![(1, batch((-1, -1), -1, &values))])).collect();
    produce(&mut log, requests).await;
    let mut topics = TopicsClient::new(node.channel().await);
    let mut answers = topics.verify_topic(VerifyTopicRequest { topic: "events".into() }).await.unwrap().into_inner();
    for (partition, batches) in [(0, 0), (1, 3)] {
        let found = answers.message().await.unwrap().unwrap();
        assert_eq!((found.partition, found.log_start, found.high_watermark), (partition, 0, 7 * batches));
        assert_eq!((found.batches, found.records, found.damaged), (batches, 7 * batches, 0));
        assert_eq!((found.bytes > 0, found.damage), (batches > 0, vec![]));
    }
    assert!(answers.message().await.unwrap().is_none());
    let unknown = topics.verify_topic(VerifyTopicRequest { topic: "nothing".into() }).await.unwrap_err();
    assert_eq!(Error::from(unknown).code, Code::UnknownTopic);
    node.stop().await;
}
