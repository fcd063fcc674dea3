//! Clusters of real `stratalog serve` processes on this machine.

mod disk;
mod health;
mod levers;
mod loop_disk;
mod machine;
mod memory;
mod network;
mod node;
mod power;
mod router;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stratalog_client::Client;
use stratalog_proto::v1::ClusterStatus;

pub(crate) use disk::{Disk, DiskKind, SmallDisk, room_for};
pub(crate) use health::Started;
pub(crate) use levers::{Levers, Library};
pub(crate) use machine::Capability;
use memory::MemoryLimit;
pub(crate) use network::Network;
pub(crate) use node::{Node, end_with_the_harness};
pub(crate) use router::{Packets, Weather};
pub(crate) use verify::Found;

use crate::failure::Failure;

const LOOK_EVERY: Duration = Duration::from_millis(50);
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const STOPS_WITHIN: Duration = Duration::from_secs(60);
/// How long a cluster may take to be whole (again).
pub(crate) const WHOLE_WITHIN: Duration = Duration::from_secs(120);
/// Small files, so that rolls, seals, merges and snapshots are always in the middle of their work.
const BUSY: &str = "[lane]\nfile = \"2MiB\"\nbudget = \"8MiB\"\nreserve = \"16MiB\"\n[replay]\nroll_bytes = \"512KiB\"\n\
                    [rows]\nseal_bytes = \"1MiB\"\nseal_age = \"2s\"\n";

/// Segments are read again all the time.
const SCRUB: &str = "[scrub]\nevery = \"4s\"\nrate = \"256MiB\"\n";

/// Of nodes whose memory is bounded: the largest of what they may keep, so that the bound is much lower than by default.
const LEAN: [(&str, &str); 2] = [("STRATALOG_QUERY__MEMORY", "128MiB"), ("STRATALOG_ROWS__TAIL_BUDGET", "64MiB")];

/// What a cluster is made of.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) network: Network,
    pub(crate) disks: DiskKind,
    /// Megabytes of a disk that can be filled.
    pub(crate) room: u64,
    /// How long it may take to be whole (again).
    pub(crate) patience: Duration,
    /// Bytes that each node may have in use, if that is bounded.
    pub(crate) memory: Option<u64>,
    /// What is between the nodes and the system, if anything is.
    pub(crate) levers: Option<Library>,
    /// A bug that the nodes have on purpose.
    pub(crate) sabotage: Option<String>,
    /// Whether nodes read their segments again by themselves; earlier releases do not.
    pub(crate) scrubs: bool,
    /// The node's binary.
    pub(crate) binary: PathBuf,
    /// Settings, data and logs of the nodes.
    pub(crate) home: PathBuf,
}

/// Nodes 1, 2, …; the first begins the cluster, and the others join it. Dropping it kills them.
#[derive(Debug)]
pub(crate) struct Cluster {
    // The nodes first: their processes end before their network goes.
    nodes: Vec<Node>,
    site: Site,
}

/// Whether the nodes of a binary can be told to read their segments again.
pub(crate) fn knows_scrub(binary: &Path, dir: &Path) -> bool {
    let settings = dir.join("scrub.toml");
    let checked = std::fs::write(&settings, SCRUB).and_then(|()| {
        std::process::Command::new(binary).args(["serve", "--check", "--config"]).arg(&settings).output()
    });
    checked.is_ok_and(|checked| checked.status.success())
}

impl Cluster {
    /// Starts so many nodes, and waits until they are one cluster of which every shard has its voters.
    ///
    /// # Errors
    /// What could not be made, or what the cluster lacked when patience ended.
    pub(crate) async fn start(site: Site, count: u64) -> Result<Self, Failure> {
        let mut cluster = Self { nodes: Vec::new(), site };
        for number in 1..=count {
            cluster.add(number)?;
            cluster.launch(number)?;
        }
        cluster.wait_whole().await?;
        Ok(cluster)
    }

