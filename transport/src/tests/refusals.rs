//! Who is not talked to.

use super::*;

pub(super) fn tls(authority: &str) -> Tls {
    let (authority, certificate, key): (&[u8], &[u8], &[u8]) = match authority {
        "cluster" => (
            include_bytes!("../fixtures/cluster-authority.pem"),
            include_bytes!("../fixtures/cluster-node.pem"),
            include_bytes!("../fixtures/cluster-node.key.pem"),
        ),
        _ => (
            include_bytes!("../fixtures/other-authority.pem"),
            include_bytes!("../fixtures/other-node.pem"),
            include_bytes!("../fixtures/other-node.key.pem"),
        ),
    };
    Tls {
        authority: Bytes::from_static(authority),
        certificate: Bytes::from_static(certificate),
        key: Bytes::from_static(key),
        server_name: Some("stratalog.test".into()),
    }
}

fn secret(text: &str) -> TransportOptions {
    TransportOptions { secret: Some(Secret::new(text).unwrap()), ..TransportOptions::default() }
}

/// What node 1 hears that asks node 2. It was certainly not done, and node 2 has heard nothing.
async fn not_sent(one: &Node, two: &Node) -> String {
    let refused = one.transport.call(NodeId(2), Method::Propose, frame("", &[]), LONG).await;
    let Err(CallError::NotSent(words)) = refused else { panic!("{refused:?}") };
    assert!(two.service.heard.lock().is_empty());
    assert!(one.transport.problem(NodeId(2)).is_some());
    words
}

async fn meet(mine: TransportOptions, its: TransportOptions) -> (Node, Node) {
    let (one, two) = (Node::start(identity(1), mine).await, Node::start(identity(2), its).await);
    one.knows(2, &two.address);
    (one, two)
}

