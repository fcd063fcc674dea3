//! A reader that says in which zone it is.

use stratalog_client::{Client, ConsumerOptions, OutRecord, ProducerOptions, Stop};
use stratalog_proto::Code;

use super::node::{Node, TOPIC};

/// Three nodes in the zones a, b and c, with ten records; and a client that asks the first.
async fn three() -> ([Node; 3], Client) {
    let first = Node::start(1);
    let second = Node::beside(&first);
    let third = Node::beside(&second);
    first.is_in_zone("a");
    second.is_in_zone("b");
    third.is_in_zone("c");
    let client = first.client().await;
    let producer = client.producer(TOPIC, ProducerOptions::default()).await.unwrap();
    for n in 0..10 {
        drop(producer.send(OutRecord::new(n.to_string())).await.unwrap());
    }
    producer.flush().await.unwrap();
    ([first, second, third], client)
}

fn options(zone: &str) -> ConsumerOptions {
    ConsumerOptions { zone: Some(zone.to_owned()), stop: Stop::AtEnd, ..ConsumerOptions::default() }
}

/// Reads all records; which nodes were asked for them, and whether as one of the zone.
async fn read(client: &Client, nodes: &[Node], zone: &str) -> Vec<(u64, bool)> {
    nodes[0].shared.state.lock().fetched_at.clear();
    let mut consumer = client.consumer(TOPIC, options(zone)).await.unwrap();
    let mut offsets = Vec::new();
    while let Some(records) = consumer.next().await.unwrap() {
        offsets.extend(records.iter().map(|record| record.offset.0));
    }
    assert_eq!(offsets, (0..10).collect::<Vec<_>>());
    nodes[0].shared.state.lock().fetched_at.clone()
}

#[tokio::test]
async fn a_node_of_the_zone_is_read_from_though_another_one_is_asked_for_all_else() {
    let (nodes, client) = three().await;
    for (zone, node) in [("a", 1), ("b", 2), ("c", 3)] {
        let asked = read(&client, &nodes, zone).await;
        assert!(!asked.is_empty() && asked.iter().all(|asked| *asked == (node, true)), "{zone}: {asked:?}");
    }
    assert!(client.endpoint().ends_with(&nodes[0].address()));
}

#[tokio::test]
async fn without_a_node_in_the_zone_it_is_as_without_a_zone() {
    let (nodes, client) = three().await;
    for zone in ["d", ""] {
        let asked = read(&client, &nodes, zone).await;
        assert!(!asked.is_empty() && asked.iter().all(|asked| *asked == (1, false)), "{zone}: {asked:?}");
    }
}

#[tokio::test]
async fn where_the_node_of_the_zone_does_not_answer_the_others_do() {
    let (mut nodes, client) = three().await;
    nodes[0].shared.state.lock().fetch_failures.push_back(Code::NotLeader);
    let asked = read(&client, &nodes, "b").await;
    assert_eq!(asked[0], (2, true));
    assert!(asked[1..].iter().all(|asked| *asked == (1, false)), "it is left for a while: {asked:?}");

    nodes[2].kill();
    let asked = read(&client, &nodes, "c").await;
    assert_eq!(asked.last(), Some(&(1, false)), "{asked:?}");
}
