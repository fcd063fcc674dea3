//! Consumer groups: joined, assigned, committed, and what outlives a restart and a node.

use std::collections::BTreeSet;

use stratalog_broker::groups::{
    Commit, CommitOffset, Committed, GroupOptions, GroupState, Heartbeat, Join, Joined, Leaving, Refusal, Sync, Synced,
};
use stratalog_proto::{NodeId, TopicId};

use super::cluster::{PATIENCE, cluster_of, three, until};
use super::*;

const GROUP: &str = "readers";
const SESSION: Duration = Duration::from_secs(6);

fn quick(dir: &TempDir) -> BrokerOptions {
    let groups = GroupOptions {
        initial_rebalance_delay: Duration::from_millis(300),
        session_timeouts: Duration::from_secs(1)..=SESSION,
        expire_every: Duration::from_millis(100),
        ..GroupOptions::default()
    };
    BrokerOptions { groups, ..options(dir) }
}

fn joining(member_id: &str) -> Join {
    Join {
        group: GROUP.to_owned(),
        member_id: member_id.to_owned(),
        instance: None,
        client_id: "app".to_owned(),
        host: "127.0.0.1".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"t"))],
        session_timeout: SESSION,
        rebalance_timeout: SESSION,
        needs_member_id: true,
        knows_skipping: true,
    }
}

/// Joins as clients do: once for an id, and once with it.
async fn join(broker: &Broker) -> Joined {
    let Err(Refusal::MemberIdRequired(id)) = broker.groups().join(joining("")).await else {
        panic!("an id comes first")
    };
    broker.groups().join(joining(&id)).await.unwrap()
}

