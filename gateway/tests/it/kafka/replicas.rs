//! Reading from replicas near the client (KIP-392).

use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, FetchResponse, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use stratalog_proto::batch::Compression;
use uuid::Uuid;

use super::client::Client;
use super::log::{batch, fetch, produce, values};
use super::three::{Three, until};

async fn write(client: &mut Client, value: &str) {
    let request = produce("events", -1, &[(0, batch(&[value], Compression::None))]);
    let told: ProduceResponse = client.ask(ApiKey::Produce, 9, &request).await;
    assert_eq!(told.responses[0].partition_responses[0].error_code, 0);
}

/// What a client in a zone is told.
async fn read(client: &mut Client, version: i16, zone: &'static str, offset: i64) -> PartitionData {
    let request = fetch(version, "events", Uuid::nil(), &[(0, offset)]).with_max_wait_ms(500);
    let request = if version >= 11 { request.with_rack_id(StrBytes::from_static_str(zone)) } else { request };
    let mut told: FetchResponse = client.ask(ApiKey::Fetch, version, &request).await;
    told.responses.remove(0).partitions.remove(0)
}

fn count(told: &PartitionData) -> usize {
    told.records.as_ref().map_or(0, |records| values(records).len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l3_a_leader_sends_readers_to_the_replica_in_their_zone_as_long_as_that_lives() {
    const ZONES: [&str; 3] = ["a", "b", "c"];
    let three = Three::start().await;
    let racks: Vec<_> = three.metadata(0).await.brokers.iter().map(|node| node.rack.clone().unwrap()).collect();
    assert_eq!(racks.iter().map(|rack| &**rack).collect::<Vec<_>>(), ZONES);
    let (leader, epoch) = three.lead().await;
    let (near, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut client = three.client(leader).await;
    for _ in 0..3 {
        write(&mut client, r#"{"a":1}"#).await;
    }
    let told = until("the leader knows a replica in the zone", || async {
        let told = read(&mut three.client(leader).await, 12, ZONES[near], 1).await;
        if told.preferred_read_replica.0 >= 0 { Ok(told) } else { Err(format!("{told:?}")) }
    })
    .await;
    assert_eq!((told.preferred_read_replica.0 as usize, told.error_code), (near + 1, 0));
    assert_eq!((told.high_watermark, told.log_start_offset, count(&told)), (3, 0, 0));
    for (version, zone, offset, expected) in [
        (12, ZONES[leader], 1, (0, 2)),
        (12, "nowhere", 1, (0, 2)),
        (12, "", 1, (0, 2)),
        (10, "", 1, (0, 2)),
        (12, ZONES[near], 4, (1, 0)),
    ] {
        let told = read(&mut client, version, zone, offset).await;
        assert_eq!((told.error_code, count(&told)), expected, "{version} {zone} {offset}");
        assert_eq!(told.preferred_read_replica.0, -1, "{version} {zone} {offset}");
    }

    // The replica answers itself, and sends nobody on.
    let mut follower = three.client(near).await;
    let told = read(&mut follower, 12, ZONES[near], 1).await;
    assert_eq!((told.error_code, count(&told), told.preferred_read_replica.0), (0, 2, -1));
    let waiting = tokio::spawn(async move { read(&mut follower, 12, ZONES[near], 3).await });
    write(&mut client, r#"{"a":2}"#).await;
    let told = waiting.await.unwrap();
    assert_eq!((told.error_code, count(&told)), (0, 1), "what comes later is read there, too");
    // Beyond the end there is nothing, on whichever replica: the leader has said so.
    assert_eq!(read(&mut three.client(near).await, 12, ZONES[near], 9).await.error_code, 1);

    three.stop_broker(near).await;
    until("nobody is sent to a replica that does not answer", || async {
        let told = read(&mut three.client(leader).await, 12, ZONES[near], 0).await;
        let is_read = told.preferred_read_replica.0 == -1 && count(&told) == 4;
        if is_read { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    assert_eq!(three.metadata(other).await.topics[0].partitions[0].leader_epoch, epoch, "nobody was elected for that");
    until("clients are not told of a node that does not answer", || async {
        let mut told = three.metadata(leader).await;
        let nodes: Vec<_> = told.brokers.iter().map(|node| node.node_id.0 as usize - 1).collect();
        let partition = told.topics.remove(0).partitions.remove(0);
        let is_told = nodes.len() == 2
            && !nodes.contains(&near)
            && (partition.replica_nodes.len(), partition.isr_nodes.len()) == (3, 2)
            && partition.offline_replicas == [near as i32 + 1];
        if is_told { Ok(()) } else { Err(format!("{nodes:?}, {partition:?}")) }
    })
    .await;
    three.stop_broker(other).await;
    until("one that is alone tells what it knew", || async {
        let count = three.metadata(leader).await.brokers.len();
        if count == 3 { Ok(()) } else { Err(format!("{count} nodes")) }
    })
    .await;
    three.stop().await;
}
