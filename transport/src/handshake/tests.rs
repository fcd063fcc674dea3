use std::collections::HashMap;

use proptest::prelude::*;
use stratalog_proto::NodeId;
use tokio::io::{AsyncWriteExt, duplex};
use uuid::Uuid;

use super::*;
use crate::{AddressBook, Identity, Secret};

const CLUSTER: Uuid = Uuid::from_u128(1);

#[derive(Default)]
struct Book {
    incarnations: HashMap<NodeId, Uuid>,
    removed: Option<NodeId>,
}

impl AddressBook for Book {
    fn address(&self, _node: NodeId) -> Option<String> {
        None
    }

    fn incarnation(&self, node: NodeId) -> Option<Uuid> {
        self.incarnations.get(&node).copied()
    }

    fn is_removed(&self, node: NodeId) -> bool {
        self.removed == Some(node)
    }
}

fn identity(node: u64) -> Identity {
    Identity {
        cluster: Some(CLUSTER),
        node: NodeId(node),
        incarnation: Uuid::from_u128(node.into()),
        version: "0.2.0".into(),
        feature_level: 3,
        peer_address: format!("127.0.0.1:{}", 7000 + node),
        grpc_address: "a:1".into(),
        http_address: "b:2".into(),
        kafka_address: "b:3".into(),
        kafka_listeners: [("inside".into(), "c:4".into()), ("outside".into(), "d:5".into())].into(),
        zone: "z".into(),
    }
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text).unwrap())
}

fn node(node: u64) -> Expected {
    Expected::Node { node: NodeId(node), incarnation: None }
}

/// What both sides make of each other: the one that connects, and the one that accepts.
struct Meeting {
    connects: Identity,
    accepts: Identity,
    expected: Expected,
    secrets: [Option<Secret>; 2],
    book: Book,
}

impl Meeting {
    /// Node 1 connects to node 2 of the same cluster; nobody has a secret.
    fn new() -> Self {
        let (connects, accepts) = (identity(1), identity(2));
        Self { connects, accepts, expected: node(2), secrets: [None, None], book: Book::default() }
    }

    async fn hold(self) -> (Result<Identity, HandshakeError>, Result<accept::Accepted, HandshakeError>) {
        let (mut here, mut there) = duplex(1 << 16);
        let Self { connects, accepts, expected, secrets: [its, mine], book } = self;
        // Each side owns its socket, and closes it when it has enough.
        let connect = async move { offer(&mut here, &connects, expected, its.as_ref(), "there:7071").await };
        let answer = async move { accept(&mut there, &accepts, &book, mine.as_ref()).await };
        tokio::join!(connect, answer)
    }

    /// Both sides refuse, or are left by the other; the code and the words of the one that connects.
    async fn refusal(self) -> Error {
        match self.hold().await {
            (Err(HandshakeError::Refused(error)), Err(_)) => error,
            // Who connects looks last.
            (Err(HandshakeError::Refused(error)), Ok(_)) => error,
            other => panic!("no refusal: {other:?}"),
        }
    }
}

#[tokio::test]
async fn each_learns_who_the_other_is() {
    for secrets in [[None, None], [secret("0123456789abcdef"), secret(" 0123456789abcdef\n")]] {
        let (there, here) = Meeting { secrets, ..Meeting::new() }.hold().await;
        assert_eq!(there.unwrap(), identity(2));
        let here = here.unwrap();
        assert_eq!((here.identity, here.open_only), (identity(1), false));
    }
}

#[tokio::test]
async fn a_node_without_a_cluster_may_ask_what_is_open() {
    let alone = Identity { cluster: None, node: NodeId(0), ..identity(9) };
    let (there, here) = Meeting { connects: alone.clone(), expected: Expected::Anyone, ..Meeting::new() }.hold().await;
    assert_eq!(there.unwrap().cluster, Some(CLUSTER));
    assert!(here.unwrap().open_only);
    let refused = Meeting { connects: alone, ..Meeting::new() }.refusal().await;
    assert_eq!(refused.code, Code::NotFormed);
}

#[tokio::test]
async fn a_wrong_or_missing_secret_is_refused() {
    let one = || secret("0123456789abcdef");
    for secrets in [[one(), secret("another secret 12345")], [one(), None], [None, one()]] {
        let refused = Meeting { secrets, ..Meeting::new() }.refusal().await;
        assert_eq!(refused.code, Code::Unauthenticated);
        assert!(refused.message.contains("secret"), "{}", refused.message);
    }
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let accepts = Identity { cluster: Some(Uuid::from_u128(7)), ..identity(2) };
    let refused = Meeting { accepts, ..Meeting::new() }.refusal().await;
    assert_eq!(refused.code, Code::WrongCluster);
    let accepts = Identity { cluster: None, ..identity(2) };
    assert_eq!(Meeting { accepts, ..Meeting::new() }.refusal().await.code, Code::NotFormed);
}

