//! Where nodes are: what the metadata says, what was heard since, and a copy on disk.
//!
//! A node that starts again needs the others before its metadata group has applied anything: who has which replica, and
//! where. That is what the file is for. It is a copy, so losing it costs no data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use prost::Message;
use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId, internal};
use stratalog_storage::{Io, OpenMode, write_durably};
use stratalog_transport::{AddressBook, Identity};
use tokio::sync::watch;
use uuid::Uuid;

use crate::meta::{ClusterView, view_of};

const BOOK_FILE: &str = "peers";
const MAGIC: &[u8; 8] = b"SLPEERS1";
/// Magic, and the CRC-32 of what follows.
const HEADER_BYTES: usize = 8 + 4;
/// A thousand nodes with a thousand shards take less.
const MAX_BOOK_BYTES: u64 = 16 << 20;

/// Replicas that are remembered beside the view. Who makes up more has others forgotten, which are met again.
const MAX_MET: usize = 4_096;

/// The address book of a node.
pub(crate) struct Book {
    view: watch::Sender<Arc<ClusterView>>,
    /// Addresses that nodes told themselves, where the view has others, or none.
    heard: RwLock<BTreeMap<NodeId, String>>,
    /// Where replicas are of which the view does not know yet: leaders that came by themselves.
    met: RwLock<BTreeMap<(ShardId, ReplicaId), NodeId>>,
}

impl Book {
    /// Nobody is known.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { view: watch::Sender::new(Arc::default()), heard: RwLock::default(), met: RwLock::default() })
    }

    /// The cluster as it was known last.
    pub(crate) fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&self.view.borrow())
    }

    /// Changes with the view.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.view.subscribe()
    }

    /// What the metadata says now; whether it is to be kept. An empty view, of a metadata group that has applied nothing yet,
    /// tells nothing, and after a start the metadata may be as it was when its state was saved: leaders that are known from
    /// the time since are found by what was known last.
    pub(crate) fn set_view(&self, view: Arc<ClusterView>) -> bool {
        let before = self.view();
        let is_older = before.cluster == view.cluster && view.next_replica < before.next_replica;
        if view.cluster.is_none() || is_older {
            return false;
        }
        let moved = |node: &NodeId| {
            let address = |view: &ClusterView| view.nodes.get(node).map(|view| view.peer_address.clone());
            address(&before) != address(&view)
        };
        self.heard.write().retain(|node, _| !moved(node));
        self.view.send_if_modified(|known| {
            let is_new = **known != *view;
            *known = view;
            is_new
        });
        true
    }

    /// Where a replica is, as far as anybody has said.
    pub(crate) fn node_of(&self, shard: ShardId, replica: ReplicaId) -> Option<NodeId> {
        let known = self.view().node_of(shard, replica);
        known.or_else(|| self.met.read().get(&(shard, replica)).copied())
    }

    /// A node of this cluster has a replica, and leads with it: one that joined while this node was away is asked what
    /// it has before the metadata, which comes from it, can say where it is.
    pub(crate) fn meet(&self, identity: &Identity, shard: ShardId, replica: ReplicaId) {
        let view = self.view();
        let is_stranger = view.cluster != identity.cluster || view.removed_nodes.contains(&identity.node);
        if is_stranger || view.node_of(shard, replica).is_some() {
            return;
        }
        let mut met = self.met.write();
        if met.len() >= MAX_MET {
            met.clear();
        }
        met.insert((shard, replica), identity.node);
        if !view.nodes.contains_key(&identity.node) && !identity.peer_address.is_empty() {
            self.heard.write().insert(identity.node, identity.peer_address.clone());
        }
    }

    /// What a node of this cluster said of itself: it may have moved before the metadata knows.
    pub(crate) fn hear(&self, identity: &Identity) {
        let view = self.view();
        let Some(known) = view.nodes.get(&identity.node).filter(|_| identity.cluster == view.cluster) else { return };
        let has_moved = known.incarnation == identity.incarnation && known.peer_address != identity.peer_address;
        if has_moved && !identity.peer_address.is_empty() {
            let is_new = self.heard.read().get(&identity.node) != Some(&identity.peer_address);
            if is_new {
                self.heard.write().insert(identity.node, identity.peer_address.clone());
            }
        } else if !self.heard.read().is_empty() {
            self.heard.write().remove(&identity.node);
        }
    }
}

impl AddressBook for Book {
    fn address(&self, node: NodeId) -> Option<String> {
        if let Some(heard) = self.heard.read().get(&node) {
            return Some(heard.clone());
        }
        let view = self.view.borrow();
        view.nodes.get(&node).map(|view| view.peer_address.clone()).filter(|address| !address.is_empty())
    }