    /// A further node with an empty directory, not started.
    pub(crate) fn add(&mut self, number: u64) -> Result<(), Failure> {
        let Site { network, disks, room, home, levers, memory, scrubs, .. } = &self.site;
        network.connect(number).map_err(Failure)?;
        let host = network.host(number);
        let [grpc, peer, http, kafka] = network.ports().map(|port| format!("{host}:{port}"));
        let name = format!("node{number}");
        let (disk, data) = Disk::make(*disks, *room, &home.join(&name)).map_err(Failure)?;
        let levers =
            levers.as_ref().map(|_| Levers::new(home.join(format!("{name}.levers")))).transpose().map_err(Failure)?;
        // Where the system does not bound it, it is looked at all the same.
        let limit = memory.and_then(|bytes| MemoryLimit::make(&name, bytes).ok());
        let seeds: Vec<String> = self.nodes.iter().map(|node| format!("{:?}", node.peer)).collect();
        let settings = format!(
            "data_dir = {data:?}\ninsecure = {}\n[grpc]\nlisten = \"{grpc}\"\n[http]\nlisten = \"{http}\"\n[cluster]\nlisten = \
             \"{peer}\"\njoin = [{}]\nsecret = \"a secret of tests only\"\nnode_id = {number}\n{BUSY}{}",
            !network.is_loopback(),
            seeds.join(", "),
            if *scrubs { SCRUB } else { "" },
        );
        let config = home.join(format!("{name}.toml"));
        std::fs::write(&config, settings)?;
        let (grpc, log) = (format!("http://{grpc}"), home.join(format!("{name}.log")));
        self.nodes.retain(|node| node.number != number);
        self.nodes.push(Node { number, grpc, http, kafka, peer, data, disk, levers, limit, config, log, child: None });
        self.nodes.sort_by_key(|node| node.number);
        Ok(())
    }

    /// Starts the process of a node; waits for nothing.
    pub(crate) fn launch(&mut self, number: u64) -> Result<(), Failure> {
        let binary = self.site.binary.clone();
        self.launch_of(number, &binary)
    }

    /// The same with another binary.
    pub(crate) fn launch_of(&mut self, number: u64, binary: &Path) -> Result<(), Failure> {
        let mut command = self.site.network.command(number, &binary.to_string_lossy());
        if let (Some(library), Some(levers)) = (&self.site.levers, &self.node(number)?.levers) {
            library.put_before(&mut command, levers);
        }
        command.envs(self.site.memory.iter().flat_map(|_| LEAN));
        if binary == self.site.binary || knows_kafka(binary) {
            command.env("STRATALOG_KAFKA__LISTEN", &self.node(number)?.kafka);
        }
        command.envs(self.site.sabotage.as_ref().map(|bug| (crate::sabotage::VARIABLE, bug)));
        self.node_mut(number)?.launch(command)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, number: u64) -> Result<(), Failure> {
        self.node_mut(number)?.kill()
    }

    /// Asks a node to stop, and waits until it has.
    pub(crate) async fn stop(&mut self, number: u64) -> Result<(), Failure> {
        self.node_mut(number)?.stop(STOPS_WITHIN).await
    }

    /// Suspends a node's process.
    pub(crate) fn halt(&self, number: u64) -> Result<(), Failure> {
        self.node(number)?.signal(libc::SIGSTOP)
    }

    pub(crate) fn resume(&self, number: u64) -> Result<(), Failure> {
        self.node(number)?.signal(libc::SIGCONT)
    }

    /// Forgets a node that the cluster has forgotten; its directory, too.
    pub(crate) fn forget(&mut self, number: u64) -> Result<(), Failure> {
        let node = self.node(number)?;
        if node.is_running() {
            return Err(Failure(format!("node {number} still runs")));
        }
        let data = node.data.clone();
        // A device of its own goes with the node.
        self.nodes.retain(|node| node.number != number);
        std::fs::remove_dir_all(data)?;
        Ok(())
    }

    pub(crate) fn node(&self, number: u64) -> Result<&Node, Failure> {
        let found = self.nodes.iter().find(|node| node.number == number);
        found.ok_or_else(|| Failure(format!("there is no node {number}")))
    }

