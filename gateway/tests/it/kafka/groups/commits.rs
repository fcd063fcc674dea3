//! How far groups have read.

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{ApiKey, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse};

use super::{Member, commit_request, group_id, text, topic_name};
use crate::kafka::client::Client;
use crate::kafka::three::Three;
use crate::node::Node;

/// Topic, partition, offset, epoch, metadata.
type Told = (String, i32, i64, i32, String);

/// What a group has committed of these partitions of `events`, or of all there are.
async fn fetch(client: &mut Client, version: i16, group: &str, partitions: Option<&[i32]>) -> (i16, Vec<Told>) {
    if version < 8 {
        let topic = |of: &[i32]| {
            OffsetFetchRequestTopic::default().with_name(topic_name("events")).with_partition_indexes(of.to_vec())
        };
        let topics = partitions.map(|of| vec![topic(of)]);
        let request = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(topics);
        let request = if version == 7 { request.with_require_stable(true) } else { request };
        let told: OffsetFetchResponse = client.ask(ApiKey::OffsetFetch, version, &request).await;
        let of = told.topics.iter().flat_map(|topic| topic.partitions.iter().map(|of| (topic.name.to_string(), of)));
        let told_of =
            |(name, of): (String, &kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartition)| {
                assert_eq!(of.error_code, 0);
                let metadata = of.metadata.as_ref().unwrap().to_string();
                (name, of.partition_index, of.committed_offset, of.committed_leader_epoch, metadata)
            };
        return (told.error_code, of.map(told_of).collect());
    }
    let topic = |of: &[i32]| {
        OffsetFetchRequestTopics::default().with_name(topic_name("events")).with_partition_indexes(of.to_vec())
    };
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(group_id(group))
        .with_topics(partitions.map(|of| vec![topic(of)]));
    let request = OffsetFetchRequest::default().with_groups(vec![group.clone(), group]).with_require_stable(true);
    let told: OffsetFetchResponse = client.ask(ApiKey::OffsetFetch, version, &request).await;
    let [group] = &told.groups[..] else { panic!("a group that is named twice is told of once: {told:?}") };
    let told_of = group.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|of| {
            let metadata = of.metadata.as_ref().unwrap().to_string();
            (topic.name.to_string(), of.partition_index, of.committed_offset, of.committed_leader_epoch, metadata)
        })
    });
    (group.error_code, told_of.collect())
}

fn of_events(partition: i32, offset: i64, epoch: i32, metadata: &str) -> Told {
    ("events".to_owned(), partition, offset, epoch, metadata.to_owned())
}

#[tokio::test]
async fn what_is_committed_comes_back_in_every_version() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    for version in 2..=9 {
        let group = format!("readers-{version}");
        let mut request = commit_request(&group, "events", &[(1, 40), (0, i64::MAX)]);
        if version >= 6 {
            request.topics[0].partitions[0].committed_leader_epoch = 3;
        }
        request.topics[0].partitions[1].committed_metadata = None;
        let told: OffsetCommitResponse = client.ask(ApiKey::OffsetCommit, version, &request).await;
        let codes: Vec<_> = told.topics[0].partitions.iter().map(|of| (of.partition_index, of.error_code)).collect();
        assert_eq!(codes, [(1, 0), (0, 0)], "version {version}");
        let epoch = if version >= 6 { 3 } else { -1 };
        for fetched_by in 1..=9 {
            let epoch = if fetched_by >= 5 { epoch } else { -1 };
            let (code, told) = fetch(&mut client, fetched_by, &group, Some(&[1, 0, 7])).await;
            let expected = [of_events(1, 40, epoch, "at 40"), of_events(0, i64::MAX, -1, ""), of_events(7, -1, -1, "")];
            assert_eq!((code, &told[..]), (0, &expected[..]), "version {version}, fetched by {fetched_by}");
            if fetched_by >= 2 {
                let (code, mut all) = fetch(&mut client, fetched_by, &group, None).await;
                all.sort();
                let expected = [of_events(0, i64::MAX, -1, ""), of_events(1, 40, epoch, "at 40")];
                assert_eq!((code, &all[..]), (0, &expected[..]), "version {version}, all by {fetched_by}");
            }
        }
    }
    assert_eq!(fetch(&mut client, 8, "nobody", Some(&[0])).await, (0, vec![of_events(0, -1, -1, "")]));
    assert_eq!(fetch(&mut client, 8, "nobody", None).await, (0, Vec::new()));
    node.stop().await;
}

