//! A node from its start until it belongs to a cluster: it begins one, is let into one, or already is in one.
//!
//! The order of what is written makes every crash harmless: the incarnation first, so that each try to join is that of one
//! node; then what the cluster answered, and the log; the identity last, and from then on the node is a member. The
//! incarnation is removed then: a directory that is emptied later never comes back as this node.

mod beginning;
mod desk;
mod seeds;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId, internal};
use stratalog_storage::Lane;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::peering::Peering;
use super::{Book, book};
use crate::broker::Broker;
use crate::identity::{self, DirLock, Identity, Mark};
use crate::meta::view_of;
use crate::options::BrokerOptions;
use beginning::Beginning;
use desk::Desk;
use seeds::ask_seeds;

/// The most addresses that are asked.
const MAX_SEEDS: usize = 64;
/// The longest address.
const MAX_ADDRESS_BYTES: usize = 256;
/// The metadata group.
const META: ShardId = ShardId(0);

/// A node that may not belong to a cluster yet. Its listener for other nodes is open.
///
/// ```no_run
/// # async fn example() -> Result<(), stratalog_proto::Error> {
/// use stratalog_broker::{BrokerOptions, ClusterOptions, Forming};
///
/// let listen = Some("127.0.0.1:7071".to_owned());
/// let join = vec!["127.0.0.1:7171".to_owned(), "127.0.0.1:7271".to_owned()];
/// let cluster = ClusterOptions { listen, join, ..ClusterOptions::default() };
/// let forming = Forming::start(BrokerOptions { cluster, ..BrokerOptions::new("/var/lib/stratalog") }).await?;
/// // Elsewhere, once, when an operator says so: forming.init(4, 3, false).await?;
/// let broker = forming.formed().await?;
/// # Ok(())
/// # }
/// ```
pub struct Forming {
    options: BrokerOptions,
    lock: Arc<DirLock>,
    book: Arc<Book>,
    peering: Option<Arc<Peering>>,
    incarnation: Uuid,
    /// Who is asked, host:port each.
    seeds: Mutex<BTreeSet<String>>,
    /// Wakes the task that asks them.
    ask: Notify,
    /// Why the node belongs to no cluster yet.
    problem: Mutex<Option<String>>,
    /// Who is about to begin a cluster.
    beginning: Beginning,
    /// Held while it is decided to which cluster the node belongs, for ever.
    deciding: tokio::sync::Mutex<()>,
    formed: watch::Sender<Option<Identity>>,
    /// The broker was started, and has all of this.
    is_taken: AtomicBool,
    _stop_asking: DropGuard,
}

/// What a broker is made of: a locked directory of a cluster's node, and its connections.
pub(crate) struct Ground {
    pub(crate) options: BrokerOptions,
    pub(crate) identity: Identity,
    pub(crate) lock: Arc<DirLock>,
    pub(crate) book: Arc<Book>,
    pub(crate) peering: Option<Arc<Peering>>,
}

/// What is read of a directory before anything else.
struct Opened {
    lock: DirLock,
    identity: Option<Identity>,
    incarnation: Uuid,
}

impl Forming {
    /// Locks the data directory, listens to other nodes, and begins to ask those that it is to join, if it is to join any. A
    /// directory that belongs to no cluster, and is to join none, begins its own at once.
    ///
    /// # Errors
    /// [`Code::Unavailable`], naming the directory, if another process uses it; [`Code::CorruptData`];
    /// [`Code::InvalidConfig`]; [`Code::Io`].
    pub async fn start(options: BrokerOptions) -> Result<Arc<Self>, Error> {
        let seeds = seeds_of(&options)?;
        let read = options.clone();
        let Opened { lock, identity, incarnation } = blocking(move || open(&read)).await?;
        let book = Book::new();
        let peering = Peering::start(&options.cluster, &book, incarnation).await?;
        let stop = CancellationToken::new();
        let forming = Arc::new(Self {
            options,
            lock: Arc::new(lock),
            book,
            peering,
            incarnation,
            seeds: Mutex::new(seeds),
            ask: Notify::new(),
            problem: Mutex::default(),
            beginning: Beginning::new(incarnation),
            deciding: tokio::sync::Mutex::default(),
            formed: watch::Sender::new(identity),
            is_taken: AtomicBool::new(false),
            _stop_asking: stop.clone().drop_guard(),
        });
        match &forming.peering {
            Some(peering) if !forming.is_formed() => {
                peering.answer_with(Arc::new(Desk::new(&forming)));
                tokio::spawn(stop.run_until_cancelled_owned(ask_seeds(Arc::downgrade(&forming))));
            }
            _ => {}
        }
        Ok(forming)
    }

    /// Whether the node belongs to a cluster.
    pub fn is_formed(&self) -> bool {
        self.formed.borrow().is_some()
    }