    fn node_mut(&mut self, number: u64) -> Result<&mut Node, Failure> {
        let found = self.nodes.iter_mut().find(|node| node.number == number);
        found.ok_or_else(|| Failure(format!("there is no node {number}")))
    }

    /// Bytes that each node may have in use, if that is bounded.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        self.site.memory
    }

    /// Whether nodes read their segments again by themselves.
    pub(crate) fn scrubs(&self) -> bool {
        self.site.scrubs
    }

    pub(crate) fn network(&self) -> &Network {
        &self.site.network
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.number).collect()
    }

    pub(crate) fn is_running(&self, number: u64) -> bool {
        self.node(number).is_ok_and(Node::is_running)
    }

    /// Where clients reach the nodes, with commas between.
    pub(crate) fn endpoints(&self) -> String {
        let all: Vec<&str> = self.nodes.iter().map(|node| node.grpc.as_str()).collect();
        all.join(",")
    }

    /// Number and address of each node.
    pub(crate) fn addresses(&self) -> BTreeMap<u64, String> {
        self.nodes.iter().map(|node| (node.number, node.grpc.clone())).collect()
    }

    /// Where Kafka clients reach the nodes, with commas between.
    pub(crate) fn bootstrap(&self) -> String {
        let all: Vec<&str> = self.nodes.iter().map(|node| node.kafka.as_str()).collect();
        all.join(",")
    }

    /// A client of all nodes.
    ///
    /// # Errors
    /// If none answers.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.endpoints()).await?)
    }

    /// Nodes that ended though nobody asked them to, and their last words. They are started again.
    ///
    /// # Errors
    /// If one cannot be started.
    pub(crate) fn revive(&mut self) -> Result<Vec<String>, Failure> {
        let mut ended = Vec::new();
        for node in &mut self.nodes {
            if let Some(status) = node.ended() {
                let words = node.last_words();
                ended.push((node.number, format!("node {} ended by itself, {status}: {words}", node.number)));
            }
        }
        ended.into_iter().map(|(number, words)| self.launch(number).map(|()| words)).collect()
    }

    /// The last words of a node that has ended; `None` while it runs.
    pub(crate) fn ended(&mut self, number: u64) -> Result<Option<String>, Failure> {
        let node = self.node_mut(number)?;
        Ok(node.ended().map(|_| node.last_words()))
    }

    /// The cluster as a node sees it; `None` while it does not answer.
    pub(crate) async fn status_of(&self, number: u64) -> Option<ClusterStatus> {
        let address = &self.node(number).ok()?.grpc;
        let ask = async { Client::connect(address).await?.cluster().await };
        tokio::time::timeout(ANSWERS_WITHIN, ask).await.ok()?.ok()
    }

    /// The cluster as some node sees it that runs and is not among `but`.
    pub(crate) async fn status(&self, but: &[u64]) -> Option<ClusterStatus> {
        for number in self.numbers() {
            if self.is_running(number)
                && !but.contains(&number)
                && let Some(status) = self.status_of(number).await
            {
                return Some(status);
            }
        }
        None
    }

    /// The node that leads a shard, as a node says that runs. Waits until there is one.
    ///
    /// # Errors
    /// If there was none for as long as anybody has patience.
    pub(crate) async fn leader_of(&self, shard: u32, but: &[u64]) -> Result<u64, Failure> {
        let deadline = Instant::now() + self.site.patience;
        while Instant::now() < deadline {
            let status = self.status(but).await.unwrap_or_default();
            let led = status.shards.iter().find(|found| found.shard == shard).map(|found| found.leader_node);
            if let Some(leader) = led.filter(|leader| self.is_running(*leader) && !but.contains(leader)) {
                return Ok(leader);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(Failure(format!("shard {shard} had no leader for {:?}", self.site.patience)))
    }
}

/// Whether a release has a listener for Kafka: one that has none refuses the setting.
fn knows_kafka(binary: &Path) -> bool {
    let help = std::process::Command::new(binary).args(["serve", "--help"]).output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--kafka"))
}
