//! The connection.

use std::sync::Arc;

use crate::ClientError;
use crate::learn::learn;
use crate::nodes::{Node, Nodes};

/// A connection to a node, or to one of several: where one is lost, or cannot answer now, the next is asked at once. Clones
/// share it; it is made again whenever it was lost.
///
/// ```no_run
/// # async fn example() -> Result<(), stratalog_client::ClientError> {
/// let client = stratalog_client::Client::connect("10.0.0.1:7070,10.0.0.2:7070,10.0.0.3:7070").await?;
/// for topic in client.topics().await? {
///     println!("{}: {} partitions", topic.name, topic.partitions);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    nodes: Arc<Nodes>,
}

impl Client {
    /// Connects to the first node that answers of `endpoints`, as in `http://127.0.0.1:7070`; the scheme may be left out.
    /// Several are set apart by commas, and one that takes its time is not waited for. Any node answers anything, so it does not matter which one is first. A client that
    /// lives for a while learns of the cluster's other nodes from the one that answers, and goes on with those, too, that it
    /// finds where they say that they are.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`](stratalog_proto::Code::InvalidRequest) if one is no address;
    /// [`Code::Unavailable`](stratalog_proto::Code::Unavailable) if nothing answers at any.
    pub async fn connect(endpoints: &str) -> Result<Self, ClientError> {
        let several = endpoints.split(',').map(str::trim).filter(|endpoint| !endpoint.is_empty());
        Self::connect_any(&several.collect::<Vec<_>>()).await
    }

    /// As [`Client::connect`], with a list.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_any(endpoints: &[&str]) -> Result<Self, ClientError> {
        let nodes = Arc::new(Nodes::connect(endpoints).await?);
        tokio::spawn(learn(Arc::downgrade(&nodes)));
        Ok(Self { nodes })
    }

    /// Connects to one node, and asks no other, whatever it tells of its cluster: for who looks at each node by itself.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_only(endpoint: &str) -> Result<Self, ClientError> {
        Ok(Self { nodes: Arc::new(Nodes::connect(&[endpoint]).await?) })
    }

    /// The address of the node that is asked now.
    pub fn endpoint(&self) -> &str {
        self.nodes.current().address()
    }

    /// The node to ask now.
    pub(crate) fn node(&self) -> Node {
        self.nodes.current().clone()
    }

    /// The node at an address, host:port, if it is one of those that are known.
    pub(crate) fn node_at(&self, address: &str) -> Option<Node> {
        self.nodes.get(address).cloned()
    }

    /// Asks another node from now on.
    pub(crate) fn leave(&self, node: &Node) {
        self.nodes.leave(node);
    }

    /// Nodes that may be asked.
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.count()
    }
}
