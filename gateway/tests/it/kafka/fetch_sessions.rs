//! Fetches that name only what changes, and answers with only what is new.

use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, DeleteTopicsRequest, DeleteTopicsResponse, FetchRequest, FetchResponse};
use kafka_protocol::messages::{ProduceResponse, delete_topics_request::DeleteTopicState};
use stratalog_proto::batch::Compression;
use uuid::Uuid;

use super::client::Client;
use super::log::{batch, fetch, id_of, name, produce, values};
use crate::node::Node;

/// The next request of a session, about these partitions of `events`.
fn next(version: i16, id: Uuid, told: &FetchResponse, epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
    let request = fetch(version, "events", id, partitions).with_session_id(told.session_id).with_session_epoch(epoch);
    if partitions.is_empty() { request.with_topics(Vec::new()) } else { request }
}

async fn write(client: &mut Client, topic: &str, partition: i32) {
    let records = batch(&[r#"{"a":1}"#], Compression::None);
    let _: ProduceResponse = client.ask(ApiKey::Produce, 9, &produce(topic, -1, &[(partition, records)])).await;
}

/// The partitions of an answer: their numbers, their ends, and how many records came.
fn shown(told: &FetchResponse) -> Vec<(i32, i64, usize)> {
    let of = |partition: &PartitionData| {
        let records = partition.records.as_ref().map_or(0, |records| values(records).len());
        (partition.partition_index, partition.high_watermark, records)
    };
    told.responses.iter().flat_map(|topic| &topic.partitions).map(of).collect()
}

#[tokio::test]
async fn a_session_answers_what_is_new_in_every_version_and_on_any_connection() {
    let node = Node::with_topic("events").await;
    let mut first = Client::connect(node.kafka).await;
    let id = id_of(&mut first, "events").await;
    for version in 7..=17 {
        let end = i64::from(version - 7);
        let request = fetch(version, "events", id, &[(0, end), (1, 0)]).with_max_wait_ms(0);
        let begun: FetchResponse = first.ask(ApiKey::Fetch, version, &request).await;
        assert_eq!((begun.error_code, shown(&begun)), (0, vec![(0, end, 0), (1, 0, 0)]), "version {version}");
        assert!(begun.session_id > 0);

        let nothing = next(version, id, &begun, 1, &[]).with_max_wait_ms(0);
        let told: FetchResponse = first.ask(ApiKey::Fetch, version, &nothing).await;
        assert_eq!((told.error_code, told.session_id, shown(&told)), (0, begun.session_id, vec![]));

        write(&mut first, "events", 0).await;
        let mut other = Client::connect(node.kafka).await;
        let told: FetchResponse = other.ask(ApiKey::Fetch, version, &next(version, id, &begun, 2, &[])).await;
        assert_eq!(shown(&told), [(0, end + 1, 1)], "partition 1 is as it was");
        assert_eq!(told.responses[0].topic_id, if version < 13 { Uuid::nil() } else { id });

        let on = next(version, id, &begun, 3, &[(0, end + 1)]).with_max_wait_ms(0);
        let told: FetchResponse = other.ask(ApiKey::Fetch, version, &on).await;
        assert_eq!(shown(&told), [], "it was read");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_is_forgotten_is_not_waited_for_and_what_is_added_is_told() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let begun: FetchResponse =
        client.ask(ApiKey::Fetch, 11, &fetch(11, "events", Uuid::nil(), &[(0, 0)]).with_max_wait_ms(0)).await;
    let forgotten = ForgottenTopic::default().with_topic(name("events")).with_partitions(vec![0]);
    let instead = next(11, Uuid::nil(), &begun, 1, &[(1, 0)]).with_forgotten_topics_data(vec![forgotten.clone()]);
    let told: FetchResponse = client.ask(ApiKey::Fetch, 11, &instead.with_max_wait_ms(0)).await;
    assert_eq!(shown(&told), [(1, 0, 0)]);
    write(&mut client, "events", 0).await;
    let request = next(11, Uuid::nil(), &begun, 2, &[]).with_max_wait_ms(0);
    let told: FetchResponse = client.ask(ApiKey::Fetch, 11, &request).await;
    assert_eq!(shown(&told), []);

    let both = next(11, Uuid::nil(), &begun, 3, &[(0, 1)]).with_max_wait_ms(10_000);
    client.send(ApiKey::Fetch, 11, &both).await;
    let mut other = Client::connect(node.kafka).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let sent = Instant::now();
    write(&mut other, "events", 1).await;
    let told: FetchResponse = client.receive(ApiKey::Fetch, 11, 0).await;
    assert!(sent.elapsed() < Duration::from_secs(5), "records end the wait");
    let mut told = shown(&told);
    told.sort_unstable();
    assert_eq!(told, [(0, 1, 0), (1, 1, 1)], "in what order they come changes");

    let nothing = forgotten.with_partitions(vec![0, 1]);
    let last = next(11, Uuid::nil(), &begun, 4, &[]).with_forgotten_topics_data(vec![nothing]).with_max_wait_ms(0);
    let told: FetchResponse = client.ask(ApiKey::Fetch, 11, &last).await;
    assert_eq!((told.error_code, told.session_id), (0, 0), "a session of nothing ends");
    node.stop().await;
}

#[tokio::test]
async fn sessions_that_are_not_there_or_counted_otherwise_are_refused() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let id = id_of(&mut client, "events").await;
    let begin = fetch(12, "events", id, &[(0, 0)]).with_max_wait_ms(0);
    let begun: FetchResponse = client.ask(ApiKey::Fetch, 12, &begin).await;
    for (version, epoch, error) in [(12, 2, 71), (12, -3, 71), (13, 1, 106)] {
        let told: FetchResponse = client.ask(ApiKey::Fetch, version, &next(version, id, &begun, epoch, &[])).await;
        assert_eq!((told.error_code, told.responses.len()), (error, 0), "{version}, {epoch}");
    }
    let end = begin.clone().with_session_id(begun.session_id).with_session_epoch(-1);
    let ended: FetchResponse = client.ask(ApiKey::Fetch, 12, &end).await;
    assert_eq!((ended.error_code, ended.session_id, shown(&ended)), (0, 0, vec![(0, 0, 0)]));
    let told: FetchResponse = client.ask(ApiKey::Fetch, 12, &next(12, id, &begun, 1, &[])).await;
    assert_eq!(told.error_code, 70);
    node.stop().await;
}

#[tokio::test]
async fn an_error_is_told_until_it_is_over_and_then_what_there_is() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let begun: FetchResponse =
        client.ask(ApiKey::Fetch, 11, &fetch(11, "events", Uuid::nil(), &[(0, 0)]).with_max_wait_ms(0)).await;
    let delete = DeleteTopicsRequest::default()
        .with_topics(vec![DeleteTopicState::default().with_name(Some(name("events")))])
        .with_timeout_ms(1_000);
    let gone: DeleteTopicsResponse = client.ask(ApiKey::DeleteTopics, 6, &delete).await;
    assert_eq!(gone.responses[0].error_code, 0);
    for epoch in [1, 2] {
        let told: FetchResponse =
            client.ask(ApiKey::Fetch, 11, &next(11, Uuid::nil(), &begun, epoch, &[]).with_max_wait_ms(0)).await;
        assert_eq!((told.error_code, told.responses[0].partitions[0].error_code), (0, 3));
    }
    id_of(&mut client, "events").await;
    for (epoch, expected) in [(3, vec![(0, 0, 0)]), (4, vec![])] {
        let told: FetchResponse =
            client.ask(ApiKey::Fetch, 11, &next(11, Uuid::nil(), &begun, epoch, &[]).with_max_wait_ms(0)).await;
        assert_eq!(shown(&told), expected);
    }
    node.stop().await;
}
