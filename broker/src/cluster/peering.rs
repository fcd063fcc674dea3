//! The listener for other nodes, from before this one belongs to a cluster until it stops.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use stratalog_proto::{Code, Error, FEATURE_LEVEL, NodeId};
use stratalog_transport::{Frame, Frames, Identity, Method, Peer, PeerService, Transport};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{Book, ClusterOptions};
use crate::identity;

/// The connections of a node, and who answers at its end of them.
pub(crate) struct Peering {
    transport: Arc<Transport>,
    desk: Arc<Desk>,
    /// What this node says of itself, but for the cluster.
    me: Identity,
    serving: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    _stop_when_dropped: DropGuard,
}

impl Peering {
    /// Listens; `None` if the settings say nowhere.
    ///
    /// # Errors
    /// [`Code::Io`] if the address is taken; [`Code::InvalidConfig`]: nobody could reach this node there, or strangers could.
    pub(crate) async fn start(
        options: &ClusterOptions,
        book: &Arc<Book>,
        incarnation: Uuid,
    ) -> Result<Option<Arc<Self>>, Error> {
        let Some(listen) = &options.listen else { return Ok(None) };
        let failed = |error| Error::new(Code::Io, format!("cannot listen to other nodes at {listen}: {error}"));
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        if !bound.ip().is_loopback() && !options.transport.guards() {
            let message = format!(
                "other nodes would be listened to at {bound} without a secret and without TLS, and anybody could be one: \
                 set `cluster.secret_file` or `cluster.tls`, or listen to 127.0.0.1"
            );
            return Err(Error::new(Code::InvalidConfig, message));
        }
        let peer_address = match (options.advertise.as_str(), bound.ip().is_unspecified()) {
            ("", true) => {
                let message =
                    format!("{bound} is no address that other nodes could reach: set `cluster.advertise` to one");
                return Err(Error::new(Code::InvalidConfig, message));
            }
            ("", false) => bound.to_string(),
            (advertised, _) => advertised.to_owned(),
        };
        let me = who(options, peer_address, incarnation);
        let transport = Transport::new(me.clone(), Arc::clone(book) as _, options.transport.clone())?;
        let desk = Arc::new(Desk { on_duty: RwLock::default(), book: Arc::clone(book) });
        let stop = CancellationToken::new();
        let serve = Arc::clone(&transport).serve(listener, Arc::clone(&desk) as _, stop.clone().cancelled_owned());
        let serving = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "other nodes are not listened to any more");
            }
        });
        let _stop_when_dropped = stop.clone().drop_guard();
        let serving = Mutex::new(Some(serving));
        Ok(Some(Arc::new(Self { transport, desk, me, serving, stop, _stop_when_dropped })))
    }

    /// The connections.
    pub(crate) fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    /// What this node says of itself, as long as it belongs to no cluster.
    pub(crate) fn me(&self) -> &Identity {
        &self.me
    }

    /// The node belongs to a cluster from now on.
    pub(crate) fn identify(&self, identity: &identity::Identity) {
        let (cluster, node) = (Some(identity.cluster), identity.node);
        self.transport.identify(Identity { cluster, node, incarnation: identity.incarnation, ..self.me.clone() });
    }

    /// Has `service` answer from now on.
    pub(crate) fn answer_with(&self, service: Arc<dyn PeerService>) {
        *self.desk.on_duty.write() = Some(service);
    }

    /// Stops listening, and waits until that is so.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let serving = self.serving.lock().take();
        if let Some(serving) = serving
            && let Err(error) = serving.await
        {
            tracing::error!(%error, "the listener for other nodes did not end cleanly");
        }
        *self.desk.on_duty.write() = None;
    }
}

/// What a node says of itself as long as it belongs to no cluster.
pub(crate) fn who(options: &ClusterOptions, peer_address: String, incarnation: Uuid) -> Identity {
    Identity {
        cluster: None,
        node: NodeId(0),
        incarnation,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        feature_level: FEATURE_LEVEL,
        peer_address,
        grpc_address: options.grpc_address.clone(),
        http_address: options.http_address.clone(),
        kafka_address: options.kafka_address.clone(),
        kafka_listeners: options.kafka_listeners.clone(),
        zone: options.zone.clone(),
    }
}

/// Passes what others ask to whoever answers at the moment.
struct Desk {
    on_duty: RwLock<Option<Arc<dyn PeerService>>>,
    book: Arc<Book>,
}

impl Desk {
    fn on_duty(&self) -> Result<Arc<dyn PeerService>, Error> {
        let nobody = || Error::new(Code::Unavailable, "the node is starting, or stopping");
        self.on_duty.read().clone().ok_or_else(nobody)
    }
}

#[async_trait]
impl PeerService for Desk {
    async fn call(&self, from: Peer, method: Method, frame: Frame) -> Result<Frame, Error> {
        // Heartbeats come often enough for what a node says of itself, and nothing that is fast waits for this.
        if method == Method::RaftAsk {
            self.book.hear(&from.identity);
        }
        match method {
            // Who this node is was said when the connection was made.
            Method::Hello => Ok(Frame::default()),
            _ => self.on_duty()?.call(from, method, frame).await,
        }
    }

    async fn stream(&self, from: Peer, method: Method, frames: Frames) -> Result<Frames, Error> {
        self.on_duty()?.stream(from, method, frames).await
    }
}
