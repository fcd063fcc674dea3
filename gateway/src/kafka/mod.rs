//! Kafka's protocol: clients, agents and connectors of Kafka write to the log and read from it unchanged.
//!
//! - `requests`: from the socket to what is asked, bounded; which requests are answered, and in which versions.
//! - `connection`: requests and their answers, in order and bounded.
//! - `places`: where the nodes are, for clients of each listener; `room`: what answers about groups may hold.
//! - One file for each kind of request. Produce and Fetch are read and written here, field by field, so that the bytes of
//!   records are slices from the socket to the log and from the log to the socket; all others by the library.
//!
//! Any node answers for any partition. Metadata names the leaders all the same: then nothing is passed on. For a group only
//! its coordinator answers, as in Kafka, but for how far it has read, which any node tells.

mod alter_configs;
mod alter_partition_reassignments;
mod altering;
mod answer;
mod api_versions;
mod configs;
mod connection;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod elect_leaders;
mod epochs;
mod errors;
mod fetch;
mod find_coordinator;
#[cfg(test)]
#[allow(unreachable_pub)] // `fuzz/` compiles it by its path.
mod fuzzing;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod node_configs;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod operations;
mod places;
mod produce;
mod requests;
mod room;
mod sasl_handshake;
mod sync_group;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::requests::{api, frames, wire};
use crate::Gateway;
use crate::gateway::Shared;
use crate::serve::{ACCEPT_PAUSE, drained};

/// Batches that are looked into at the same time.
const MAX_LOOKUPS: usize = 4;

/// Settings of the Kafka listener.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// Whether a topic is created that a client asks for, and lets be created, and that is not there.
    pub auto_create_topics: bool,
    /// Connections; further ones wait until there is room.
    pub max_connections: usize,
    /// How long a connection may be without a request; Kafka's `connections.max.idle.ms`.
    pub idle_timeout: Duration,
    /// Bytes that large requests may hold on all connections together.
    pub request_budget_bytes: usize,
    /// Bytes that answers with records and about groups may hold, which their clients have not taken, on all connections
    /// together.
    pub answer_budget_bytes: usize,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            auto_create_topics: true,
            max_connections: 10_000,
            idle_timeout: Duration::from_secs(600),
            request_budget_bytes: 256 << 20,
            answer_budget_bytes: 512 << 20,
        }
    }
}

/// What the handlers of requests see.
struct Node {
    shared: Arc<Shared>,
    /// Where the client came in; `None`: the listener without a name. Its clients are sent to the same of the other nodes.
    listener: Option<Arc<str>>,
    shares: Shares,
}

/// What the connections of all listeners share.
#[derive(Clone)]
struct Shares {
    options: KafkaOptions,
    /// Connections that may be there.
    slots: Arc<Semaphore>,
    /// For large requests, in KiB.
    budget: Arc<Semaphore>,
    /// For records that were read and not sent yet, and for answers about groups, in KiB.
    answers: Arc<Semaphore>,
    /// How many there are for these.
    answers_kib: u32,
    /// For looks into batches, which may decompress much.
    lookups: Arc<Semaphore>,
    /// What clients want of their fetches.
    sessions: Arc<fetch::Sessions>,
}

/// The node behind its Kafka listeners. What their connections may hold is bounded together.
#[derive(Clone)]
pub struct Kafka {
    gateway: Gateway,
    shares: Shares,
}

impl Kafka {
    /// A node without a listener yet.
    pub fn new(gateway: Gateway, options: KafkaOptions) -> Self {
        // At least one of the largest requests fits.
        let budget = options.request_budget_bytes.max(frames::MAX_FRAME_BYTES + 1024) / 1024 + 1;
        let answers = options.answer_budget_bytes.max(requests::fetch::MAX_BYTES) / 1024 + 1;
        let places = |places| Arc::new(Semaphore::new(places));
        let shares = Shares {
            slots: places(options.max_connections),
            budget: places(budget),
            answers: places(answers),
            answers_kib: u32::try_from(answers).unwrap_or(u32::MAX),
            lookups: places(MAX_LOOKUPS),
            sessions: Arc::default(),
            options,
        };
        Self { gateway, shares }
    }

    /// Serves Kafka's protocol on `listener` until `shutdown` resolves, then at most the drain timeout longer. Clients are sent to
    /// where the nodes say that those of this name are reached; `None`: of the listener without a name.
    ///
    /// # Errors
    /// None today; a listener that refuses is tried again.
    pub async fn serve(
        self,
        name: Option<String>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let name = name.map(Arc::from);
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            // Afterwards: a listener that nobody comes to holds no place.
            let slot = tokio::select! {
                slot = Arc::clone(&self.shares.slots).acquire_owned() => slot.expect("the semaphore is never closed"),
                () = &mut shutdown => break,
            };
            match accepted.and_then(|(stream, peer)| self.open(&name, stream, peer)) {
                Ok(Some(serving)) => {
                    connections.spawn(async move {
                        serving.await;
                        drop(slot);
                    });
                }
                // The node belongs to no cluster yet: the client tries again.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a Kafka connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        self.gateway.stopping().cancel();
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => {}
            () = drained(&self.gateway) => connections.abort_all(),
        }
        Ok(())
    }

    fn open(
        &self,
        name: &Option<Arc<str>>,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> io::Result<Option<impl Future<Output = ()> + Send + use<>>> {
        let Some(shared) = self.gateway.shared() else { return Ok(None) };
        stream.set_nodelay(true)?;
        let ends = [peer, stream.local_addr()?];
        let node = Node { shared, listener: name.clone(), shares: self.shares.clone() };
        Ok(Some(connection::serve(Arc::new(node), stream, ends)))
    }
}