#[tokio::test]
async fn another_node_than_the_one_meant_is_refused() {
    let refused = Meeting { expected: node(3), ..Meeting::new() }.refusal().await;
    assert_eq!(refused.code, Code::Unauthenticated);
    assert!(refused.message.contains("node 2, not node 3"), "{}", refused.message);
}

#[tokio::test]
async fn two_nodes_with_one_id_do_not_talk() {
    let connects = Identity { incarnation: Uuid::from_u128(77), ..identity(2) };
    let refused = Meeting { connects, ..Meeting::new() }.refusal().await;
    assert!(refused.message.contains("two nodes"), "{}", refused.message);
}

#[tokio::test]
async fn a_wiped_node_is_refused_by_both_sides() {
    let book = Book { incarnations: [(NodeId(1), Uuid::from_u128(55))].into(), removed: None };
    let refused = Meeting { book, ..Meeting::new() }.refusal().await;
    assert!(refused.message.contains("wiped"), "{}", refused.message);
    let expected = Expected::Node { node: NodeId(2), incarnation: Some(Uuid::from_u128(55)) };
    let refused = Meeting { expected, ..Meeting::new() }.refusal().await;
    assert!(refused.message.contains("wiped"), "{}", refused.message);
}

#[tokio::test]
async fn a_node_that_was_removed_is_refused_and_may_ask_to_join_again() {
    let book = || Book { removed: Some(NodeId(1)), ..Book::default() };
    let refused = Meeting { book: book(), ..Meeting::new() }.refusal().await;
    assert_eq!(refused.code, Code::UnknownNode);
    assert!(refused.message.contains("node 1 was removed"), "{}", refused.message);
    let (there, here) = Meeting { book: book(), expected: Expected::Anyone, ..Meeting::new() }.hold().await;
    there.unwrap();
    assert!(here.unwrap().open_only);
}

#[tokio::test]
async fn a_node_that_reaches_itself_says_so() {
    let refused = Meeting { accepts: identity(1), ..Meeting::new() }.refusal().await;
    assert_eq!(refused.code, Code::InvalidConfig);
    assert!(refused.message.contains("itself"), "{}", refused.message);
    let (there, _) = Meeting { accepts: identity(1), expected: Expected::Anyone, ..Meeting::new() }.hold().await;
    assert_eq!(there.unwrap(), identity(1), "who asks whoever is there sees that it is itself");
}

/// Neither what was heard before nor what a node said itself proves anything.
#[tokio::test]
async fn a_proof_is_of_no_use_elsewhere() {
    let key = secret("0123456789abcdef");
    let [mut one, mut other] = [proof::Transcript::default(), proof::Transcript::default()];
    one.add(b"a nonce");
    other.add(b"another nonce");
    let (mut to, mut from) = duplex(1024);
    for (said, side, right) in [
        (&one, proof::Side::Connects, true),
        (&other, proof::Side::Connects, false),
        (&one, proof::Side::Accepts, false),
    ] {
        one.prove(&mut to, key.as_ref(), proof::Side::Connects).await.unwrap();
        assert_eq!(said.proved(&mut from, key.as_ref(), side).await.unwrap(), right, "{side:?}");
    }
}

async fn hear(bytes: &[u8]) -> Result<accept::Accepted, HandshakeError> {
    let (mut stranger, mut socket) = duplex(1 << 16);
    stranger.write_all(bytes).await.unwrap();
    stranger.shutdown().await.unwrap();
    accept(&mut socket, &identity(2), &Book::default(), None).await
}

#[tokio::test]
async fn another_protocol_is_told_from_its_first_bytes() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00"] {
        assert!(matches!(hear(bytes).await, Err(HandshakeError::NotAPeer(_))));
    }
    let (mut server, mut socket) = duplex(1 << 16);
    server.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let met = offer(&mut socket, &identity(1), node(2), None, "there:80").await;
    assert!(matches!(met, Err(HandshakeError::NotAPeer(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), magic: bool) {
        let bytes = if magic { [&packet::MAGIC[..], &bytes].concat() } else { bytes };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert!(runtime.block_on(hear(&bytes)).is_err());
    }
}
