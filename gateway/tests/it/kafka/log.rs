//! Produce, Fetch, ListOffsets: what is in a log.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiKey, BrokerId, DescribeProducersRequest, DescribeProducersResponse, FetchRequest, FetchResponse,
    InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use stratalog_proto::ProducerId;
use stratalog_proto::batch::{Batch, BatchBuilder, Batches, Compression};
use uuid::Uuid;

use super::client::Client;
use crate::node::Node;

pub(super) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Values with the times 1000, 1001, ….
pub(super) fn batch(values: &[&str], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    values.iter().zip(1_000..).for_each(|(value, ms)| builder.push(ms, Some(b"k"), Some(value.as_bytes()), &[]));
    builder.finish()
}

pub(super) fn produce(topic: &str, acks: i16, partitions: &[(i32, Bytes)]) -> ProduceRequest {
    let data = partitions
        .iter()
        .map(|(index, records)| PartitionProduceData::default().with_index(*index).with_records(Some(records.clone())));
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![TopicProduceData::default().with_name(name(topic)).with_partition_data(data.collect())])
}

pub(super) fn fetch(version: i16, topic: &str, id: Uuid, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions.iter().map(|(index, offset)| {
        FetchPartition::default().with_partition(*index).with_fetch_offset(*offset).with_partition_max_bytes(1 << 20)
    });
    let topic = match version {
        13.. => FetchTopic::default().with_topic_id(id),
        _ => FetchTopic::default().with_topic(name(topic)),
    };
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(10_000)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_epoch(if version >= 7 { 0 } else { -1 })
        .with_topics(vec![topic.with_partitions(partitions.collect())])
}

pub(super) async fn id_of(client: &mut Client, topic: &str) -> Uuid {
    let topics = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default();
    let request = MetadataRequest::default().with_topics(Some(vec![topics.with_name(Some(name(topic)))]));
    let told: MetadataResponse = client.ask(ApiKey::Metadata, 12, &request).await;
    told.topics[0].topic_id
}

fn only(answer: &ProduceResponse) -> &PartitionProduceResponse {
    &answer.responses[0].partition_responses[0]
}

pub(super) fn values(records: &Bytes) -> Vec<(i64, String)> {
    let batches = Batches::new(records.clone()).map(|bytes| Batch::parse_trusted(bytes.unwrap()).unwrap());
    let records = batches.flat_map(|batch| {
        let base = batch.header().base_offset;
        batch.records(1 << 20).unwrap().map(move |record| (base, record.unwrap()))
    });
    let text = |value: Bytes| String::from_utf8(value.to_vec()).unwrap();
    records.map(|(base, record)| (base + i64::from(record.offset_delta), text(record.value.unwrap()))).collect()
}