async fn sync(broker: &Broker, joined: &Joined) -> Result<Synced, Refusal> {
    let assigned = joined.members.iter().map(|member| (member.member_id.clone(), member.member_id.clone().into()));
    let sync = Sync {
        group: GROUP.to_owned(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments: assigned.collect(),
    };
    broker.groups().sync(sync).await
}

async fn heartbeat(broker: &Broker, joined: &Joined) -> Result<(), Refusal> {
    let Joined { generation, member_id, .. } = joined.clone();
    broker.groups().heartbeat(Heartbeat { group: GROUP.to_owned(), generation, member_id, instance: None }).await
}

fn commit_of(joined: Option<&Joined>, topic: TopicId, offset: u64) -> Commit {
    let offset = CommitOffset {
        topic,
        partition: P0,
        offset: Offset(offset),
        leader_epoch: Some(1),
        metadata: "here".to_owned(),
    };
    Commit {
        group: GROUP.to_owned(),
        generation: joined.map_or(-1, |joined| joined.generation),
        member_id: joined.map(|joined| joined.member_id.clone()).unwrap_or_default(),
        instance: None,
        offsets: vec![offset],
    }
}

async fn committed(broker: &Broker) -> Result<Vec<u64>, Refusal> {
    let all = broker.groups().committed(GROUP).await?;
    Ok(all.iter().map(|committed| committed.offset.0).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_a_group_joins_commits_and_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(quick(&dir)).await.unwrap();
    let topic = broker.create_topic("t", 2, TopicConfig::default()).await.unwrap().id;
    let joined = futures::join!(join(&broker), join(&broker));
    let (leader, follower) = if joined.0.members.is_empty() { (joined.1, joined.0) } else { joined };
    assert_eq!((leader.generation, leader.members.len(), follower.generation), (1, 2, 1));
    let synced = futures::join!(sync(&broker, &follower), sync(&broker, &leader));
    assert_eq!(synced.0.unwrap().assignment, follower.member_id.as_bytes());
    assert_eq!(synced.1.unwrap().assignment, leader.member_id.as_bytes());
    heartbeat(&broker, &leader).await.unwrap();
    assert_eq!(broker.groups().commit(commit_of(Some(&leader), topic, 7)).await, Ok(vec![Ok(())]));
    let late = Joined { generation: 0, ..leader.clone() };
    assert_eq!(broker.groups().commit(commit_of(Some(&late), topic, 3)).await, Err(Refusal::IllegalGeneration));
    assert_eq!(broker.groups().reset(GROUP, commit_of(None, topic, 3).offsets).await, Err(Refusal::NonEmpty));
    assert_eq!(broker.groups().delete(GROUP).await, Err(Refusal::NonEmpty));
    drop(broker);

    let broker = start_after_kill_with(|| quick(&dir)).await;
    assert_eq!(heartbeat(&broker, &follower).await, Ok(()), "it goes on without a rebalance");
    let described = broker.groups().describe(GROUP).await.unwrap();
    assert_eq!((described.state, described.generation, described.members.len()), (GroupState::Stable, 1, 2));
    let found = broker.groups().committed(GROUP).await.unwrap();
    let again = broker.groups().committed(GROUP).await.unwrap();
    let seven = Committed { topic, partition: P0, offset: Offset(7), leader_epoch: Some(1), metadata: "here".into() };
    assert!(found.iter().eq([seven.clone()]));
    assert_eq!((found.get(topic, P0), found.get(topic, PartitionId(1))), (Some(seven), None));
    let [one, other] = [&found, &again].map(|of| of.get(topic, P0).unwrap().metadata.as_ptr());
    assert_eq!(one, other, "nobody has a copy who only looks");
    assert_eq!(broker.groups().commit(commit_of(Some(&leader), topic, 9)).await, Ok(vec![Ok(())]));

    let leaving = [&leader, &follower].map(|of| Leaving { member_id: of.member_id.clone(), instance: None });
    assert_eq!(broker.groups().leave(GROUP, leaving.to_vec()).await, Ok(vec![Ok(()), Ok(())]));
    assert_eq!(heartbeat(&broker, &leader).await, Err(Refusal::UnknownMember));
    let described = broker.groups().describe(GROUP).await.unwrap();
    assert_eq!((described.state, described.generation), (GroupState::Empty, 2));
    assert_eq!(broker.groups().reset(GROUP, commit_of(None, topic, 3).offsets).await, Ok(vec![Ok(())]));
    assert_eq!(committed(&broker).await, Ok(vec![3]));
    let listed = broker.groups().list();
    assert_eq!((listed.len(), listed[0].group.as_str(), listed[0].state), (1, GROUP, GroupState::Empty));
    assert_eq!(broker.groups().delete(GROUP).await, Ok(()));
    assert_eq!(broker.groups().delete(GROUP).await, Err(Refusal::NotFound));
    assert_eq!((committed(&broker).await, broker.groups().list()), (Ok(vec![]), vec![]));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_silent_is_taken_out_and_a_stop_sends_waiting_ones_away() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(quick(&dir)).await.unwrap();
    let short = Join { session_timeout: Duration::from_secs(1), needs_member_id: false, ..joining("") };
    let first = broker.groups().join(short).await.unwrap();
    sync(&broker, &first).await.unwrap();
    until("a group without members", || async {
        let state = broker.groups().describe(GROUP).await.map(|described| described.state);
        super::cluster::check(state == Ok(GroupState::Empty), state)
    })
    .await;
    let out_of_bounds = Join { session_timeout: Duration::from_secs(7), ..joining("") };
    assert_eq!(broker.groups().join(out_of_bounds).await, Err(Refusal::InvalidSessionTimeout));
    let nameless = Join { group: String::new(), ..joining("") };
    assert_eq!(broker.groups().join(nameless).await, Err(Refusal::InvalidGroup));

    let second = broker.groups().join(Join { needs_member_id: false, ..joining("") }).await.unwrap();
    assert_eq!(second.generation, 3);
    sync(&broker, &second).await.unwrap();
    let waiting = {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { broker.groups().join(Join { needs_member_id: false, ..joining("") }).await })
    };
    until("a member that waits", || async {
        let state = broker.groups().describe(GROUP).await.map(|described| described.state);
        super::cluster::check(state == Ok(GroupState::PreparingRebalance), state)
    })
    .await;
    broker.stop().await;
    assert_eq!(waiting.await.unwrap(), Err(Refusal::NotCoordinator));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_go_with_their_topic_and_with_a_group_that_nobody_uses() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(quick(&dir)).await.unwrap();
    let kept = broker.create_topic("kept", 1, TopicConfig::default()).await.unwrap().id;
    let gone = broker.create_topic("gone", 1, TopicConfig::default()).await.unwrap().id;
    for topic in [kept, gone] {
        assert_eq!(broker.groups().commit(commit_of(None, topic, 5)).await, Ok(vec![Ok(())]));
    }
    let mut both = commit_of(None, kept, 6);
    both.offsets.push(CommitOffset { partition: PartitionId(1), ..both.offsets[0].clone() });
    both.offsets.push(CommitOffset { metadata: "m".repeat(4_097), ..both.offsets[0].clone() });
    let answers = vec![Ok(()), Err(Refusal::UnknownTopicOrPartition), Err(Refusal::MetadataTooLarge)];
    assert_eq!(broker.groups().commit(both).await, Ok(answers));
    broker.delete_topic("gone").await.unwrap();
    until("one offset", || async { super::cluster::check(committed(&broker).await == Ok(vec![6]), "") }).await;
    broker.produce("kept", P0, batch(0, 10, None)).await.unwrap();
    let lag = format!("stratalog_group_lag{{group=\"{GROUP}\",topic=\"kept\",partition=\"0\"}} 4");
    assert!(broker.metrics().contains(&lag), "{}", broker.metrics());
    broker.stop().await;
    drop(broker);

    let broker = start_after_kill_with(|| {
        let groups = GroupOptions { offsets_retention: Duration::ZERO, ..quick(&dir).groups };
        BrokerOptions { groups, ..quick(&dir) }
    })
    .await;
    until("no group", || async { super::cluster::check(broker.groups().list().is_empty(), "") }).await;
    assert_eq!(committed(&broker).await, Ok(vec![]));
    broker.stop().await;
}

/// The broker of a node, by its number from 1 on.
fn of(brokers: &[Arc<Broker>], node: NodeId) -> &Arc<Broker> {
    &brokers[node.0 as usize - 1]
}

/// Asks whichever node coordinates the group, until one answers.
async fn at_the_coordinator<T, F: Future<Output = Result<T, Refusal>>>(
    brokers: &[Arc<Broker>],
    mut ask: impl FnMut(Arc<Broker>) -> F,
) -> Result<T, Refusal> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let node = brokers[0].groups().coordinator(GROUP).await;
        if let Ok(node) = node {
            match ask(Arc::clone(of(brokers, node))).await {
                Err(Refusal::NotCoordinator | Refusal::Loading) => {}
                answer => return answer,
            }
        }
        assert!(Instant::now() < deadline, "nobody coordinates the group: {node:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_another_node_takes_a_stable_group_over() {
    let nodes = three();
    let mut brokers = cluster_of(&nodes).await;
    let topic = brokers[0].create_topic("t", 1, TopicConfig::default()).await.unwrap().id;
    let joined = at_the_coordinator(&brokers, |broker| async move {
        let joining = Join { needs_member_id: false, rebalance_timeout: SESSION, ..joining("") };
        broker.groups().join(Join { session_timeout: Duration::from_secs(30), ..joining }).await
    })
    .await
    .unwrap();
    let all: BTreeSet<_> = futures::future::join_all(
        brokers.iter().map(|broker| async { broker.groups().coordinator(GROUP).await.unwrap() }),
    )
    .await
    .into_iter()
    .collect();
    assert_eq!(all.len(), 1, "every node names the same coordinator");
    let synced = at_the_coordinator(&brokers, |broker| {
        let joined = joined.clone();
        async move { sync(&broker, &joined).await }
    });
    assert_eq!(synced.await.unwrap().assignment, joined.member_id.as_bytes());
    let committing = |offset| {
        let commit = commit_of(Some(&joined), topic, offset);
        move |broker: Arc<Broker>| {
            let commit = commit.clone();
            async move { broker.groups().commit(commit).await }
        }
    };
    assert_eq!(at_the_coordinator(&brokers, committing(5)).await, Ok(vec![Ok(())]));

    let coordinator = *all.first().unwrap();
    let others: Vec<_> = brokers.iter().filter(|broker| !Arc::ptr_eq(broker, of(&brokers, coordinator))).collect();
    assert_eq!(heartbeat(others[0], &joined).await, Err(Refusal::NotCoordinator));
    of(&brokers, coordinator).stop().await;
    // The others are asked from now on.
    let left = (1..=3).find(|node| NodeId(*node) != coordinator).unwrap();
    brokers.swap(0, left as usize - 1);
    let by_number = |node: NodeId| {
        if node.0 == left {
            0
        } else if node.0 == 1 {
            left as usize - 1
        } else {
            node.0 as usize - 1
        }
    };
    let deadline = Instant::now() + PATIENCE;
    let next = loop {
        match brokers[0].groups().coordinator(GROUP).await {
            Ok(node) if node != coordinator && heartbeat(&brokers[by_number(node)], &joined).await == Ok(()) => {
                break node;
            }
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let next = &brokers[by_number(next)];
    assert_eq!(next.groups().describe(GROUP).await.unwrap().generation, 1, "without a rebalance");
    assert_eq!(committed(next).await, Ok(vec![5]));
    assert_eq!(next.groups().commit(commit_of(Some(&joined), topic, 8)).await, Ok(vec![Ok(())]));
    assert_eq!(committed(next).await, Ok(vec![8]));
    for broker in &brokers {
        broker.stop().await;
    }
}