    fn incarnation(&self, node: NodeId) -> Option<Uuid> {
        self.view.borrow().nodes.get(&node).map(|view| view.incarnation)
    }

    fn is_removed(&self, node: NodeId) -> bool {
        self.view.borrow().removed_nodes.contains(&node)
    }
}

/// The cluster as the file of a data directory has it; `None` without a file that can be read. Blocks.
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn read(io: &dyn Io, dir: &Path) -> Result<Option<Arc<ClusterView>>, Error> {
    let path = path(dir);
    let failed = |error: std::io::Error| Error::new(Code::Io, format!("{}: {error}", path.display()));
    if !io.exists(&path).map_err(failed)? {
        return Ok(None);
    }
    let file = io.open(&path, OpenMode::Read).map_err(failed)?;
    let len = file.len().map_err(failed)?;
    let bytes = if len <= MAX_BOOK_BYTES { file.view(0..len).map_err(failed)? } else { Bytes::new() };
    let view = decode(bytes);
    if view.is_none() {
        tracing::warn!(file = %path.display(), "the addresses of the other nodes cannot be read; they are learned again");
    }
    Ok(view)
}

/// Replaces the file. Blocks.
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn write(io: &dyn Io, dir: &Path, cluster: &internal::Cluster) -> Result<(), Error> {
    let path = path(dir);
    let (header, body) = encode(cluster);
    let failed = |error| Error::new(Code::Io, format!("{}: {error}", path.display()));
    write_durably(io, &path, &[&header, &body]).map_err(failed)
}

/// Removes the file, if it is there. Blocks.
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn remove(io: &dyn Io, dir: &Path) -> Result<(), Error> {
    let path = path(dir);
    let remove = || match io.exists(&path)? {
        true => io.remove(&path).and_then(|()| io.sync_dir(dir)),
        false => Ok(()),
    };
    remove().map_err(|error: std::io::Error| Error::new(Code::Io, format!("{}: {error}", path.display())))
}

fn path(dir: &Path) -> PathBuf {
    dir.join(BOOK_FILE)
}

fn encode(cluster: &internal::Cluster) -> ([u8; HEADER_BYTES], Vec<u8>) {
    let body = cluster.encode_to_vec();
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..].copy_from_slice(&crc32fast::hash(&body).to_le_bytes());
    (header, body)
}

fn decode(mut bytes: Bytes) -> Option<Arc<ClusterView>> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let header = bytes.split_to(HEADER_BYTES);
    let is_whole = header[..8] == *MAGIC && header[8..] == crc32fast::hash(&bytes).to_le_bytes();
    let cluster = is_whole.then(|| internal::Cluster::decode(bytes).ok()).flatten()?;
    view_of(cluster).ok()
}

#[cfg(test)]
mod tests {
    use stratalog_mutation::Decoder;
    use stratalog_storage::RealDisk;

    use super::*;

    /// What the file says, under a checksum that is right for it.
    const BOOK: Decoder = Decoder { name: "book", samples: books, run: read_book, words: &[], memory_bytes: 1 << 20 };

    fn books() -> Vec<Vec<u8>> {
        vec![encode(&cluster()).1]
    }

    fn read_book(body: &[u8]) -> bool {
        let checksum = crc32fast::hash(body).to_le_bytes();
        let _ = decode(Bytes::copy_from_slice(body));
        let Some(view) = decode([MAGIC, &checksum[..], body].concat().into()) else { return false };
        let book = Book::new();
        book.set_view(view.clone());
        for node in view.nodes.keys() {
            let _ = (book.address(*node), book.incarnation(*node), book.is_removed(*node));
        }
        true
    }

    #[test]
    fn x1_books_that_lie() {
        BOOK.check();
    }

    const CLUSTER: Uuid = Uuid::from_u128(7);

    fn cluster() -> internal::Cluster {
        let node = |node: u64| internal::Node {
            node,
            incarnation: Bytes::copy_from_slice(Uuid::from_u128(node.into()).as_bytes()),
            peer_address: format!("n{node}:7071"),
            state: 1,
            ..internal::Node::default()
        };
        let replica = |replica: u64| internal::Replica { replica, node: replica, role: 2 };
        internal::Cluster {
            cluster: Bytes::copy_from_slice(CLUSTER.as_bytes()),
            next_node: 3,
            next_replica: 3,
            replication: 3,
            nodes: vec![node(1), node(2)],
            placements: vec![internal::Placement { shard: 0, replication: 5, replicas: vec![replica(1), replica(2)] }],
            ..internal::Cluster::default()
        }
    }