#[tokio::test]
async fn records_come_back_in_every_version_and_codec() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let id = id_of(&mut client, "events").await;
    for (version, compression) in (3..=12).zip(Compression::ALL.into_iter().cycle()) {
        let records = batch(&[r#"{"a":1}"#, r#"{"a":2}"#], compression);
        let answer: ProduceResponse =
            client.ask(ApiKey::Produce, version, &produce("events", -1, &[(1, records)])).await;
        let told = only(&answer);
        assert_eq!((told.error_code, told.base_offset), (0, 2 * i64::from(version - 3)), "version {version}");
    }
    for version in 4..=17 {
        let request = fetch(version, "events", id, &[(0, 0), (1, 5)]);
        let answer: FetchResponse = client.ask(ApiKey::Fetch, version, &request).await;
        assert_eq!(answer.error_code, 0);
        let [empty, full] = &answer.responses[0].partitions[..] else { panic!("{answer:?}") };
        assert_eq!((full.partition_index, full.error_code, full.high_watermark), (1, 0, 20), "version {version}");
        let got = values(full.records.as_ref().unwrap());
        assert_eq!(got.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), (4..20).collect::<Vec<_>>());
        assert_eq!(got[1], (5, r#"{"a":2}"#.to_owned()));
        assert_eq!((empty.partition_index, empty.high_watermark), (0, 0));
        assert!(empty.records.as_ref().is_none_or(Bytes::is_empty));
    }
    node.stop().await;
}

#[tokio::test]
async fn requests_in_flight_are_answered_in_order_and_a_repeated_batch_is_there_once() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let given: InitProducerIdResponse =
        client.ask(ApiKey::InitProducerId, 4, &InitProducerIdRequest::default().with_transactional_id(None)).await;
    assert_eq!(given.error_code, 0);
    let numbered = |sequence: i32| {
        let mut builder = BatchBuilder::new(Compression::None).producer(ProducerId(given.producer_id.0), 0, sequence);
        builder.push(0, None, Some(format!(r#"{{"n":{sequence}}}"#).as_bytes()), &[]);
        builder.finish()
    };
    // The third again, and one that skips ahead.
    let sequences = [0, 1, 2, 2, 3, 9];
    for sequence in sequences {
        client.send(ApiKey::Produce, 9, &produce("events", -1, &[(0, numbered(sequence))])).await;
    }
    let mut told = Vec::new();
    for back in (0..sequences.len() as i32).rev() {
        let answer: ProduceResponse = client.receive(ApiKey::Produce, 9, back).await;
        told.push((only(&answer).error_code, only(&answer).base_offset));
    }
    assert_eq!(told, [(0, 0), (0, 1), (0, 2), (0, 2), (0, 3), (45, -1)]);
    node.stop().await;
}

#[tokio::test]
async fn a_fetch_waits_until_there_is_something_in_any_topic() {
    let node = Node::with_topic("one").await;
    let mut client = Client::connect(node.kafka).await;
    let mut other = Client::connect(node.kafka).await;
    id_of(&mut other, "two").await;
    let mut request = fetch(11, "one", Uuid::nil(), &[(0, 0), (1, 0)]);
    request.topics.extend(fetch(11, "two", Uuid::nil(), &[(0, 0)]).topics);
    let begun = Instant::now();
    client.send(ApiKey::Fetch, 11, &request).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let records = batch(&[r#"{"a":1}"#], Compression::None);
    let _: ProduceResponse = other.ask(ApiKey::Produce, 7, &produce("two", 1, &[(0, records)])).await;
    let answer: FetchResponse = client.receive(ApiKey::Fetch, 11, 0).await;
    assert!(begun.elapsed() < Duration::from_secs(9), "it did not wait to the end");
    let of_two = &answer.responses[1].partitions[0];
    assert_eq!((of_two.error_code, values(of_two.records.as_ref().unwrap()).len()), (0, 1));
    assert_eq!(answer.responses[0].partitions.len(), 2);
    node.stop().await;
}

#[tokio::test]
async fn acks_0_has_no_answer_and_a_failure_ends_the_connection() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let records = batch(&[r#"{"a":1}"#], Compression::None);
    client.send(ApiKey::Produce, 7, &produce("events", 0, &[(0, records.clone())])).await;
    let request = fetch(11, "events", Uuid::nil(), &[(0, 0)]);
    let answer: FetchResponse = client.ask(ApiKey::Fetch, 11, &request).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
    client.send(ApiKey::Produce, 7, &produce("events", 0, &[(99, records)])).await;
    assert!(client.receive_frame().await.is_none());
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_produced_is_refused_with_kafkas_codes() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let good = batch(&[r#"{"a":1}"#], Compression::None);
    let changed = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let two = Bytes::from([&good[..], &good[..]].concat());
    for (partition, records, error) in [
        (0, changed(good.len() - 1), 2),
        (0, changed(16), 43),
        (0, Bytes::new(), 87),
        (0, two, 87),
        (0, batch(&[&"x".repeat(2 << 20)], Compression::None), 10),
        (7, good.clone(), 3),
        (-1, good.clone(), 3),
    ] {
        let answer: ProduceResponse =
            client.ask(ApiKey::Produce, 9, &produce("events", -1, &[(partition, records)])).await;
        assert_eq!(only(&answer).error_code, error, "{answer:?}");
        assert!(only(&answer).error_message.as_ref().is_some_and(|message| message.len() > 10), "{answer:?}");
    }
    for (request, error) in [
        (produce("events", 2, &[(0, good.clone())]), 21),
        (produce("events", -1, &[(0, good.clone())]).with_transactional_id(Some(StrBytes::from("t").into())), 35),
        (produce("nowhere", -1, &[(0, good.clone())]), 3),
    ] {
        let answer: ProduceResponse = client.ask(ApiKey::Produce, 9, &request).await;
        assert_eq!(only(&answer).error_code, error);
    }
    let answer: ProduceResponse = client.ask(ApiKey::Produce, 9, &produce("events", -1, &[(0, good)])).await;
    assert_eq!((only(&answer).error_code, only(&answer).base_offset), (0, 0), "and nothing of it was written");
    node.stop().await;
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let records = batch(&["{}", "{}", "{}"], Compression::Zstd);
    let _: ProduceResponse = client.ask(ApiKey::Produce, 9, &produce("events", -1, &[(0, records)])).await;
    for version in 1..=8 {
        let mut told = Vec::new();
        for timestamp in [-2, -1, 0, 1_001, 1_002, 1_003, -7, -3, -4] {
            let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(timestamp);
            let topic = ListOffsetsTopic::default().with_name(name("events")).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
            let answer: ListOffsetsResponse = client.ask(ApiKey::ListOffsets, version, &request).await;
            let found = &answer.topics[0].partitions[0];
            told.push((found.error_code, found.offset, found.timestamp));
        }
        let mut found = vec![(0, 0, -1), (0, 3, -1), (0, 0, 1_000), (0, 1, 1_001), (0, 2, 1_002), (0, -1, -1)];
        found.extend([(42, -1, -1), (0, 2, 1_002), (0, 0, -1)]);
        assert_eq!(told, found, "version {version}");
    }
    let empty = ListOffsetsPartition::default().with_partition_index(1).with_timestamp(-3);
    let topic = ListOffsetsTopic::default().with_name(name("events")).with_partitions(vec![empty]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let answer: ListOffsetsResponse = client.ask(ApiKey::ListOffsets, 7, &request).await;
    let found = &answer.topics[0].partitions[0];
    assert_eq!((found.error_code, found.offset, found.timestamp), (0, -1, -1), "there is no record");
    node.stop().await;
}

#[tokio::test]
async fn an_answer_holds_what_was_asked_for_and_at_least_one_batch() {
    let node = Node::with_topic("t0").await;
    let mut client = Client::connect(node.kafka).await;
    let topics: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    let value = format!(r#"{{"text":"{}"}}"#, "x".repeat(50_000));
    for topic in &topics {
        id_of(&mut client, topic).await;
        for _ in 0..2 {
            let request = produce(topic, -1, &[(0, batch(&[&value], Compression::None))]);
            let answer: ProduceResponse = client.ask(ApiKey::Produce, 9, &request).await;
            assert_eq!(only(&answer).error_code, 0);
        }
    }
    for (max_bytes, expected) in [(1, 1), (120_000, 2), (50 << 20, 40)] {
        let of_each = topics.iter().flat_map(|topic| fetch(11, topic, Uuid::nil(), &[(0, 0)]).topics);
        let request = fetch(11, "t0", Uuid::nil(), &[]).with_topics(of_each.collect()).with_max_bytes(max_bytes);
        let answer: FetchResponse = client.ask(ApiKey::Fetch, 11, &request).await;
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let records: usize =
            partitions.map(|partition| partition.records.as_ref().map_or(0, |r| values(r).len())).sum();
        assert_eq!(records, expected, "within {max_bytes} bytes");
    }
    let narrow = fetch(11, "t0", Uuid::nil(), &[(0, 0)]);
    let mut narrow = narrow.clone();
    narrow.topics[0].partitions[0].partition_max_bytes = 60_000;
    let answer: FetchResponse = client.ask(ApiKey::Fetch, 11, &narrow).await;
    assert_eq!(values(answer.responses[0].partitions[0].records.as_ref().unwrap()).len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_wants_more_at_once_waits_for_it() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let mut other = Client::connect(node.kafka).await;
    let record = || batch(&[r#"{"a":1}"#], Compression::None);
    let first = produce("events", -1, &[(0, record())]);
    let _: ProduceResponse = other.ask(ApiKey::Produce, 9, &first).await;
    let request = fetch(11, "events", Uuid::nil(), &[(0, 0)]).with_min_bytes(record().len() as i32 + 1);
    client.send(ApiKey::Fetch, 11, &request).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _: ProduceResponse = other.ask(ApiKey::Produce, 9, &first).await;
    let answer: FetchResponse = client.receive(ApiKey::Fetch, 11, 0).await;
    assert_eq!(values(answer.responses[0].partitions[0].records.as_ref().unwrap()).len(), 2);
    node.stop().await;
}

#[tokio::test]
async fn fetches_outside_of_a_log_are_told_so() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    for (topic, partition, offset, error) in
        [("events", 0, 5, 1), ("events", 0, -1, 1), ("events", 9, 0, 3), ("events", -1, 0, 3), ("nowhere", 0, 0, 3)]
    {
        let request = fetch(12, topic, Uuid::nil(), &[(partition, offset)]);
        let answer: FetchResponse = client.ask(ApiKey::Fetch, 12, &request).await;
        assert_eq!(answer.responses[0].partitions[0].error_code, error, "{topic} {partition} {offset}");
    }
    // A topic that was created again with fewer partitions: the others are read all the same.
    let all: Vec<(i32, i64)> = (0..8).map(|partition| (partition, 0)).collect();
    let request = fetch(12, "events", Uuid::nil(), &all).with_max_wait_ms(0);
    let answer: FetchResponse = client.ask(ApiKey::Fetch, 12, &request).await;
    let codes: Vec<i16> = answer.responses[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes, [0, 0, 3, 3, 3, 3, 3, 3]);
    let unknown: FetchResponse = client.ask(ApiKey::Fetch, 13, &fetch(13, "", Uuid::from_u128(7), &[(0, 0)])).await;
    assert_eq!(unknown.responses[0].partitions[0].error_code, 100);
    let session = fetch(12, "events", Uuid::nil(), &[(0, 0)]).with_session_id(9).with_session_epoch(3);
    let answer: FetchResponse = client.ask(ApiKey::Fetch, 12, &session).await;
    assert_eq!(answer.error_code, 70);
    node.stop().await;
}

#[tokio::test]
async fn idempotent_producers_are_described() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    for sequence in [0, 2] {
        let mut builder = BatchBuilder::new(Compression::None).producer(ProducerId(7), 3, sequence);
        (0..2).for_each(|_| builder.push(1_000, None, Some(br#"{"a":1}"#), &[]));
        let request = produce("events", -1, &[(1, builder.finish())]);
        let answer: ProduceResponse = client.ask(ApiKey::Produce, 9, &request).await;
        assert_eq!(only(&answer).error_code, 0);
    }
    let topic = |topic: &str, partitions: &[i32]| {
        TopicRequest::default().with_name(name(topic)).with_partition_indexes(partitions.to_vec())
    };
    let topics = vec![topic("events", &[0, 1, 9, -1]), topic("nowhere", &[0]), topic("events", &[1])];
    let request = DescribeProducersRequest::default().with_topics(topics);
    let told: DescribeProducersResponse = client.ask(ApiKey::DescribeProducers, 0, &request).await;
    let partitions = told.topics.iter().flat_map(|topic| topic.partitions.iter().map(|of| (&**topic.name, of)));
    let shown: Vec<_> = partitions
        .map(|(topic, of)| {
            let producers = of.active_producers.iter().map(|of| {
                assert!(of.last_timestamp > 1_600_000_000_000, "{of:?}");
                let transaction = (of.coordinator_epoch, of.current_txn_start_offset);
                (of.producer_id.0, of.producer_epoch, of.last_sequence, transaction)
            });
            (topic, of.partition_index, of.error_code, producers.collect::<Vec<_>>())
        })
        .collect();
    let one = vec![(7, 3, 3, (-1, -1))];
    let expected = [
        ("events", -1, 3, vec![]),
        ("events", 0, 0, vec![]),
        ("events", 1, 0, one),
        ("events", 9, 3, vec![]),
        ("nowhere", 0, 3, vec![]),
    ];
    assert_eq!(shown, expected);
    node.stop().await;
}
