//! The nodes that a client may ask, and the one that it asks now.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use stratalog_proto::Code;
use stratalog_proto::v1::backup_client::BackupClient;
use stratalog_proto::v1::cluster_client::ClusterClient;
use stratalog_proto::v1::groups_client::GroupsClient;
use stratalog_proto::v1::log_client::LogClient;
use stratalog_proto::v1::query_client::QueryClient;
use stratalog_proto::v1::topics_client::TopicsClient;
use tonic::transport::{Channel, Endpoint};

use crate::ClientError;
use crate::reach::{Address, first_to_answer};

/// The largest gRPC message sent or accepted: a fetch of several of the largest batches.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// More than any cluster needs to be found.
const MAX_NODES: usize = 64;
/// How far a peer may run ahead of us on one stream, so that a fetch is not one round trip per 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// HTTP/2 frames that a node may send: each costs a buffer and a turn of the connection, so a fetch comes in a few.
const FRAME_BYTES: u32 = 256 << 10;

/// How soon a node that says nothing is given up.
struct Vigilance {
    connect_timeout: Duration,
    /// A peer that went away without a word is noticed after at most the sum of these.
    ping_every: Duration,
    ping_timeout: Duration,
}

/// There is nobody else to ask.
const ALONE: Vigilance = Vigilance {
    connect_timeout: Duration::from_secs(5),
    ping_every: Duration::from_secs(5),
    ping_timeout: Duration::from_secs(10),
};
/// Another node answers what a lost one does not: to wait is worth less than to ask again.
const ONE_OF_SEVERAL: Vigilance = Vigilance {
    connect_timeout: Duration::from_secs(1),
    ping_every: Duration::from_millis(500),
    ping_timeout: Duration::from_millis(1_500),
};

/// The nodes in the order in which they were given, and behind them those that the cluster told of.
#[derive(Debug)]
pub(crate) struct Nodes {
    given: Vec<Node>,
    /// Room for [`MAX_NODES`] in all, filled from the front and never emptied: who knows the number of one finds it.
    learned: Box<[OnceLock<Node>]>,
    /// The last one that answered: asked until it does not.
    current: AtomicUsize,
}

/// One node. Its connection is made when it is needed, and again whenever it was lost.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    at: usize,
    address: Arc<str>,
    channel: Channel,
}

impl Nodes {
    /// Connects to the first of `endpoints` that answers.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if one is no address; [`Code::Unavailable`] if none answers, with the reason of each.
    pub(crate) async fn connect(endpoints: &[&str]) -> Result<Self, ClientError> {
        let addresses = parse(endpoints)?;
        let (current, connected) = first_to_answer(&addresses).await.map_err(|unreachable| nobody(&unreachable))?;
        let node = |(at, (address, endpoint)): (usize, Address)| {
            let channel = if at == current { connected.clone() } else { endpoint.connect_lazy() };
            Node { at, address: address.into(), channel }
        };
        Ok(Self::of(addresses.into_iter().enumerate().map(node).collect(), current))
    }

    fn of(given: Vec<Node>, current: usize) -> Self {
        let learned = (given.len()..MAX_NODES).map(|_| OnceLock::new()).collect();
        Self { given, learned, current: AtomicUsize::new(current) }
    }

    /// The one to ask now.
    pub(crate) fn current(&self) -> &Node {
        let at = self.current.load(Ordering::Relaxed);
        self.iter().nth(at).unwrap_or(&self.given[0])
    }

    fn iter(&self) -> impl Iterator<Item = &Node> {
        self.given.iter().chain(self.learned.iter().map_while(OnceLock::get))
    }

    /// The node at `address`, host:port.
    pub(crate) fn get(&self, address: &str) -> Option<&Node> {
        self.iter().find(|node| node.is_at(address))
    }

    /// Whether the node at `address`, host:port, is among them.
    pub(crate) fn knows(&self, address: &str) -> bool {
        self.get(address).is_some()
    }

    /// How many more there may be.
    pub(crate) fn room(&self) -> usize {
        self.learned.iter().filter(|place| place.get().is_none()).count()
    }

    /// Adds a node behind the others, as long as there is room. For one task at a time.
    pub(crate) fn add(&self, node: Node) {
        if let Some(free) = self.learned.iter().position(|place| place.get().is_none()) {
            let at = self.given.len() + free;
            self.learned[free].get_or_init(|| Node { at, ..node });
        }
    }

