//! What connections begin with.
//!
//! One of gRPC that does not begin ends: whoever connects has to say so in time. HTTP/1.1 has such a deadline for each head;
//! HTTP/2 looks after its connections with pings, but only once they have begun.
//!
//! A Kafka client at the port of another protocol is disconnected, and told of in the log. It takes any answer for the length
//! of one, and tells its user to make room for a response of 1.2 GB, which is how it reads `HTTP`.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::Gateway;

/// What every connection of HTTP/2 begins with: `PRI * HTTP/2.0`, `SM`, and line ends.
const PREFACE_BYTES: usize = 24;

/// A port, and whether its log knows already that Kafka clients come to it.
pub(crate) struct Port {
    name: &'static str,
    gateway: Gateway,
    told: AtomicBool,
}

impl Port {
    pub(crate) fn new(name: &'static str, gateway: &Gateway) -> Arc<Self> {
        Arc::new(Self { name, gateway: gateway.clone(), told: AtomicBool::new(false) })
    }

    /// Says it once: they come again and again.
    fn tell_of_kafka(&self, peer: Option<SocketAddr>) {
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        let peer = peer.map(tracing::field::display);
        let theirs = match self.gateway.shared() {
            Some(shared) => theirs(shared.broker.layout().kafka_addresses().first().map(|(_, address)| *address)),
            None => "theirs is another one, once the node belongs to a cluster".to_owned(),
        };
        tracing::warn!(peer, "a Kafka client came to the {} port, and was disconnected: {theirs}", self.name);
    }
}

/// Where Kafka clients go, in words.
fn theirs(address: Option<&str>) -> String {
    match address {
        Some(address) => format!("bootstrap.servers is {address} here"),
        None => "this node has no port for them (kafka.listen)".to_owned(),
    }
}

/// Whether these are the first bytes of a request of Kafka's, as far as they have come: a length, which is below 64 KiB for
/// what a client begins with, and a kind, which is a small number. What begins HTTP, of any version, has no zero in it.
fn is_kafka(first: &[u8]) -> bool {
    matches!(first, [0, 0, _, _] | [0, 0, _, _, 0] | [0, 0, _, _, 0, 0..=127, ..])
}

/// A connection that fails if a Kafka client has made it, or if its preface is not there in time.
pub(crate) struct Greeted {
    stream: TcpStream,
    /// `None` once something has come.
    port: Option<Arc<Port>>,
    /// What is left of the preface, and when it has to be there; `None` once it is.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Greeted {
    /// One of HTTP/2, that has to begin within this time. To be made within a runtime.
    pub(crate) fn new(stream: TcpStream, port: Arc<Port>, within: Duration) -> Self {
        let greeting = Some((PREFACE_BYTES, Box::pin(tokio::time::sleep(within))));
        Self { stream, port: Some(port), greeting }
    }

    /// One of a protocol that has deadlines of its own.
    pub(crate) fn at_leisure(stream: TcpStream, port: Arc<Port>) -> Self {
        Self { stream, port: Some(port), greeting: None }
    }
}

impl AsyncRead for Greeted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, into) {
            Poll::Ready(read) => read?,
            Poll::Pending => {
                let Some((_, deadline)) = &mut this.greeting else { return Poll::Pending };
                ready!(deadline.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        let first = &into.filled()[before..];
        if let Some(port) = this.port.take_if(|_| !first.is_empty())
            && is_kafka(first)
        {
            port.tell_of_kafka(this.stream.peer_addr().ok());
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let came = first.len();
        this.greeting = this.greeting.take().filter(|(left, _)| came < *left).map(|(left, until)| (left - came, until));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Connected for Greeted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);

    async fn pair(within: Duration) -> (TcpStream, Greeted) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(connecting, listener.accept());
        let greeting = Some((PREFACE_BYTES, Box::pin(tokio::time::sleep(within))));
        (client.unwrap(), Greeted { stream: accepted.unwrap().0, port: None, greeting })
    }

    #[test]
    fn kafka_clients_are_told_from_those_of_http() {
        // ApiVersions, Metadata, SaslHandshake.
        for begins in [[0, 0, 0, 0x2d, 0, 18], [0, 0, 1, 0, 0, 3], [0, 0, 0, 0x1c, 0, 17]] {
            assert!(is_kafka(&[&begins[..], &[0, 3, 0, 0, 0, 1]].concat()));
        }
        assert!(is_kafka(&[0, 0, 0, 0x2d]), "the rest is on its way");
        for other in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0", &[0x16, 3, 1, 2, 0, 1], &[0, 0, 0, 9, 0xff], b""] {
            assert!(!is_kafka(other), "{other:?}");
        }
    }

    #[test]
    fn kafka_clients_are_told_where_to_go() {
        assert_eq!(theirs(Some("node1:9092")), "bootstrap.servers is node1:9092 here");
        assert!(theirs(None).contains("kafka.listen"));
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_or_too_little_ends() {
        for said in [&b""[..], b"PRI * HTTP/2.0"] {
            let (mut client, mut greeted) = pair(MOMENT).await;
            client.write_all(said).await.unwrap();
            let mut read = Vec::new();
            assert_eq!(greeted.read_to_end(&mut read).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(read, said);
        }
    }

    #[tokio::test]
    async fn a_connection_that_has_begun_may_be_quiet() {
        let (mut client, mut greeted) = pair(MOMENT).await;
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        greeted.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        tokio::time::sleep(2 * MOMENT).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(greeted.read_u8().await.unwrap(), b'x');
    }
}
