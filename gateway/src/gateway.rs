//! The gateway: what its protocols share, and how they are put together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stratalog_broker::Broker;
use tokio_util::sync::CancellationToken;

use crate::front::Front;
use crate::http::Bodies;
use crate::metrics::Metrics;
use crate::waiting::Waiting;

/// Bounds on what peers may send, hold and wait for.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// The largest body of an HTTP request, in bytes after decompression.
    pub max_body_bytes: usize,
    /// Bytes that the bodies of all HTTP requests may hold together; beyond it requests are refused, retriably.
    pub body_budget_bytes: usize,
    /// How long a client may take to send a body, or the head of a request.
    pub read_timeout: Duration,
    /// Deadline of a request that is not a query; queries have the engine's.
    pub request_timeout: Duration,
    /// How long a client may take nothing of a streamed answer before its query is cancelled.
    pub stall_timeout: Duration,
    /// Connections of the HTTP listener; Kafka's has its own bound.
    pub max_connections: usize,
    /// How long requests may go on after shutdown began.
    pub drain_timeout: Duration,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            max_body_bytes: 32 << 20,
            body_budget_bytes: 256 << 20,
            read_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            max_connections: 4_096,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// The protocols of one node. A clone is another handle to the same gateway.
#[derive(Clone)]
pub struct Gateway {
    front: Arc<Front>,
}

/// What the handlers of every protocol see.
pub(crate) struct Shared {
    pub(crate) broker: Arc<Broker>,
    pub(crate) options: GatewayOptions,
    pub(crate) metrics: Metrics,
    pub(crate) bodies: Bodies,
    /// Cancelled when shutdown begins: streams that a client would keep open for ever end themselves.
    pub(crate) stopping: CancellationToken,
}

/// Who asks, as `system.queries` shows it: the protocol, and what the client calls itself.
pub(crate) fn client_name(protocol: &str, agent: Option<&str>) -> String {
    let agent: String = agent.unwrap_or_default().chars().take(60).collect();
    format!("{protocol} {agent}").trim_end().to_owned()
}

impl Shared {
    /// What the handlers of a node see that serves.
    pub(crate) fn new(broker: Arc<Broker>, options: GatewayOptions, stopping: CancellationToken) -> Self {
        let bodies = Bodies::new(
            options.max_body_bytes,
            options.body_budget_bytes.max(options.max_body_bytes),
            options.read_timeout,
        );
        Self { broker, metrics: Metrics::new(), bodies, stopping, options }
    }
}

impl Gateway {
    /// A gateway in front of `broker`.
    pub fn new(broker: Arc<Broker>, options: GatewayOptions) -> Self {
        Self { front: Front::open(broker, options) }
    }

    /// A gateway of a node that belongs to no cluster yet: it says so, and can be told to begin one. [`Gateway::open`] puts
    /// the broker behind it.
    pub fn waiting(waiting: Arc<dyn Waiting>, options: GatewayOptions) -> Self {
        Self { front: Front::waiting(waiting, options) }
    }

    /// The node is in a cluster: requests go to `broker` from now on, on connections that are open already, too.
    pub fn open(&self, broker: Arc<Broker>) {
        self.front.let_in(broker);
    }

    /// The gRPC services.
    pub fn grpc(&self) -> tonic::service::Routes {
        self.front.grpc().into()
    }

    /// The HTTP API.
    pub fn http(&self) -> axum::Router {
        self.front.http()
    }

    /// What the handlers see, once the node is in a cluster.
    pub(crate) fn shared(&self) -> Option<Arc<Shared>> {
        self.front.shared()
    }

    pub(crate) fn options(&self) -> &GatewayOptions {
        self.front.options()
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        self.front.stopping()
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("options", self.options()).finish_non_exhaustive()
    }
}