#[tokio::test]
async fn commits_that_cannot_be_are_refused_each_by_itself() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let mut request = commit_request("readers", "events", &[(0, 5), (9, 5), (-1, 5), (1, -2), (1, 6)]);
    request.topics[0].partitions[4].committed_metadata = Some(text(&"x".repeat(5_000)));
    let nowhere = commit_request("readers", "nowhere", &[(0, 5)]).topics.remove(0);
    let twice = commit_request("readers", "events", &[(1, 7)]).topics.remove(0);
    request.topics.extend([nowhere, twice]);
    let told: OffsetCommitResponse = client.ask(ApiKey::OffsetCommit, 8, &request).await;
    let codes = |topic: usize| told.topics[topic].partitions.iter().map(|of| of.error_code).collect::<Vec<_>>();
    assert_eq!((codes(0), codes(1), codes(2)), (vec![0, 3, 3, 42, 12], vec![3], vec![0]));
    let (code, told) = fetch(&mut client, 8, "readers", Some(&[0, 1])).await;
    assert_eq!((code, told), (0, vec![of_events(0, 5, -1, "at 5"), of_events(1, 7, -1, "at 7")]));
    let nothing = commit_request("readers", "events", &[]);
    let told: OffsetCommitResponse = client.ask(ApiKey::OffsetCommit, 8, &nothing).await;
    assert_eq!(
        told.topics,
        [Default::default()]
            .map(|topic: kafka_protocol::messages::offset_commit_response::OffsetCommitResponseTopic| topic
                .with_name(topic_name("events")))
    );
    node.stop().await;
}

#[tokio::test]
async fn a_group_with_members_is_theirs_to_commit_for() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let of_nobody = commit_request("readers", "events", &[(0, 1)]);
    let told: OffsetCommitResponse = client.ask(ApiKey::OffsetCommit, 7, &of_nobody).await;
    assert_eq!(told.topics[0].partitions[0].error_code, 0, "there is no member yet");
    let mut member = Member::alone(&node, "readers").await;
    let told: OffsetCommitResponse = client.ask(ApiKey::OffsetCommit, 7, &of_nobody).await;
    assert_eq!(told.topics[0].partitions[0].error_code, 25);
    assert_eq!(member.commit(&[(0, 30), (1, 31)]).await, [0, 0]);
    let (_, told) = fetch(&mut client, 6, "readers", Some(&[0, 1])).await;
    assert_eq!(told, [of_events(0, 30, -1, "at 30"), of_events(1, 31, -1, "at 31")]);
    // A member of a group that there is not.
    member.group = "others".to_owned();
    assert_eq!(member.commit(&[(0, 1)]).await.len(), 1);
    assert_ne!(member.commit(&[(0, 1)]).await, [0]);
    node.stop().await;
}

#[tokio::test]
async fn of_commits_in_flight_the_last_one_stays() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let count = 20;
    for offset in 1..=count {
        let request = commit_request("readers", "events", &[(0, i64::from(offset))]);
        client.send(ApiKey::OffsetCommit, 8, &request).await;
    }
    for back in (0..count).rev() {
        let told: OffsetCommitResponse = client.receive(ApiKey::OffsetCommit, 8, back).await;
        assert_eq!(told.topics[0].partitions[0].error_code, 0);
    }
    let (_, told) = fetch(&mut client, 8, "readers", Some(&[0])).await;
    assert_eq!(told, [of_events(0, 20, -1, "at 20")]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_tells_how_far_a_group_has_read_while_leadership_is_handed_over() {
    let three = Three::start().await;
    let (leader, _) = three.lead().await;
    let request = commit_request("readers", "events", &[(0, 7)]);
    let told: OffsetCommitResponse = three.client(leader).await.ask(ApiKey::OffsetCommit, 8, &request).await;
    assert_eq!(told.topics[0].partitions[0].error_code, 0);
    let successor = (leader + 1) % 3;
    let asking = async |place: usize| {
        let mut client = three.client(place).await;
        for n in 0..40 {
            let version = [1, 7, 9][n % 3];
            let (error, told) = fetch(&mut client, version, "readers", Some(&[0, 1])).await;
            assert_eq!((error, told.len()), (0, 2), "node {place}");
            assert_eq!((told[0].2, told[1].2), (7, -1), "node {place}");
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        let (error, told) = fetch(&mut client, 7, "readers", None).await;
        assert_eq!((error, told.len(), told[0].2), (0, 1, 7), "node {place}");
    };
    let handed_over = async {
        for to in [successor, leader] {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            three.transfer(to).await;
        }
    };
    futures::join!(asking(0), asking(1), asking(2), handed_over);
    three.stop().await;
}

#[tokio::test]
async fn a_commit_without_topics_is_answered() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let request = commit_request("readers", "events", &[]).with_topics(Vec::<OffsetCommitRequestTopic>::new());
    let told: OffsetCommitResponse = client.ask(ApiKey::OffsetCommit, 8, &request).await;
    assert!(told.topics.is_empty());
    node.stop().await;
}
