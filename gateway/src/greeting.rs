//! Connections of gRPC that do not begin: whoever connects has to say so in time, or the connection ends. HTTP/1.1 has such a
//! deadline for each head; HTTP/2 looks after its connections with pings, but only once they have begun.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// What every connection of HTTP/2 begins with: `PRI * HTTP/2.0`, `SM`, and line ends.
const PREFACE_BYTES: usize = 24;

/// A connection that fails if its preface is not there in time.
pub(crate) struct Greeted {
    stream: TcpStream,
    /// What is left of the preface, and when it has to be there; `None` once it is.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Greeted {
    /// To be made within a runtime.
    pub(crate) fn new(stream: TcpStream, within: Duration) -> Self {
        Self { stream, greeting: Some((PREFACE_BYTES, Box::pin(tokio::time::sleep(within)))) }
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
        let came = into.filled().len() - before;
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
        (client.unwrap(), Greeted::new(accepted.unwrap().0, within))
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
