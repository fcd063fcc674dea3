//! Nodes in processes of their own that are one cluster.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Node};
use stratalog_client::Client;
use stratalog_proto::config::voters;
use stratalog_proto::v1::ClusterStatus;
use tempfile::TempDir;

/// How long a cluster may take until every shard has its voters.
const WHOLE_WITHIN: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The binary, and the device to measure.
pub(crate) struct Site {
    pub(crate) binary: PathBuf,
    pub(crate) dir: PathBuf,
}

/// Nodes 1, 2, … of one cluster; a single one is a cluster, too.
pub(crate) struct Cluster {
    binary: PathBuf,
    shards: u32,
    places: Vec<Place>,
    home: TempDir,
}

/// Where a node is, running or not.
struct Place {
    grpc: String,
    http: String,
    peer: String,
    node: Option<Node>,
}

impl Cluster {
    /// Starts so many nodes with so many shards, and waits until each shard has its replicas.
    pub(crate) async fn start(site: &Site, nodes: usize, shards: u32) -> Result<Self, Failure> {
        let home = tempfile::tempdir_in(&site.dir)?;
        let mut cluster = Self { binary: site.binary.clone(), shards, places: Vec::new(), home };
        for _ in 0..nodes {
            cluster.add()?;
        }
        cluster.wait_whole().await?;
        Ok(cluster)
    }

    /// Starts one more node, which joins by itself; its number.
    pub(crate) fn add(&mut self) -> Result<u64, Failure> {
        let [grpc, http, peer] = [(); 3].map(|()| free_address());
        self.places.push(Place { grpc, http, peer, node: None });
        let number = self.places.len() as u64;
        self.launch(number)?;
        Ok(number)
    }

    /// Starts the process of a node (again).
    pub(crate) fn launch(&mut self, number: u64) -> Result<(), Failure> {
        let at = number as usize - 1;
        let seeds: Vec<&str> = self.places[..at].iter().map(|place| place.peer.as_str()).collect();
        let (seeds, shards) = (seeds.join(","), self.shards.to_string());
        let place = &self.places[at];
        let settings = [
            ("STRATALOG_CLUSTER__LISTEN", place.peer.as_str()),
            ("STRATALOG_CLUSTER__JOIN", seeds.as_str()),
            ("STRATALOG_CLUSTER__SHARDS", shards.as_str()),
        ];
        let data = self.home.path().join(format!("node{number}"));
        let node = Node::start_at(&self.binary, &data, [&place.grpc, &place.http], &settings)?;
        self.places[at].node = Some(node);
        Ok(())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, number: u64) -> Result<(), Failure> {
        let node = self.places[number as usize - 1].node.take();
        node.ok_or_else(|| Failure(format!("node {number} does not run")))?.kill()
    }

    /// A client that knows all nodes.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let endpoints: Vec<String> = self.places.iter().map(|place| format!("http://{}", place.grpc)).collect();
        Ok(Client::connect(&endpoints.join(",")).await?)
    }

    /// Those that run, in the order of their numbers.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.places.iter().filter_map(|place| place.node.as_ref())
    }

    /// Processor time of all nodes that run.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        self.nodes().map(Node::cpu).sum()
    }

    /// The same by the names of threads.
    pub(crate) fn cpu_by_thread(&self) -> Result<BTreeMap<String, Duration>, Failure> {
        let mut times = BTreeMap::new();
        for node in self.nodes() {
            for (name, time) in node.cpu_by_thread()? {
                *times.entry(name).or_default() += time;
            }
        }
        Ok(times)
    }

    /// Waits until every node is reached, and every shard has a leader and its voters.
    pub(crate) async fn wait_whole(&self) -> Result<(), Failure> {
        let nodes = self.places.len();
        self.wait("every shard has its replicas", |status| {
            let reached = status.nodes.len() == nodes && status.nodes.iter().all(|node| node.reachable);
            reached
                && status.shards.iter().all(|shard| {
                    let votes = shard.replicas.iter().filter(|replica| replica.role == "voter").count();
                    let settled =
                        shard.replicas.iter().all(|replica| matches!(replica.role.as_str(), "voter" | "learner"));
                    shard.leader_node != 0 && settled && votes >= voters(shard.replication, nodes)
                })
        })
        .await
    }

    /// Asks the cluster how it is, again and again, until `whether` is content.
    pub(crate) async fn wait(&self, what: &str, whether: impl Fn(&ClusterStatus) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + WHOLE_WITHIN;
        let client = self.client().await?;
        while Instant::now() < deadline {
            // A node that is still starting is asked again.
            if client.cluster().await.is_ok_and(|status| whether(&status)) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(Failure(format!("waited {WHOLE_WITHIN:?} until {what}")))
    }

    /// The node that leads a shard.
    pub(crate) async fn leader(&self, shard: u32) -> Result<u64, Failure> {
        let status = self.client().await?.cluster().await?;
        let found = status.shards.iter().find(|found| found.shard == shard).map(|found| found.leader_node);
        found.filter(|node| *node != 0).ok_or_else(|| Failure(format!("shard {shard} has no leader")))
    }
}

/// Ports that were given out: a node listens on its own a while after it was given them.
static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());

/// Nobody listens on it, nobody else gets it from here, and it lies below the ports that the system gives to connections.
fn free_address() -> String {
    let mut given = GIVEN.lock().expect("nobody panics with it");
    loop {
        let port = fastrand::u16(10_000..32_000);
        let address = format!("127.0.0.1:{port}");
        if !given.contains(&port) && TcpListener::bind(&address).is_ok() {
            given.push(port);
            return address;
        }
    }
}

/// As in "1 node", "3 nodes".
pub(crate) fn nodes(count: usize) -> String {
    format!("{count} node{}", if count == 1 { "" } else { "s" })
}