    /// Why the node belongs to no cluster yet, in a sentence; `None` while nothing is known, or if it does belong to one.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone().filter(|_| !self.is_formed())
    }

    /// Where other nodes reach this one, host:port; `None`: nowhere.
    pub fn peer_address(&self) -> Option<&str> {
        self.peering.as_ref().map(|peering| peering.me().peer_address.as_str())
    }

    /// Begins a cluster with this node: with so many shards, 0 for as many as the settings say, and so many voters a shard
    /// once there are as many nodes, 0 for as many as the settings say. `alone`: also while nodes that it is to join do not
    /// answer.
    ///
    /// # Errors
    /// [`Code::WrongCluster`] if this node, or one that it is to join, belongs to a cluster already; [`Code::Conflict`] if one
    /// that it is to join does not answer, and may belong to one, or is about to begin one itself; [`Code::InvalidConfig`];
    /// [`Code::Io`].
    pub async fn init(&self, shards: u32, replication: u32, alone: bool) -> Result<(), Error> {
        let _one = self.deciding.lock().await;
        if let Some(identity) = &*self.formed.borrow() {
            return Err(belongs_already(identity));
        }
        let claim = self.beginning.claim(Instant::now())?;
        seeds::check_no_cluster(self, alone).await?;
        claim.decide()?;
        self.begin(shards, replication).await
    }

    /// Waits until the node belongs to a cluster, and starts its broker. Once.
    ///
    /// # Errors
    /// Those of [`Broker::start`].
    pub async fn formed(&self) -> Result<Arc<Broker>, Error> {
        let mut formed = self.formed.subscribe();
        let ended = |_| Error::new(Code::Internal, "the node stopped to wait for a cluster");
        let identity = formed.wait_for(Option::is_some).await.map_err(ended)?.clone();
        let identity = identity.ok_or_else(|| Error::new(Code::Internal, "a node that is formed has an identity"))?;
        if self.is_taken.swap(true, Ordering::SeqCst) {
            return Err(Error::new(Code::Internal, "the broker of this node was started already"));
        }
        Broker::open(Ground {
            options: self.options.clone(),
            identity,
            lock: Arc::clone(&self.lock),
            book: Arc::clone(&self.book),
            peering: self.peering.clone(),
        })
        .await
    }

    /// Another node without a cluster, which is reached at an address, is about to begin one. This node asks it from then on:
    /// it joins that cluster, and begins none beside it, however long the other one takes.
    ///
    /// # Errors
    /// [`Code::WrongCluster`]: this one belongs to one by now; [`Code::Conflict`]: this one, or another, was faster;
    /// [`Code::InvalidConfig`], [`Code::InvalidRequest`]: its address is none, or one too many.
    fn let_begin(&self, other: Uuid, address: &str) -> Result<(), Error> {
        if let Some(identity) = &*self.formed.borrow() {
            return Err(belongs_already(identity));
        }
        self.add_seeds(&[address.to_owned()])?;
        self.beginning.allow(other, Instant::now())
    }

    /// Gives the directory the identity of a new cluster's first node. `deciding` is held.
    async fn begin(&self, shards: u32, replication: u32) -> Result<(), Error> {
        let or = |asked: u32, default: u32| if asked == 0 { default } else { asked };
        let identity = Identity {
            cluster: Uuid::now_v7(),
            node: NodeId(self.options.cluster.node_id.0.max(1)),
            incarnation: self.incarnation,
            shards: or(shards, self.options.shards),
            replication: or(replication, self.options.cluster.replication),
            joined: false,
        };
        self.decide(identity, None).await
    }

    /// Makes durable what a cluster answered to this node. `deciding` is held.
    async fn join(&self, answer: internal::JoinAnswer) -> Result<(), Error> {
        let contradiction =
            |what: &str| Error::new(Code::InvalidRequest, format!("the answer contradicts itself: {what}"));
        let cluster = answer.cluster.ok_or_else(|| contradiction("it names no cluster"))?;
        let (node, replica) = (NodeId(answer.node), ReplicaId(answer.meta_replica));
        let view = view_of(cluster.clone())?;
        let id = view.cluster.ok_or_else(|| contradiction("it names no cluster"))?;
        if view.nodes.get(&node).is_none_or(|known| known.incarnation != self.incarnation) {
            return Err(contradiction(&format!("node {node} is another one")));
        }
        if view.replica_on(META, node) != Some(replica) {
            return Err(contradiction(&format!("node {node} has no replica {replica} of the metadata")));
        }
        let (shards, replication) = (answer.shards, view.replication);
        let incarnation = self.incarnation;
        let identity = Identity { cluster: id, node, incarnation, shards, replication, joined: true };
        self.decide(identity, Some((cluster, replica))).await
    }

    async fn decide(&self, identity: Identity, joined: Option<(internal::Cluster, ReplicaId)>) -> Result<(), Error> {
        let (options, written) = (self.options.clone(), identity.clone());
        blocking(move || {
            if let Some((cluster, replica)) = joined {
                let (io, dir) = (&*options.disk, &*options.data_dir);
                book::write(io, dir, &cluster)?;
                identity::mark(io, dir, META, Mark { replica: Some(replica), removed: None })?;
            }
            become_node(&options, &written)
        })
        .await?;
        let (node, cluster) = (identity.node, identity.cluster);
        tracing::info!(%node, %cluster, joined = identity.joined, "this data directory belongs to a cluster now");
        self.formed.send_replace(Some(identity));
        Ok(())
    }

    /// Has more nodes asked.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for what is no address, or one too many.
    fn add_seeds(&self, addresses: &[String]) -> Result<(), Error> {
        addresses.iter().try_for_each(|address| check_address(address))?;
        let mut seeds = self.seeds.lock();
        let new: BTreeSet<&String> = addresses.iter().filter(|address| !seeds.contains(*address)).collect();
        if seeds.len() + new.len() > MAX_SEEDS {
            let message = format!("this node knows {MAX_SEEDS} nodes that it could ask, which is enough");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let new: Vec<String> = new.into_iter().cloned().collect();
        seeds.extend(new);
        self.ask.notify_one();
        Ok(())
    }
}

