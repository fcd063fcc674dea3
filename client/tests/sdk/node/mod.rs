//! A node in memory: one topic, a log with Kafka's rules for idempotent producers, and a script of failures.

mod cluster;
mod log;
mod service;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stratalog_client::Client;
use stratalog_proto::config::MAX_PRODUCE_REQUEST_BYTES;
use stratalog_proto::v1::cluster_server::ClusterServer;
use stratalog_proto::v1::log_server::LogServer;
use stratalog_proto::v1::query_server::QueryServer;
use stratalog_proto::v1::topics_server::TopicsServer;
use stratalog_proto::{Code, v1};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;

pub(crate) use log::Log;

pub(crate) const TOPIC: &str = "orders";

/// What happens to the next produce request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing unusual.
    Pass,
    /// It is not appended, and the answer is this code.
    Refuse(Code),
    /// It is appended, and the answer is this code.
    AppendAndSay(Code),
    /// The stream ends before it is appended.
    HangUp,
    /// It is appended, and the stream ends before the answer.
    AppendAndHangUp,
    /// It is appended, and never answered.
    AppendAndKeepSilent,
    /// It is appended, and answered after the next one.
    AnswerLate,
}

/// What a test sets and sees.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) log: Log,
    pub(crate) faults: VecDeque<Fault>,
    /// Answers wait while this is set.
    pub(crate) hold: bool,
    pub(crate) produce_requests: usize,
    pub(crate) fetch_failures: VecDeque<Code>,
    pub(crate) fetches: usize,
    /// Of each fetch the node, and whether replicas of its zone were asked for.
    pub(crate) fetched_at: Vec<(u64, bool)>,
    /// The nodes, as each of them tells.
    pub(crate) nodes: Vec<v1::ClusterNode>,
    pub(crate) next_producer: i64,
    /// Of the queries to come.
    pub(crate) answers: VecDeque<Vec<Result<v1::QueryChunk, Status>>>,
    /// Of the calls to come that are about a topic.
    pub(crate) topic_failures: VecDeque<Code>,
    pub(crate) topic_calls: usize,
    pub(crate) sql: Vec<v1::SqlRequest>,
}

/// The services share it.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// Its id: 1 for the first node, more for those beside it.
    pub(crate) node: u64,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) partitions: u32,
    pub(crate) max_message_bytes: u32,
    /// Whether the batches that a fetch brings of a partition come in one element, as from a replay segment.
    pub(crate) joins_batches: bool,
}

/// A running node. It has a runtime of its own, so that it can be killed with all its connections.
pub(crate) struct Node {
    pub(crate) shared: Shared,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Node {
    pub(crate) fn start(partitions: u32) -> Self {
        Self::with_max_message_bytes(partitions, 1 << 20)
    }

    pub(crate) fn with_max_message_bytes(partitions: u32, max_message_bytes: u32) -> Self {
        Self::serving(Shared { node: 1, state: Arc::default(), partitions, max_message_bytes, joins_batches: false })
    }

    pub(crate) fn that_joins_batches(partitions: u32) -> Self {
        let max_message_bytes = 1 << 20;
        Self::serving(Shared { node: 1, state: Arc::default(), partitions, max_message_bytes, joins_batches: true })
    }

    fn serving(shared: Shared) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, runtime) = serve(&shared, any);
        Self { shared, address, runtime: Some(runtime) }
    }

    /// Another node with the same log.
    pub(crate) fn beside(other: &Node) -> Self {
        Self::serving(Shared { node: other.shared.node + 1, ..other.shared.clone() })
    }

    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Starts again at the same address, with the same log.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let (_, runtime) = serve(&self.shared, self.address);
        self.runtime = Some(runtime);
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address()).await.unwrap()
    }

    pub(crate) fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state.lock().faults.extend(faults);
    }

    pub(crate) fn hold(&self, hold: bool) {
        self.shared.state.lock().hold = hold;
    }

    /// Tells where this node is, and in which zone.
    pub(crate) fn is_in_zone(&self, zone: &str) {
        let (node, grpc_address, zone) = (self.shared.node, self.address(), zone.to_owned());
        let told = v1::ClusterNode { node, grpc_address, zone, reachable: true, ..v1::ClusterNode::default() };
        self.shared.state.lock().nodes.push(told);
    }

    /// The values in a partition of the log, in order.
    pub(crate) fn values(&self, partition: u32) -> Vec<String> {
        self.shared.state.lock().log.values(partition)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(shared: &Shared, address: SocketAddr) -> (SocketAddr, Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let shared = shared.clone();
    runtime.spawn(async move {
        let listener = bind(address).await;
        sender.send(listener.local_addr().unwrap()).unwrap();
        tonic::transport::Server::builder()
            .add_service(TopicsServer::new(shared.clone()))
            .add_service(LogServer::new(shared.clone()).max_decoding_message_size(MAX_PRODUCE_REQUEST_BYTES))
            .add_service(ClusterServer::new(shared.clone()))
            .add_service(QueryServer::new(shared))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    (receiver.recv().unwrap(), runtime)
}

/// The port of a node that was just killed is free a little later.
async fn bind(address: SocketAddr) -> tokio::net::TcpListener {
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
