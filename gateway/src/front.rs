//! What answers requests: first, perhaps, a node that waits for a cluster; then, and for good, the broker.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use stratalog_broker::Broker;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service as _;

use crate::gateway::{GatewayOptions, Shared};
use crate::waiting::{Waiting, WaitingNode};
use crate::{grpc, http};

/// The doors of a node.
pub(crate) struct Front {
    options: GatewayOptions,
    stopping: CancellationToken,
    behind: watch::Sender<Behind>,
}

/// What is behind the doors.
#[derive(Clone)]
struct Behind {
    grpc: Router,
    http: Router,
    /// `None` while the node waits for a cluster.
    shared: Option<Arc<Shared>>,
}

impl Behind {
    fn broker(broker: Arc<Broker>, options: &GatewayOptions, stopping: &CancellationToken) -> Self {
        let shared = Arc::new(Shared::new(broker, options.clone(), stopping.clone()));
        Self { grpc: grpc::routes(&shared).into_axum_router(), http: http::router(&shared), shared: Some(shared) }
    }
}

impl Front {
    pub(crate) fn open(broker: Arc<Broker>, options: GatewayOptions) -> Arc<Self> {
        let stopping = CancellationToken::new();
        let behind = watch::Sender::new(Behind::broker(broker, &options, &stopping));
        Arc::new(Self { options, stopping, behind })
    }

    pub(crate) fn waiting(waiting: Arc<dyn Waiting>, options: GatewayOptions) -> Arc<Self> {
        Arc::new_cyclic(|front| {
            let node = WaitingNode::new(waiting, front.clone());
            let behind = Behind { grpc: grpc::waiting(&node), http: http::waiting(&node), shared: None };
            Self { options, stopping: CancellationToken::new(), behind: watch::Sender::new(behind) }
        })
    }

    /// Puts the broker behind the doors.
    pub(crate) fn let_in(&self, broker: Arc<Broker>) {
        self.behind.send_replace(Behind::broker(broker, &self.options, &self.stopping));
    }

    /// The broker, once there is one; `None` if the node ends before.
    pub(crate) async fn broker(&self) -> Option<Arc<Broker>> {
        let mut behind = self.behind.subscribe();
        tokio::select! {
            () = self.stopping.cancelled() => None,
            found = behind.wait_for(|behind| behind.shared.is_some()) => {
                found.ok()?.shared.as_ref().map(|shared| Arc::clone(&shared.broker))
            }
        }
    }

    /// What the handlers of a node see, if it serves.
    pub(crate) fn shared(&self) -> Option<Arc<Shared>> {
        self.behind.borrow().shared.clone()
    }

    pub(crate) fn grpc(self: &Arc<Self>) -> Router {
        self.door(|behind| behind.grpc.clone())
    }

    pub(crate) fn http(self: &Arc<Self>) -> Router {
        self.door(|behind| behind.http.clone())
    }

    /// Hands each request to what is behind the door at that moment.
    fn door(self: &Arc<Self>, which: fn(&Behind) -> Router) -> Router {
        let front = Arc::clone(self);
        Router::new().fallback(move |request: Request| {
            let mut router = which(&front.behind.borrow());
            async move {
                let answered: Result<Response, Infallible> = router.call(request).await;
                answered.unwrap_or_else(|never| match never {})
            }
        })
    }

    pub(crate) fn options(&self) -> &GatewayOptions {
        &self.options
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
}
