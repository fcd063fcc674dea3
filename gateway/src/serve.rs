//! The listeners: connections are counted, slow heads are cut off, and shutdown is bounded.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::Gateway;
use crate::greeting::{Greeted, Port};

/// Streams that one gRPC connection may have open.
const MAX_GRPC_STREAMS: u32 = 1_024;
/// HTTP/2 flow-control windows: large enough that a batch of produce needs no round trip in its middle.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// HTTP/2 frames that a client may send: each costs a buffer and a turn of the connection, so a batch comes in a few.
const FRAME_BYTES: u32 = 256 << 10;
/// A peer that answers no ping for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long accepting pauses after the operating system refused, say for want of file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves gRPC on `listener` until `shutdown` resolves, then at most the drain timeout longer.
///
/// # Errors
/// Those of the listener.
pub async fn serve_grpc(
    gateway: Gateway,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let stopping = gateway.stopping().clone();
    let begun = stopping.clone();
    let signal = async move {
        shutdown.await;
        begun.cancel();
    };
    let (within, port) = (gateway.options().read_timeout, Port::new("gRPC", &gateway));
    let greeted = move |stream| without_delay(stream).map(|stream| Greeted::new(stream, Arc::clone(&port), within));
    let server = Server::builder()
        .max_concurrent_streams(MAX_GRPC_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_routes(gateway.grpc())
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener).map(greeted), signal);
    tokio::select! {
        served = server => served.map_err(io::Error::other),
        () = drained(&gateway) => Ok(()),
    }
}

/// Serves HTTP/1.1 on `listener` until `shutdown` resolves, then at most the drain timeout longer.
///
/// # Errors
/// None today; a listener that refuses is tried again.
pub async fn serve_http(
    gateway: Gateway,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let connections = HttpConnections::new(&gateway);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let slot = tokio::select! {
            slot = connections.slot() => slot,
            () = &mut shutdown => break,
        };
        tokio::select! {
            accepted = listener.accept() => match accepted.and_then(|(stream, _)| without_delay(Ok(stream))) {
                Ok(stream) => connections.serve(stream, slot),
                Err(error) => {
                    tracing::warn!(%error, "an HTTP connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = &mut shutdown => break,
        }
    }
    drop(listener);
    gateway.stopping().cancel();
    tokio::select! {
        () = connections.graceful.shutdown() => {}
        () = drained(&gateway) => {}
    }
    Ok(())
}

struct HttpConnections {
    service: axum::Router,
    builder: Builder<TokioExecutor>,
    slots: Arc<Semaphore>,
    port: Arc<Port>,
    graceful: GracefulShutdown,
}

impl HttpConnections {
    fn new(gateway: &Gateway) -> Self {
        // HTTP/1.1 only: the probe for HTTP/2 would wait for the first bytes without a deadline.
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        builder.http1().timer(TokioTimer::new()).header_read_timeout(gateway.options().read_timeout);
        Self {
            service: gateway.http(),
            builder,
            slots: Arc::new(Semaphore::new(gateway.options().max_connections)),
            port: Port::new("HTTP", gateway),
            graceful: GracefulShutdown::new(),
        }
    }

    /// Room for one more connection; those beyond the limit wait in the listener's backlog.
    async fn slot(&self) -> OwnedSemaphorePermit {
        self.slots.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    fn serve(&self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let service = TowerToHyperService::new(self.service.clone());
        let stream = TokioIo::new(Greeted::at_leisure(stream, Arc::clone(&self.port)));
        let connection = self.builder.serve_connection(stream, service).into_owned();
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "an HTTP connection ended early");
            }
            drop(slot);
        });
    }
}

/// Resolves when shutdown began and the drain timeout has passed since.
pub(crate) async fn drained(gateway: &Gateway) {
    gateway.stopping().cancelled().await;
    tokio::time::sleep(gateway.options().drain_timeout).await;
    tracing::warn!("requests were still running at the end of the drain timeout; their connections are closed");
}

fn without_delay(stream: io::Result<TcpStream>) -> io::Result<TcpStream> {
    let stream = stream?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
