//! The listener for other nodes.

mod answer;
mod connection;
mod door;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::dial::{Links, unguarded};
use crate::quiet::Quiet;
use crate::{AddressBook, PeerService};
use door::Door;

/// After the system refused a connection, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections of a listener share.
pub(crate) struct Server {
    links: Arc<Links>,
    book: Arc<dyn AddressBook>,
    service: Arc<dyn PeerService>,
    /// Who is in the handshake: strangers cannot take the place of nodes.
    door: Arc<Door>,
    stopping: CancellationToken,
    quiet: Quiet,
}

impl Server {
    pub(crate) fn new(links: Arc<Links>, book: Arc<dyn AddressBook>, service: Arc<dyn PeerService>) -> Arc<Self> {
        let options = &links.dialer().options;
        let door = Door::new(options.max_handshakes, options.max_handshakes_of_one);
        Arc::new(Self { links, book, service, door, stopping: CancellationToken::new(), quiet: Quiet::default() })
    }

    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let address = listener.local_addr()?;
        if !self.links.dialer().options.guards() && !address.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, unguarded(&address.to_string())));
        }
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((tcp, from)) => self.begin(&mut connections, tcp, from),
                    Err(error) => self.refused_by_system(&error).await,
                },
            }
        }
        drop(listener);
        self.stopping.cancel();
        while connections.join_next().await.is_some() {}
        Ok(())
    }

    /// A connection in a task of its own, if there is room for it.
    fn begin(self: &Arc<Self>, connections: &mut JoinSet<()>, tcp: TcpStream, from: SocketAddr) {
        let most = self.links.dialer().options.max_connections;
        if connections.len() >= most {
            self.tell(from, &format!("there are {most} connections already"));
            return;
        }
        match self.door.enter(from.ip()) {
            Ok(entered) => drop(connections.spawn(self.clone().connection(tcp, from, entered))),
            Err(why) => self.tell(from, why),
        }
    }

    async fn refused_by_system(&self, error: &io::Error) {
        if self.quiet.may_tell("accept", Instant::now()) {
            tracing::warn!("a connection of another node could not be accepted: {error}");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    /// Says why a connection was not taken.
    fn tell(&self, from: SocketAddr, why: &str) {
        if self.quiet.may_tell(&from.ip().to_string(), Instant::now()) {
            tracing::warn!(%from, "a connection to the port for other nodes was refused: {why}");
        }
    }
}