    /// `node` did not answer as it should: the next one is asked from now on. Whoever has left it already is not followed,
    /// so that many calls that fail together go to one and the same node.
    pub(crate) fn leave(&self, node: &Node) {
        let next = (node.at + 1) % self.count();
        let left = self.current.compare_exchange(node.at, next, Ordering::Relaxed, Ordering::Relaxed);
        if left.is_ok() && next != node.at {
            tracing::debug!(from = %node.address, to = %self.current().address, "asking another node");
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.iter().count()
    }
}

impl Node {
    /// Connects to the node at `address`, host:port, to be added. `None`: that is no address, or nobody is there.
    pub(crate) async fn at(address: &str) -> Option<Self> {
        let address = format!("http://{address}");
        let endpoint = configured(Endpoint::from_shared(address.clone()).ok()?, &ONE_OF_SEVERAL);
        let channel = endpoint.connect().await.ok()?;
        Some(Self { at: 0, address: address.into(), channel })
    }

    /// As in `http://127.0.0.1:7070`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether its address is this one, host:port.
    pub(crate) fn is_at(&self, address: &str) -> bool {
        self.address.strip_prefix("http://") == Some(address)
    }

    pub(crate) fn topics(&self) -> TopicsClient<Channel> {
        TopicsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn log(&self) -> LogClient<Channel> {
        LogClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn query(&self) -> QueryClient<Channel> {
        QueryClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn backup(&self) -> BackupClient<Channel> {
        BackupClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn groups(&self) -> GroupsClient<Channel> {
        GroupsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

/// Addresses with their scheme, and how to connect to each.
fn parse(endpoints: &[&str]) -> Result<Vec<Address>, ClientError> {
    let invalid = |message| ClientError::new(Code::InvalidRequest, message);
    if endpoints.is_empty() || endpoints.len() > MAX_NODES {
        let given = endpoints.len();
        return Err(invalid(format!(
            "give the addresses of 1 to {MAX_NODES} nodes, such as 127.0.0.1:7070, not {given}"
        )));
    }
    let vigilance = if endpoints.len() == 1 { ALONE } else { ONE_OF_SEVERAL };
    let one = |endpoint: &&str| {
        let address = if endpoint.contains("://") { (*endpoint).to_owned() } else { format!("http://{endpoint}") };
        if !address.starts_with("http://") {
            return Err(invalid(format!("cannot connect to {endpoint}: write it as http://HOST:PORT")));
        }
        let parsed = Endpoint::from_shared(address.clone())
            .map_err(|error| invalid(format!("`{endpoint}` is not an address such as 127.0.0.1:7070: {error}")))?;
        Ok((address, configured(parsed, &vigilance)))
    };
    endpoints.iter().map(one).collect()
}

fn nobody(unreachable: &[String]) -> ClientError {
    let (nodes, port) = match unreachable.len() {
        1 => ("", "a node running there, and is this its gRPC port?"),
        _ => ("any node: ", "the cluster running, and are these its gRPC ports?"),
    };
    let message = format!("cannot reach {nodes}{}; is {port}", unreachable.join("; "));
    ClientError::new(Code::Unavailable, message)
}

fn configured(endpoint: Endpoint, vigilance: &Vigilance) -> Endpoint {
    endpoint
        .connect_timeout(vigilance.connect_timeout)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keep_alive_interval(vigilance.ping_every)
        .keep_alive_timeout(vigilance.ping_timeout)
        .keep_alive_while_idle(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(address: &'static str) -> Node {
        Node { at: 0, address: address.into(), channel: Endpoint::from_static(address).connect_lazy() }
    }

    #[tokio::test]
    async fn what_is_learned_comes_behind_what_was_given() {
        let nodes = Nodes::of(vec![node("http://a:1")], 0);
        assert!(nodes.knows("a:1") && !nodes.knows("b:1"));
        nodes.add(node("http://b:1"));
        nodes.add(node("http://c:1"));
        assert!(nodes.knows("b:1") && nodes.count() == 3);
        let asked: Vec<String> = (0..4)
            .map(|_| {
                let node = nodes.current().clone();
                nodes.leave(&node);
                node.address().to_owned()
            })
            .collect();
        assert_eq!(asked, ["http://a:1", "http://b:1", "http://c:1", "http://a:1"]);
    }

    #[tokio::test]
    async fn x1_the_nodes_that_are_learned_are_bounded() {
        let nodes = Nodes::of(vec![node("http://a:1")], 0);
        (0..2 * MAX_NODES).for_each(|_| nodes.add(node("http://b:1")));
        assert_eq!((nodes.count(), nodes.room()), (MAX_NODES, 0));
    }
}