    fn says(node: u64, address: &str) -> Identity {
        Identity {
            cluster: Some(CLUSTER),
            node: NodeId(node),
            incarnation: Uuid::from_u128(node.into()),
            version: String::new(),
            feature_level: 1,
            peer_address: address.to_owned(),
            grpc_address: String::new(),
            http_address: String::new(),
            kafka_address: String::new(),
            kafka_listeners: BTreeMap::new(),
            zone: String::new(),
        }
    }

    #[test]
    fn a_book_is_read_as_it_was_written_and_damage_is_no_book() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&RealDisk, dir.path()).unwrap(), None);
        write(&RealDisk, dir.path(), &cluster()).unwrap();
        assert_eq!(read(&RealDisk, dir.path()).unwrap(), Some(view_of(cluster()).unwrap()));
        let mut bytes = std::fs::read(path(dir.path())).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path(dir.path()), &bytes).unwrap();
        assert_eq!(read(&RealDisk, dir.path()).unwrap(), None);
        std::fs::write(path(dir.path()), b"SL").unwrap();
        assert_eq!(read(&RealDisk, dir.path()).unwrap(), None);
    }

    #[test]
    fn what_a_node_says_of_itself_counts_until_the_metadata_says_something_new() {
        let book = Book::new();
        book.set_view(view_of(cluster()).unwrap());
        book.hear(&says(2, "moved:1"));
        assert_eq!(book.address(NodeId(2)).as_deref(), Some("moved:1"));
        assert_eq!(book.address(NodeId(1)).as_deref(), Some("n1:7071"));
        let mut known = cluster();
        known.nodes[1].peer_address = "elsewhere:1".to_owned();
        book.set_view(view_of(known).unwrap());
        assert_eq!(book.address(NodeId(2)).as_deref(), Some("elsewhere:1"));
    }

    #[test]
    fn a_view_of_before_the_last_stop_takes_no_place() {
        let book = Book::new();
        let newer = internal::Cluster { next_replica: 4, ..cluster() };
        assert!(book.set_view(view_of(newer).unwrap()));
        assert!(!book.set_view(view_of(cluster()).unwrap()));
        assert_eq!(book.view().next_replica, 4);
        let other = internal::Cluster { cluster: Bytes::copy_from_slice(Uuid::from_u128(8).as_bytes()), ..cluster() };
        assert!(book.set_view(view_of(other).unwrap()), "another cluster begins anew");
    }

    #[test]
    fn a_leader_of_which_nothing_is_known_yet_is_found_where_it_came_from() {
        let (book, replica) = (Book::new(), ReplicaId(7));
        book.set_view(view_of(cluster()).unwrap());
        assert_eq!(book.node_of(ShardId(0), replica), None);
        book.meet(&Identity { cluster: None, ..says(4, "stranger:1") }, ShardId(0), replica);
        assert_eq!(book.node_of(ShardId(0), replica), None);
        book.meet(&says(4, "n4:7071"), ShardId(0), replica);
        assert_eq!(
            (book.node_of(ShardId(0), replica), book.address(NodeId(4))),
            (Some(NodeId(4)), Some("n4:7071".into()))
        );
        book.meet(&says(4, "n4:7071"), ShardId(0), ReplicaId(1));
        assert_eq!(book.node_of(ShardId(0), ReplicaId(1)), Some(NodeId(1)), "what the metadata says counts");
        for shard in 0..2 * MAX_MET as u32 {
            book.meet(&says(4, "n4:7071"), ShardId(shard), replica);
            assert!(book.met.read().len() <= MAX_MET, "X1");
        }
    }

    #[test]
    fn a_node_that_was_removed_is_told_from_one_that_is_not_known_yet() {
        let book = Book::new();
        let removed = internal::Cluster { next_node: 9, removed_nodes: vec![7], ..cluster() };
        book.set_view(view_of(removed).unwrap());
        assert!(book.is_removed(NodeId(7)));
        assert!(!book.is_removed(NodeId(2)) && !book.is_removed(NodeId(8)));
    }

    #[test]
    fn a_node_of_another_cluster_or_directory_is_not_believed() {
        let book = Book::new();
        book.set_view(view_of(cluster()).unwrap());
        book.hear(&Identity { incarnation: Uuid::nil(), ..says(2, "wiped:1") });
        book.hear(&Identity { cluster: None, ..says(2, "nobody:1") });
        book.hear(&says(9, "stranger:1"));
        assert_eq!(book.address(NodeId(2)).as_deref(), Some("n2:7071"));
        assert_eq!(book.address(NodeId(9)), None);
    }
}
