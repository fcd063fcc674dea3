//! Connecting, and the calls about topics.

use stratalog_client::Client;
use stratalog_proto::Code;

use super::node::{Node, TOPIC};

#[tokio::test]
async fn nothing_listening_is_said_with_the_address() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let error = Client::connect(&address).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains(&address) && error.message().contains("refused"), "{error}");
}

#[tokio::test]
async fn what_is_no_address_is_refused() {
    for endpoint in ["", "not an address", "https://127.0.0.1:1", "http://"] {
        let error = Client::connect(endpoint).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest, "{endpoint:?}: {error}");
    }
}

#[tokio::test]
async fn topics_are_managed() {
    let node = Node::start(2);
    let client = Client::connect(&format!("http://{}", node.address())).await.unwrap();
    let created = client.create_topic("new", 3, &[("format".to_owned(), "text".to_owned())]).await.unwrap();
    assert_eq!((created.name.as_str(), created.partitions), ("new", 3));
    assert_eq!(created.config.unwrap().format, "text");
    assert_eq!(client.topics().await.unwrap()[0].name, TOPIC);
    assert_eq!(client.describe_topic(TOPIC).await.unwrap().topic.unwrap().partitions, 2);
    assert_eq!(client.alter_topic(TOPIC, &[]).await.unwrap().name, TOPIC);
    assert_eq!(client.segments(TOPIC).await.unwrap().len(), 1);
    assert_eq!(client.drop_before(TOPIC, 0, true).await.unwrap().rows, 1);
    client.delete_topic(TOPIC).await.unwrap();
    let error = client.delete_topic("nothing").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::UnknownTopic, "no topic `nothing`"));
}

#[tokio::test]
async fn a_client_outlives_its_node() {
    let mut node = Node::start(1);
    let client = node.client().await;
    node.restart();
    assert_eq!(client.topics().await.unwrap().len(), 1);
}