#[tokio::test]
async fn a_wrong_secret() {
    let (one, two) = meet(secret("0123456789abcdef"), secret("fedcba9876543210")).await;
    assert!(not_sent(&one, &two).await.contains("wrong cluster secret"));
    let refused = one.transport.call_address(&two.address, Method::Hello, frame("", &[]), LONG).await;
    let Err(CallError::Refused(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.code, Code::Unauthenticated);
}

#[tokio::test]
async fn a_secret_on_one_side_only() {
    let (one, two) = meet(secret("0123456789abcdef"), TransportOptions::default()).await;
    assert!(not_sent(&one, &two).await.contains("has none"));
    let (one, two) = meet(TransportOptions::default(), secret("0123456789abcdef")).await;
    assert!(not_sent(&one, &two).await.contains("asks for the cluster secret"));
}

#[tokio::test]
async fn another_cluster_another_node_and_a_wiped_node() {
    let (one, two) = pair().await;
    two.transport.identify(Identity { cluster: Some(Uuid::from_u128(7)), ..identity(2) });
    assert!(not_sent(&one, &two).await.contains("belongs to cluster"));

    let (one, two) = pair().await;
    two.transport.identify(identity(3));
    assert!(not_sent(&one, &two).await.contains("node 3, not node 2"));

    let (one, two) = pair().await;
    one.book.incarnations.lock().insert(NodeId(2), Uuid::from_u128(5));
    assert!(not_sent(&one, &two).await.contains("wiped"));
    let (one, two) = pair().await;
    two.book.incarnations.lock().insert(NodeId(1), Uuid::from_u128(5));
    assert!(not_sent(&one, &two).await.contains("wiped"));
}

#[tokio::test]
async fn a_node_that_is_removed_loses_its_connections_and_gets_no_new_ones() {
    let (one, two) = pair().await;
    let other = Node::start(identity(3), TransportOptions::default()).await;
    other.knows(2, &two.address);
    let frames = stream::iter([Ok(frame("first", &[]))]).chain(stream::pending()).boxed();
    let mut answers = one.transport.stream(NodeId(2), Method::RaftReplicate, frames);
    answers.next().await.unwrap().unwrap();
    two.book.removed.lock().insert(NodeId(1));
    two.transport.recheck();
    let ended = tokio::time::timeout(LONG, answers.next()).await.unwrap();
    assert!(!matches!(ended, Some(Ok(_))), "{ended:?}");
    let refused = loop {
        match one.transport.call(NodeId(2), Method::Propose, frame("", &[]), LONG).await {
            Err(CallError::NotSent(words)) if words.contains("removed") => break words,
            Ok(_) => panic!("it was answered"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(refused.contains("node 1 was removed from the cluster"), "{refused}");
    one.transport.call_address(&two.address, Method::Join, frame("", &[]), LONG).await.expect("it may join again");
    eventually(&other, 2, Method::Propose).await;
}

#[tokio::test]
async fn an_address_that_leads_back() {
    let one = Node::start(identity(1), TransportOptions::default()).await;
    one.knows(2, &one.address);
    assert!(not_sent(&one, &one).await.contains("itself"));
    let answer = one.transport.call_address(&one.address, Method::Hello, frame("", &[]), LONG).await;
    assert_eq!(answer.unwrap().0.identity, identity(1), "a seed that is the node itself is seen to be");
}

#[tokio::test]
async fn a_certificate_of_another_authority() {
    let with = |authority| TransportOptions { tls: Some(tls(authority)), ..TransportOptions::default() };
    let (one, two) = meet(with("cluster"), with("other")).await;
    assert!(not_sent(&one, &two).await.contains("certificate"));
    // One that trusts the server, but that the server does not trust.
    let mixed = Tls { authority: tls("cluster").authority, ..tls("other") };
    let (one, two) = meet(TransportOptions { tls: Some(mixed), ..Default::default() }, with("cluster")).await;
    not_sent(&one, &two).await;
    let (one, two) = meet(TransportOptions::default(), with("cluster")).await;
    not_sent(&one, &two).await;
}

#[tokio::test]
async fn certificates_that_cannot_be_used() {
    for broken in [
        Tls { authority: Bytes::new(), ..tls("cluster") },
        Tls { certificate: Bytes::from_static(b"x"), ..tls("cluster") },
        Tls { key: tls("other").key, ..tls("cluster") },
        Tls { server_name: Some("no name".into()), ..tls("cluster") },
    ] {
        let options = TransportOptions { tls: Some(broken), ..TransportOptions::default() };
        let refused = Transport::new(identity(1), Arc::new(Book::default()), options).map(|_| ()).unwrap_err();
        assert_eq!(refused.code, Code::InvalidConfig);
        assert!(!refused.message.contains("BEGIN"), "{}", refused.message);
    }
    assert!(Secret::new("short").is_err());
    let debug = format!("{:?} {:?}", Secret::new("0123456789abcdef"), tls("cluster"));
    assert!(!debug.contains("0123") && !debug.contains("BEGIN"), "{debug}");
}

#[tokio::test]
async fn other_machines_without_secret_or_tls() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let one = Node::start(identity(1), TransportOptions::default()).await;
    let error = one.transport.clone().serve(listener, one.service.clone(), async {}).await.unwrap_err();
    assert!(error.to_string().contains("secret"), "{error}");
    let refused = one.transport.call_address("192.0.2.1:7071", Method::Hello, frame("", &[]), LONG).await;
    assert!(matches!(&refused, Err(CallError::Refused(error)) if error.code == Code::InvalidConfig), "{refused:?}");
}

#[tokio::test]
async fn a_node_that_nobody_knows() {
    let one = Node::start(identity(1), TransportOptions::default()).await;
    let refused = one.transport.call(NodeId(5), Method::Propose, frame("", &[]), LONG).await;
    assert!(matches!(&refused, Err(CallError::NotSent(words)) if words.contains("not known")), "{refused:?}");
    let refused = one.transport.call(NodeId(1), Method::Propose, frame("", &[]), LONG).await;
    assert!(matches!(&refused, Err(CallError::NotSent(words)) if words.contains("itself")), "{refused:?}");
}