/// Locks the directory, and reads or makes what is known of it.
fn open(options: &BrokerOptions) -> Result<Opened, Error> {
    let (io, dir) = (&*options.disk, &*options.data_dir);
    let failed = |error| Error::new(Code::Io, format!("cannot create the directory {}: {error}", dir.display()));
    io.create_dir_all(dir).map_err(failed)?;
    let lock = identity::lock(dir)?;
    if identity::lacks_its_first_log(io, dir)? {
        Lane::make(Arc::clone(&options.disk), &identity::lane_dir(dir), &options.lane)?;
    }
    if let Some(identity) = identity::load(io, dir)? {
        // A crash may have come in between.
        identity::forget_incarnation(io, dir)?;
        let incarnation = identity.incarnation;
        return Ok(Opened { lock, identity: Some(identity), incarnation });
    }
    let incarnation = identity::incarnation(io, dir)?;
    if !options.cluster.join.is_empty() {
        return Ok(Opened { lock, identity: None, incarnation });
    }
    let (node, shards) = (NodeId(options.cluster.node_id.0.max(1)), options.shards);
    let replication = options.cluster.replication;
    let identity = Identity { cluster: Uuid::now_v7(), node, incarnation, shards, replication, joined: false };
    become_node(options, &identity)?;
    Ok(Opened { lock, identity: Some(identity), incarnation })
}

/// Gives a directory its identity, for ever. The log is there first: an identity without it says that it was lost.
fn become_node(options: &BrokerOptions, identity: &Identity) -> Result<(), Error> {
    let (io, dir) = (&*options.disk, &*options.data_dir);
    Lane::make(Arc::clone(&options.disk), &identity::lane_dir(dir), &options.lane)?;
    if !identity.joined {
        // A join that was cut short has left who would have let it in, and which replica it would have had.
        book::remove(io, dir)?;
        identity::forget_mark(io, dir, META)?;
    }
    identity::write(io, dir, identity)?;
    identity::forget_incarnation(io, dir)
}

/// The nodes to join, as the settings name them.
fn seeds_of(options: &BrokerOptions) -> Result<BTreeSet<String>, Error> {
    let cluster = &options.cluster;
    cluster.join.iter().try_for_each(|address| check_address(address))?;
    if cluster.join.len() > MAX_SEEDS {
        let message = format!("`cluster.join` names {} nodes; {MAX_SEEDS} are enough", cluster.join.len());
        return Err(Error::new(Code::InvalidConfig, message));
    }
    if !cluster.join.is_empty() && cluster.listen.is_none() {
        let message = "a node that is to join others has to listen to them: set `cluster.listen`";
        return Err(Error::new(Code::InvalidConfig, message));
    }
    Ok(cluster.join.iter().cloned().collect())
}

fn check_address(address: &str) -> Result<(), Error> {
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) || address.len() > MAX_ADDRESS_BYTES {
        let shown: String = address.chars().take(MAX_ADDRESS_BYTES).collect();
        return Err(Error::new(Code::InvalidConfig, format!("`{shown}` is no address of a node: it is host:port")));
    }
    Ok(())
}

fn belongs_already(identity: &Identity) -> Error {
    let message =
        format!("this is node {} of cluster {}: it cannot begin or join another", identity.node, identity.cluster);
    Error::new(Code::WrongCluster, message)
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("the start ended early: {panic}"))))
}
