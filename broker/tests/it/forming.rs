//! How nodes come to belong to a cluster, and what keeps them from it.

use std::net::TcpListener;

use stratalog_broker::Forming;
use stratalog_proto::NodeId;

use super::cluster::{Node, check, three, until};
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
    begins_forming.init(0, 0).await.unwrap();
    let again = begins_forming.init(0, 0).await.unwrap_err();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_join_two_clusters_joins_none() {
    let (one, other) = (Node::new(&[]), Node::new(&[]));
    let brokers = [one.start().await, other.start().await];
    let torn = Node::new(&[&one, &other]);
    let forming = Forming::start(torn.options()).await.unwrap();
    until_it_says(&forming, "different clusters").await;
    assert_eq!(forming.init(0, 0).await.unwrap_err().code, Code::WrongCluster, "and begins no third one");
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
