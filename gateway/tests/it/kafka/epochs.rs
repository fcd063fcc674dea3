//! Leader epochs (KIP-320): who is told that its epoch is old, and where epochs end.

use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    ApiKey, BrokerId, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, ProduceResponse,
};
use stratalog_proto::batch::Compression;
use uuid::Uuid;

use super::client::Client;
use super::log::{batch, fetch, name, produce, values};
use super::three::{Three, until};

const FENCED: i16 = 74;
const UNKNOWN: i16 = 75;

async fn write(client: &mut Client, records: &[&str]) {
    let request = produce("events", -1, &[(0, batch(records, Compression::None))]);
    let told: ProduceResponse = client.ask(ApiKey::Produce, 9, &request).await;
    assert_eq!(told.responses[0].partition_responses[0].error_code, 0);
}

/// A fetch by a client that knows an epoch, and has a last record of another.
async fn read(client: &mut Client, offset: i64, epoch: i32, last_epoch: i32) -> PartitionData {
    let mut request = fetch(12, "events", Uuid::nil(), &[(0, offset)]).with_max_wait_ms(100);
    let partition = &mut request.topics[0].partitions[0];
    (partition.current_leader_epoch, partition.last_fetched_epoch) = (epoch, last_epoch);
    let mut told: FetchResponse = client.ask(ApiKey::Fetch, 12, &request).await;
    told.responses.remove(0).partitions.remove(0)
}

/// Error, epoch and end of an epoch.
async fn end_of(client: &mut Client, epoch: i32, known: i32) -> (i16, i32, i64) {
    let partition = OffsetForLeaderPartition::default().with_leader_epoch(epoch).with_current_leader_epoch(known);
    let topic = OffsetForLeaderTopic::default().with_topic(name("events")).with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    let told: OffsetForLeaderEpochResponse = client.ask(ApiKey::OffsetForLeaderEpoch, 4, &request).await;
    let end = &told.topics[0].partitions[0];
    (end.error_code, end.leader_epoch, end.end_offset)
}

/// Error, offset and epoch of a time.
async fn offset_at(client: &mut Client, timestamp: i64, known: i32) -> (i16, i64, i32) {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(known);
    let topic = ListOffsetsTopic::default().with_name(name("events")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let told: ListOffsetsResponse = client.ask(ApiKey::ListOffsets, 7, &request).await;
    let found = &told.topics[0].partitions[0];
    (found.error_code, found.offset, found.leader_epoch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_fences_old_epochs_and_none_of_now() {
    let three = Three::start().await;
    let (_, epoch) = three.lead().await;
    write(&mut three.client(0).await, &[r#"{"a":1}"#, r#"{"a":2}"#]).await;
    for place in 0..3 {
        let mut client = three.client(place).await;
        for (claimed, error) in [(-1, 0), (epoch, 0), (epoch - 1, FENCED), (epoch + 1, UNKNOWN), (i32::MAX, UNKNOWN)] {
            let told = read(&mut client, 0, claimed, -1).await;
            let records = told.records.as_ref().map_or(0, |records| values(records).len());
            assert_eq!((told.error_code, records), (error, if error == 0 { 2 } else { 0 }), "{place}, {claimed}");
            assert_eq!(end_of(&mut client, epoch, claimed).await.0, error, "{place}, {claimed}");
            assert_eq!(offset_at(&mut client, -1, claimed).await.0, error, "{place}, {claimed}");
        }
        let told = read(&mut client, 0, epoch, -1).await;
        assert_eq!(told.diverging_epoch.end_offset, -1);
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_has_an_end_before_it_has_a_record_and_nobody_is_sent_back() {
    let three = Three::start().await;
    // What is told of an empty partition has an end, too.
    let (leader, first) = three.lead().await;
    let mut client = three.client(leader).await;
    for at in [-1, -2] {
        assert_eq!(offset_at(&mut client, at, first).await, (0, 0, first));
    }
    assert_eq!(end_of(&mut client, first, first).await, (0, first, 0));
    write(&mut client, &[r#"{"a":1}"#, r#"{"a":2}"#]).await;
    assert_eq!(offset_at(&mut client, -1, first).await, (0, 2, first));

    let successor = (leader + 1) % 3;
    three.transfer(successor).await;
    // Whoever has heard of the new epoch is believed by all nodes, and soon.
    let second = until("a new epoch", || async {
        let told = three.metadata(successor).await.topics[0].partitions[0].leader_epoch;
        if told > first { Ok(told) } else { Err(told.to_string()) }
    })
    .await;
    for place in 0..3 {
        let mut client = three.client(place).await;
        until("the new epoch is known", || {
            let ends =
                [(second, (0, second, 2)), (first, (0, first, 2)), (0, (0, 0, 0)), (first + 1_000, (0, second, 2))];
            let three = &three;
            async move {
                let mut client = three.client(place).await;
                for (asked, expected) in ends {
                    let told = end_of(&mut client, asked, second).await;
                    assert!(told == expected || told.0 == UNKNOWN, "{place}, {asked}: {told:?}");
                    if told.0 == UNKNOWN {
                        return Err("not yet".to_owned());
                    }
                }
                Ok(())
            }
        })
        .await;
        assert_eq!(read(&mut client, 2, second, first).await.error_code, 0);
        let told = read(&mut client, 3, second, first).await;
        let diverging = (told.diverging_epoch.epoch, told.diverging_epoch.end_offset);
        assert_eq!((told.error_code, diverging), (0, (first, 2)), "it has a record that the log has not");
        assert_eq!(offset_at(&mut client, -2, second).await, (0, 0, first));
        assert_eq!(offset_at(&mut client, -1, second).await, (0, 2, second));
        assert_eq!(offset_at(&mut client, 1_001, second).await, (0, 1, first));
    }
    write(&mut three.client(leader).await, &[r#"{"a":3}"#]).await;
    for place in 0..3 {
        let mut client = three.client(place).await;
        assert_eq!(end_of(&mut client, first, -1).await, (0, first, 2));
        assert_eq!(end_of(&mut client, second, -1).await, (0, second, 3));
        assert_eq!(read(&mut client, 3, second, second).await.diverging_epoch.end_offset, -1);
    }
    assert_eq!(three.lead().await, (successor, second));
    three.stop().await;
}
