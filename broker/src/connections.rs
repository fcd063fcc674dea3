//! The connections of clients that stay open from request to request. `system.connections` shows them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use stratalog_query::ConnectionInfo;

/// What is kept of what a client says of itself, in characters.
const MAX_NAME_CHARS: usize = 100;

/// All of a node. Each listener bounds its own.
#[derive(Debug, Default)]
pub struct Connections {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Known>>>,
}

/// What is known of a connection.
#[derive(Debug)]
struct Known {
    listener: &'static str,
    client: SocketAddr,
    since_ns: i64,
    names: Mutex<Names>,
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

#[derive(Debug, Default)]
struct Names {
    client_id: String,
    software: String,
    software_version: String,
}

/// A connection that is open until this is dropped.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    known: Arc<Known>,
    all: Arc<Connections>,
}

impl Connections {
    /// A client has connected.
    pub fn open(self: &Arc<Self>, listener: &'static str, client: SocketAddr) -> Connection {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let known = Arc::new(Known {
            listener,
            client,
            since_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            names: Mutex::default(),
            requests: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(number, Arc::clone(&known));
        Connection { number, known, all: Arc::clone(self) }
    }

    /// The oldest first.
    pub(crate) fn list(&self) -> Vec<ConnectionInfo> {
        let open: Vec<_> = self.open.lock().values().cloned().collect();
        open.iter().map(|known| known.info()).collect()
    }
}

impl Known {
    fn info(&self) -> ConnectionInfo {
        let names = self.names.lock();
        ConnectionInfo {
            listener: self.listener.to_owned(),
            client: self.client.to_string(),
            client_id: names.client_id.clone(),
            software: names.software.clone(),
            software_version: names.software_version.clone(),
            since_ns: self.since_ns,
            requests: self.requests.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}

impl Connection {
    /// What the client calls itself, which it may say with each request.
    pub fn called(&self, client_id: &str) {
        let mut names = self.known.names.lock();
        if !is_cut_of(&names.client_id, client_id) {
            names.client_id = cut(client_id);
        }
    }

    /// The library that the client is, and its version.
    pub fn made_by(&self, software: &str, version: &str) {
        let mut names = self.known.names.lock();
        (names.software, names.software_version) = (cut(software), cut(version));
    }

    /// A request was answered.
    pub fn answered(&self, bytes_in: usize, bytes_out: usize) {
        self.known.requests.fetch_add(1, Ordering::Relaxed);
        self.known.bytes_in.fetch_add(bytes_in as u64, Ordering::Relaxed);
        self.known.bytes_out.fetch_add(bytes_out as u64, Ordering::Relaxed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.open.lock().remove(&self.number);
    }
}

fn cut(name: &str) -> String {
    name.chars().take(MAX_NAME_CHARS).collect()
}

fn is_cut_of(kept: &str, name: &str) -> bool {
    name.strip_prefix(kept).is_some_and(|rest| rest.is_empty() || kept.chars().count() == MAX_NAME_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_shown_while_they_are_open_and_names_are_bounded() {
        let connections = Arc::new(Connections::default());
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let (first, second) = (connections.open("kafka", peer), connections.open("kafka", peer));
        let long = "ü".repeat(MAX_NAME_CHARS + 7);
        for name in ["a", "ab", "a", &long, &long] {
            first.called(name);
        }
        first.made_by("librdkafka", "2.12.0");
        first.answered(10, 20);
        first.answered(1, 2);
        let shown = connections.list();
        assert_eq!((shown.len(), shown[0].client_id.chars().count()), (2, MAX_NAME_CHARS));
        assert_eq!((shown[0].requests, shown[0].bytes_in, shown[0].bytes_out), (2, 11, 22));
        assert_eq!((shown[0].software.as_str(), shown[0].software_version.as_str()), ("librdkafka", "2.12.0"));
        second.called("b");
        drop(first);
        second.called("");
        let shown = connections.list();
        assert_eq!((shown.len(), shown[0].client_id.as_str()), (1, ""));
    }
}
