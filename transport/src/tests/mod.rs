//! Two nodes with real listeners on loopback.

mod calls;
mod hostile;
mod refusals;
mod streams;
mod trouble;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, NodeId};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::*;

pub(super) const LONG: Duration = Duration::from_secs(20);
pub(super) const CLUSTER: Uuid = Uuid::from_u128(42);

/// Addresses and incarnations that a test sets.
#[derive(Default)]
pub(super) struct Book {
    pub(super) addresses: Mutex<HashMap<NodeId, String>>,
    pub(super) incarnations: Mutex<HashMap<NodeId, Uuid>>,
    pub(super) removed: Mutex<HashSet<NodeId>>,
}

impl AddressBook for Book {
    fn address(&self, node: NodeId) -> Option<String> {
        self.addresses.lock().get(&node).cloned()
    }

    fn incarnation(&self, node: NodeId) -> Option<Uuid> {
        self.incarnations.lock().get(&node).copied()
    }

    fn is_removed(&self, node: NodeId) -> bool {
        self.removed.lock().contains(&node)
    }
}

/// Answers with what it hears: head `refuse` with an error, `wait` only when told to, `count` without parts.
#[derive(Default)]
pub(super) struct Echo {
    pub(super) go: Notify,
    pub(super) heard: Mutex<Vec<(Peer, Method)>>,
    /// The heads of calls.
    pub(super) heads: Mutex<HashSet<Bytes>>,
    /// Frames of streams that were read.
    pub(super) read: Arc<Mutex<usize>>,
}

#[async_trait]
impl PeerService for Echo {
    async fn call(&self, from: Peer, method: Method, frame: Frame) -> Result<Frame, Error> {
        self.heard.lock().push((from, method));
        self.heads.lock().insert(frame.head.clone());
        match &frame.head[..] {
            b"refuse" => Err(Error::new(Code::NotLeader, "node 3 leads it")),
            b"wait" => {
                self.go.notified().await;
                Ok(frame)
            }
            _ => Ok(frame),
        }
    }

    async fn stream(&self, from: Peer, method: Method, mut frames: Frames) -> Result<Frames, Error> {
        self.heard.lock().push((from, method));
        match frames.next().await.transpose().map_err(|error| Error::new(Code::Internal, error.to_string()))? {
            Some(first) if first.head == "refuse" => Err(Error::new(Code::Conflict, "not this one")),
            // Reads nothing more until it is told to.
            Some(first) if first.head == "wait" => {
                self.go.notified().await;
                let read = self.read.clone();
                let count = move |_: &_| *read.lock() += 1;
                Ok(stream::iter([Ok(first)]).chain(frames.inspect(count)).boxed())
            }
            first => {
                let read = self.read.clone();
                let count = move |_: &_| *read.lock() += 1;
                Ok(stream::iter(first.map(Ok)).chain(frames).inspect(count).boxed())
            }
        }
    }
}

pub(super) fn identity(node: u64) -> Identity {
    Identity {
        cluster: Some(CLUSTER),
        node: NodeId(node),
        incarnation: Uuid::from_u128(100 + u128::from(node)),
        version: "test".into(),
        feature_level: 1,
        peer_address: String::new(),
        grpc_address: String::new(),
        http_address: String::new(),
        kafka_address: String::new(),
        kafka_listeners: Default::default(),
        zone: String::new(),
    }
}

/// A node that listens.
pub(super) struct Node {
    pub(super) transport: Arc<Transport>,
    pub(super) book: Arc<Book>,
    pub(super) service: Arc<Echo>,
    pub(super) address: String,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Node {
    pub(super) async fn start(identity: Identity, options: TransportOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, identity, options)
    }

    pub(super) fn start_on(listener: TcpListener, identity: Identity, options: TransportOptions) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let (book, service) = (Arc::new(Book::default()), Arc::new(Echo::default()));
        let transport = Transport::new(identity, book.clone(), options).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = transport.clone().serve(listener, service.clone(), async move { drop(stopped.await) });
        let serving = tokio::spawn(async move { serve.await.unwrap() });
        Self { transport, book, service, address, stop: Some(stop), serving }
    }

    pub(super) fn knows(&self, node: u64, address: &str) {
        self.book.addresses.lock().insert(NodeId(node), address.to_owned());
    }

    /// The way out of a node that is told to stop.
    pub(super) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.serving.await.unwrap();
    }

    /// As if killed: the sockets close at once.
    pub(super) async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
    }
}

/// Nodes 1 and 2 of one cluster; node 1 knows where node 2 is.
pub(super) async fn pair() -> (Node, Node) {
    pair_with(TransportOptions::default()).await
}

pub(super) async fn pair_with(options: TransportOptions) -> (Node, Node) {
    let one = Node::start(identity(1), options.clone()).await;
    let two = Node::start(identity(2), options).await;
    one.knows(2, &two.address);
    (one, two)
}

pub(super) fn frame(head: &'static str, parts: &[usize]) -> Frame {
    Frame { head: head.into(), parts: parts.iter().map(|bytes| Bytes::from(vec![7; *bytes])).collect() }
}

/// Asks again until it works: a connection that was lost is noticed a little later.
pub(super) async fn eventually(node: &Node, to: u64, method: Method) -> Frame {
    for _ in 0..2000 {
        match node.transport.call(NodeId(to), method, frame("again", &[]), LONG).await {
            Ok(answer) => return answer,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("node {to} was never reached: {:?}", node.transport.problem(NodeId(to)));
}
