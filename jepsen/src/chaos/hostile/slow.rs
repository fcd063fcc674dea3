//! Connections that take what a node has of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A head of a request, of which a byte comes each second.
const HTTP: &[u8] = b"POST /v1/topics/jepsen/records HTTP/1.1\r\nhost: stratalog\r\nx-slow: ";
const GRPC: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const BYTE_EVERY: Duration = Duration::from_secs(1);
/// The backlog of a listener is short.
const AT_ONCE: usize = 100;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Connections that were opened; dropping it closes them.
pub(super) struct Crowd {
    pub(super) opened: usize,
    open: Vec<(String, Arc<AtomicUsize>)>,
    _connections: JoinSet<()>,
}

impl Crowd {
    /// Opens so many connections in all to these ports: one half idle, one half slow.
    pub(super) async fn begin(ports: &[(&'static str, String)], count: usize) -> Self {
        let mut crowd = Self { opened: 0, open: Vec::new(), _connections: JoinSet::new() };
        let each = count / ports.len() / 2;
        for (port, address) in ports {
            for is_slow in [false, true] {
                let open = Arc::new(AtomicUsize::new(0));
                let head = if !is_slow {
                    &[][..]
                } else if *port == "http" {
                    HTTP
                } else {
                    GRPC
                };
                crowd.open_all(address, each, head, &open).await;
                crowd.open.push((format!("{} {port}", if is_slow { "slow" } else { "idle" }), open));
            }
        }
        crowd
    }

    async fn open_all(&mut self, address: &str, count: usize, head: &'static [u8], open: &Arc<AtomicUsize>) {
        for start in (0..count).step_by(AT_ONCE) {
            let connecting = (start..count.min(start + AT_ONCE)).map(|_| {
                let connect = TcpStream::connect(address.to_owned());
                tokio::time::timeout(CONNECT_WITHIN, connect)
            });
            for connected in futures::future::join_all(connecting).await {
                let Ok(Ok(stream)) = connected else { continue };
                self.opened += 1;
                open.fetch_add(1, Ordering::SeqCst);
                let open = Arc::clone(open);
                self._connections.spawn(async move {
                    hold(stream, head).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        }
    }

    /// How many the node has not closed, by what they do; none of those that are closed.
    pub(super) fn still_open(&self) -> Vec<(String, usize)> {
        let open = self.open.iter().map(|(what, open)| (what.clone(), open.load(Ordering::SeqCst)));
        open.filter(|(_, count)| *count > 0).collect()
    }
}

/// Sends a head byte by byte, then nothing, until the other side ends it.
async fn hold(mut stream: TcpStream, head: &[u8]) {
    let mut rest = head.iter();
    let mut answer = [0; 256];
    loop {
        tokio::select! {
            read = stream.read(&mut answer) => if matches!(read, Ok(0) | Err(_)) { return },
            () = tokio::time::sleep(BYTE_EVERY), if !rest.as_slice().is_empty() => {
                let Some(byte) = rest.next() else { continue };
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        }
    }
}
