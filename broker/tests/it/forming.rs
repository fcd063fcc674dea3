//! How nodes come to belong to a cluster, and what keeps them from it.

use std::net::TcpListener;

use stratalog_broker::Forming;
use stratalog_proto::NodeId;

use super::cluster::{Node, PATIENCE, check, cluster_of, three, until};
use super::*;

/// Waits until a node says why it belongs to no cluster, in words that help.
async fn until_it_says(forming: &Forming, words: &str) {
    until("a reason", || async {
        let problem = forming.problem().unwrap_or_default();
        check(problem.contains(words), problem)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_to_join_waits_until_a_cluster_is_begun() {
    let first = Node::new(&[]);
    let waiting = Node { join: vec![first.address.clone()], ..Node::new(&[]) };
    let begins =
        Node { join: vec![waiting.address.clone(), first.address.clone()], dir: first.dir, address: first.address };
    let (begins_forming, waits) =
        (Forming::start(begins.options()).await.unwrap(), Forming::start(waiting.options()).await.unwrap());
    until_it_says(&waits, "stratalog cluster init").await;
    begins_forming.init(0, 0, false).await.unwrap();
    let again = begins_forming.init(0, 0, false).await.unwrap_err();
    assert_eq!(again.code, Code::WrongCluster);
    let first = begins_forming.formed().await.unwrap();
    let second = waits.formed().await.unwrap();
    until("both nodes", || async {
        let status = second.cluster_status().await.unwrap();
        check(status.nodes.len() == 2, status)
    })
    .await;
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_no_second_cluster_is_begun_while_a_node_to_join_does_not_answer() {
    let silent = Node::new(&[]);
    let node = Node::new(&[&silent]);
    let forming = Forming::start(node.options()).await.unwrap();
    let refused = forming.init(0, 0, false).await.unwrap_err();
    assert_eq!(refused.code, Code::Conflict);
    assert!(refused.message.contains(&silent.address) && refused.message.contains("--alone"), "{refused}");
    forming.init(0, 0, true).await.unwrap();
    forming.formed().await.unwrap().stop().await;
}

/// Two new nodes, which both have this in `join`, are told to begin at once: one of them begins a
/// cluster, and the other one is in it, as the node at `witness` sees.
async fn one_cluster_of_two(joins: impl Fn([&Node; 2]) -> Vec<String>, witness: usize) {
    let (one, other) = (Node::new(&[]), Node::new(&[]));
    let join = joins([&one, &other]);
    let nodes = [one, other].map(|node| Node { join: join.clone(), ..node });
    let formings =
        [Forming::start(nodes[0].options()).await.unwrap(), Forming::start(nodes[1].options()).await.unwrap()];
    let begun = futures::future::join_all(formings.iter().map(|forming| forming.init(0, 0, false))).await;
    assert_eq!(begun.iter().filter(|begun| begun.is_ok()).count(), 1, "{begun:?}");
    let brokers = [formings[0].formed().await.unwrap(), formings[1].formed().await.unwrap()];
    until("both nodes", || async {
        let status = brokers[witness].cluster_status().await.map_err(|error| error.to_string())?;
        check(status.nodes.len() == 2, status)
    })
    .await;
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_two_nodes_that_are_told_to_begin_at_once_begin_one_cluster() {
    one_cluster_of_two(|nodes| nodes.map(|node| node.address.clone()).to_vec(), 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_a_node_begins_no_cluster_beside_one_that_it_let_begin_and_does_not_name() {
    one_cluster_of_two(|[asked, _]| vec![asked.address.clone()], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_is_refused_under_its_old_id() {
    let nodes = three();
    let first = nodes[0].start().await;
    let second = nodes[1].start().await;
    until("both nodes", || async {
        let status = first.cluster_status().await.unwrap();
        check(status.nodes.len() == 2, status)
    })
    .await;
    second.stop().await;
    drop(second);
    let wiped =
        Node { dir: tempfile::tempdir().unwrap(), address: nodes[1].address.clone(), join: nodes[1].join.clone() };
    let mut options = wiped.options();
    options.cluster.node_id = NodeId(2);
    let forming = Forming::start(options).await.unwrap();
    until_it_says(&forming, "wiped").await;
    first.stop().await;
}

/// The file of a directory that waits for its cluster, of which nothing else is left.
fn incarnate(node: &Node, incarnation: &str) {
    std::fs::write(node.dir.path().join("incarnation"), incarnation).unwrap();
}

/// The line of a node's identity that says which directory it is.
fn incarnation_of(node: &Node) -> String {
    let identity = std::fs::read_to_string(node.dir.path().join("node.toml")).unwrap();
    identity.lines().find(|line| line.starts_with("incarnation")).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_a_directory_that_votes_and_forgot_it_is_refused() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    brokers[2].stop().await;
    let wiped =
        Node { dir: tempfile::tempdir().unwrap(), address: nodes[2].address.clone(), join: nodes[2].join.clone() };
    incarnate(&wiped, &incarnation_of(&nodes[2]));
    let forming = form_again(&wiped).await;
    until_it_says(&forming, "was node 3, which votes in the metadata, shard 1 and shard 2").await;
    until_it_says(&forming, "remove-node 3").await;
    brokers[0].stop().await;
    brokers[1].stop().await;
}

/// Starts a node whose last process is gone: it takes a moment until directory and address are free.
async fn form_again(node: &Node) -> Arc<Forming> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Forming::start(node.options()).await {
            Ok(forming) => return forming,
            Err(error) => {
                let is_taken = matches!(error.code, Code::Unavailable | Code::Io);
                assert!(is_taken && Instant::now() < deadline, "{error}");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_had_its_answer_asks_again_and_is_the_same_node() {
    let first = Node::new(&[]);
    let broker = first.start().await;
    let second = Node::new(&[&first]);
    for _ in 0..2 {
        let forming = form_again(&second).await;
        until("a member", || async { check(forming.is_formed(), forming.problem()) }).await;
        let (incarnation, dir) = (incarnation_of(&second), second.dir.path());
        drop(forming);
        // As if the answer had not come.
        for name in ["node.toml", "peers"] {
            std::fs::remove_file(dir.join(name)).unwrap();
        }
        for name in ["lanes", "shards"] {
            std::fs::remove_dir_all(dir.join(name)).unwrap();
        }
        incarnate(&second, &incarnation);
    }
    let second = form_again(&second).await.formed().await.unwrap();
    let status = second.cluster_status().await.unwrap();
    assert_eq!(status.nodes.iter().map(|node| node.node.0).collect::<Vec<_>>(), [1, 2]);
    second.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_was_cut_short_leaves_a_directory_in_which_a_cluster_can_begin() {
    let first = Node::new(&[]);
    let broker = first.start().await;
    let second = Node::new(&[&first]);
    second.start().await.stop().await;
    broker.stop().await;
    // What is durable before the identity: the answer of the cluster, and which replica of the metadata is here.
    let cut_short = Node::new(&[]);
    let (from, to) = (second.dir.path(), cut_short.dir.path());
    std::fs::create_dir_all(to.join("shards/0000")).unwrap();
    for name in ["peers", "shards/0000/replica"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    incarnate(&cut_short, &incarnation_of(&second));
    let broker = cut_short.start().await;
    let status = broker.cluster_status().await.unwrap();
    assert_eq!(status.nodes.iter().map(|node| node.node.0).collect::<Vec<_>>(), [1]);
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    broker.produce("t", P0, batch(0, 1, None)).await.unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_of_release_0_1_that_was_cut_short_is_made_good() {
    let node = Node::new(&[]);
    let (dir, id) = (node.dir.path(), "019a6b1e-0000-7000-8000-000000000002");
    let identity =
        format!("format_version = 1\ncluster_id = \"{id}\"\nnode_id = 1\nincarnation = \"{id}\"\nshards = 2\n");
    std::fs::write(dir.join("node.toml"), identity).unwrap();
    std::fs::create_dir_all(dir.join("lanes/0/votes")).unwrap();
    let broker = node.start().await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    broker.produce("t", P0, batch(0, 1, None)).await.unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_of_a_waiting_directory_do_not_become_one_node() {
    let first = Node::new(&[]);
    let broker = first.start().await;
    let (one, copy) = (Node::new(&[&first]), Node::new(&[&first]));
    for node in [&one, &copy] {
        incarnate(node, "incarnation = \"019a6b1e-0000-7000-8000-000000000002\"");
    }
    let joined = Forming::start(one.options()).await.unwrap();
    until("a member", || async { check(joined.is_formed(), joined.problem()) }).await;
    let refused = Forming::start(copy.options()).await.unwrap();
    until_it_says(&refused, "has a copy of the data directory of node 2").await;
    let status = broker.cluster_status().await.unwrap();
    assert_eq!(
        status.nodes.iter().map(|node| node.peer_address.as_str()).collect::<Vec<_>>(),
        [&first.address, &one.address]
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_join_two_clusters_joins_none() {
    let (one, other) = (Node::new(&[]), Node::new(&[]));
    let brokers = [one.start().await, other.start().await];
    let torn = Node::new(&[&one, &other]);
    let forming = Forming::start(torn.options()).await.unwrap();
    until_it_says(&forming, "different clusters").await;
    assert_eq!(forming.init(0, 0, false).await.unwrap_err().code, Code::WrongCluster, "and begins no third one");
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_advertised_address_that_the_others_do_not_reach_is_named() {
    let first = Node::new(&[]);
    let broker = first.start().await;
    let hidden = Node::new(&[&first]);
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut options = hidden.options();
    options.cluster.advertise = nowhere.clone();
    let forming = Forming::start(options).await.unwrap();
    until_it_says(&forming, &nowhere).await;
    until_it_says(&forming, "cluster.advertise").await;

    let mut options = Node::new(&[&first]).options();
    options.cluster.advertise = first.address.clone();
    let impostor = Forming::start(options).await.unwrap();
    until_it_says(&impostor, "another node answers there").await;
    assert_eq!(broker.cluster_status().await.unwrap().nodes.len(), 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_a_cluster_that_cannot_be_are_refused_at_the_start() {
    let refused = async |change: fn(&mut BrokerOptions)| {
        let node = Node::new(&[]);
        let mut options = node.options();
        change(&mut options);
        Forming::start(options).await.err().expect("an error").code
    };
    assert_eq!(refused(|options| options.cluster.join = vec!["no port".to_owned()]).await, Code::InvalidConfig);
    assert_eq!(refused(|options| options.cluster.listen = Some("0.0.0.0:0".to_owned())).await, Code::InvalidConfig);
    let nobody_could_join = |options: &mut BrokerOptions| {
        (options.cluster.listen, options.cluster.join) = (None, vec!["127.0.0.1:1".to_owned()]);
    };
    assert_eq!(refused(nobody_could_join).await, Code::InvalidConfig);
}
