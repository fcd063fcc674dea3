//! Clusters of real processes on this machine.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{panicking, sleep};
use std::time::{Duration, Instant};

use stratalog_client::Client;
use stratalog_proto::v1::{ClusterShard, ClusterStatus};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::network::Network;
use crate::harness::{BINARY, Ran, run};

/// How long a cluster may take to be whole (again).
const WHOLE_WITHIN: Duration = Duration::from_secs(120);
const STOP_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Small files, so that rolls, seals, merges and snapshots are always in the middle of their work.
const BUSY: &str = "[lane]\nfile = \"2MiB\"\nbudget = \"8MiB\"\nreserve = \"16MiB\"\n[replay]\nroll_bytes = \"512KiB\"\n\
                    [rows]\nseal_bytes = \"1MiB\"\nseal_age = \"2s\"\n";

/// Nodes 1, 2, …; the first begins the cluster, and the others join it. Dropping it kills them; if a test fails, the directory
/// with their data and logs is kept, and named.
pub(super) struct Cluster {
    pub(super) runtime: Runtime,
    pub(super) network: Network,
    members: Vec<Member>,
    /// `None` once it was given up, to be kept.
    home: Option<TempDir>,
}

/// One node, running or not.
pub(super) struct Member {
    /// Its number from 1 on, which is also the id that the cluster gives it.
    pub(super) number: u64,
    pub(super) grpc: String,
    pub(super) peer: String,
    pub(super) data: PathBuf,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Starts `count` nodes on loopback, and waits until they are one cluster of which every shard has its voters.
    pub(super) fn start(count: u64) -> Self {
        Self::start_on(Network::loopback(), count)
    }

    pub(super) fn start_on(network: Network, count: u64) -> Self {
        Self::start_prepared(network, count, |_| ())
    }

    /// As `start_on`; `prepare` sees each node before it is started.
    pub(super) fn start_prepared(network: Network, count: u64, mut prepare: impl FnMut(&Member)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        let mut cluster = Self { runtime, network, members: Vec::new(), home: Some(home) };
        for number in 1..=count {
            cluster.add(number);
            prepare(cluster.member(number));
            cluster.launch(number);
        }
        cluster.wait_whole();
        cluster
    }

    /// A further node with an empty directory, not started.
    pub(super) fn add(&mut self, number: u64) {
        self.add_with(number, "");
    }

    /// As `add`, with further settings of `[cluster]`.
    pub(super) fn add_with(&mut self, number: u64, further: &str) {
        let home = self.home.as_ref().expect("it is kept only at the end").path();
        let host = self.network.host(number);
        let [grpc, peer, http] = self.network.ports().map(|port| format!("{host}:{port}"));
        let name = format!("node{number}");
        let member = Member {
            number,
            data: home.join(&name),
            config: home.join(format!("{name}.toml")),
            log: home.join(format!("{name}.log")),
            grpc: format!("http://{grpc}"),
            peer: peer.clone(),
            child: None,
        };
        let seeds: Vec<String> = self.members.iter().map(|member| format!("{:?}", member.peer)).collect();
        let secret = if further.contains("secret") { "" } else { "secret = \"a secret of tests only\"" };
        let settings = format!(
            "data_dir = {:?}\ninsecure = {}\n[grpc]\nlisten = \"{grpc}\"\n[http]\nlisten = \"{http}\"\n[cluster]\nlisten = \
             \"{peer}\"\njoin = [{}]\n{secret}\n{further}\n{BUSY}",
            member.data,
            !self.network.is_loopback(),
            seeds.join(", ")
        );
        std::fs::write(&member.config, settings).unwrap();
        self.members.retain(|member| member.number != number);
        self.members.push(member);
        self.members.sort_by_key(|member| member.number);
    }

    /// Starts the process of a node; waits for nothing.
    pub(super) fn launch(&mut self, number: u64) {
        let mut command = self.network.command(number, BINARY);
        let member = self.member_mut(number);
        assert!(member.child.is_none(), "node {number} runs already");
        let log = OpenOptions::new().create(true).append(true).open(&member.log).unwrap();
        command.arg("serve").arg("--config").arg(&member.config).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        member.child = Some(command.spawn().expect("the binary starts"));
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self, number: u64) {
        let mut child = self.take(number);
        child.kill().expect("the child can be killed");
        child.wait().expect("the child can be waited for");
    }

    /// Asks a node to stop, and waits until it has.
    pub(super) fn stop(&mut self, number: u64) {
        self.signal(number, libc::SIGTERM);
        let mut child = self.take(number);
        let status = ended(&mut child, STOP_WITHIN).unwrap_or_else(|| panic!("node {number} did not stop"));
        assert!(status.success(), "node {number} ended with {status}");
    }

    /// Suspends a node's process for a while; other nodes go on.
    pub(super) fn pause(&self, number: u64, time: Duration) {
        self.signal(number, libc::SIGSTOP);
        sleep(time);
        self.signal(number, libc::SIGCONT);
    }

    pub(super) fn is_running(&self, number: u64) -> bool {
        self.member(number).child.is_some()
    }

    fn signal(&self, number: u64, signal: libc::c_int) {
        let child = self.member(number).child.as_ref().unwrap_or_else(|| panic!("node {number} does not run"));
        let id = libc::pid_t::try_from(child.id()).expect("process ids fit");
        // SAFETY: the call reads its arguments only. The child was not waited for yet, so the id is still its own.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0, "node {number} cannot be signalled");
    }

    fn take(&mut self, number: u64) -> Child {
        self.member_mut(number).child.take().unwrap_or_else(|| panic!("node {number} does not run"))
    }

    pub(super) fn member(&self, number: u64) -> &Member {
        self.members.iter().find(|member| member.number == number).expect("there is such a node")
    }

    fn member_mut(&mut self, number: u64) -> &mut Member {
        self.members.iter_mut().find(|member| member.number == number).expect("there is such a node")
    }

    /// What a node has told on standard output and in its log so far.
    pub(super) fn told(&self, number: u64) -> String {
        std::fs::read_to_string(&self.member(number).log).unwrap_or_default()
    }

    /// Forgets a node that the cluster has forgotten.
    pub(super) fn forget(&mut self, number: u64) {
        assert!(!self.is_running(number), "node {number} still runs");
        self.members.retain(|member| member.number != number);
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.number).collect()
    }

    /// Where clients reach the nodes, with commas between.
    pub(super) fn endpoints(&self) -> String {
        let all: Vec<&str> = self.members.iter().map(|member| member.grpc.as_str()).collect();
        all.join(",")
    }

    /// A client of all nodes.
    pub(super) fn client(&self) -> Client {
        self.runtime.block_on(Client::connect(&self.endpoints())).expect("the endpoints are addresses")
    }

    /// A client of one node only.
    pub(super) fn client_of(&self, number: u64) -> Client {
        self.runtime.block_on(Client::connect(&self.member(number).grpc)).expect("the endpoint is an address")
    }

    /// Runs a client command against the cluster.
    pub(super) fn run(&self, arguments: &[&str]) -> Ran {
        run(&[&["--endpoint", &self.endpoints()], arguments].concat(), b"")
    }

    /// The cluster as a node sees it; `None` while it does not answer.
    pub(super) fn status_of(&self, number: u64) -> Option<ClusterStatus> {
        let ask = async { Client::connect(&self.member(number).grpc).await?.cluster().await };
        let asked = self.runtime.block_on(async { tokio::time::timeout(ANSWERS_WITHIN, ask).await });
        asked.ok()?.ok()
    }

    /// The node that leads a shard, as somebody says that runs. Waits until there is one.
    pub(super) fn leader_of(&self, shard: u32) -> u64 {
        let leads = |cluster: &Self| {
            let running = cluster.numbers().into_iter().filter(|number| cluster.is_running(*number));
            let mut said = running.filter_map(|number| cluster.status_of(number)).flat_map(|status| status.shards);
            said.find_map(|found| (found.shard == shard && found.leader_node != 0).then_some(found.leader_node))
        };
        let mut leader = None;
        self.wait(&format!("shard {shard} has a leader"), |cluster| {
            leader = leads(cluster).filter(|leader| cluster.is_running(*leader));
            if leader.is_some() { Ok(()) } else { Err("there is none".into()) }
        });
        leader.expect("it was waited for")
    }

    /// Waits until every node runs, reaches the others, and every shard has a leader and all voters, up to date.
    pub(super) fn wait_whole(&self) {
        self.wait("the cluster is whole", |cluster| {
            for number in cluster.numbers() {
                let status = cluster.status_of(number).ok_or_else(|| format!("node {number} does not answer"))?;
                cluster.check_whole(number, &status)?;
            }
            Ok(())
        });
    }

    fn check_whole(&self, number: u64, status: &ClusterStatus) -> Result<(), String> {
        let nodes = status.nodes.len();
        if nodes != self.members.len() {
            return Err(format!("node {number} knows {nodes} nodes"));
        }
        if let Some(node) = status.nodes.iter().find(|node| !node.reachable) {
            return Err(format!("node {number} does not reach node {}: {}", node.node, node.problem));
        }
        status.shards.iter().try_for_each(|shard| whole(shard, nodes).map_err(|why| format!("node {number}: {why}")))
    }

    /// Looks again and again until `whether` says yes, or fails the test with what it said last.
    pub(super) fn wait(&self, what: &str, mut whether: impl FnMut(&Self) -> Result<(), String>) {
        let deadline = Instant::now() + WHOLE_WITHIN;
        loop {
            match whether(self) {
                Ok(()) => return,
                Err(why) if Instant::now() > deadline => panic!("waited {WHOLE_WITHIN:?} until {what}: {why}"),
                Err(_) => sleep(LOOK_EVERY),
            }
        }
    }
}

/// Whether a shard has a leader, and as many voters as it is to have on so many nodes.
fn whole(shard: &ClusterShard, nodes: usize) -> Result<(), String> {
    let number = shard.shard;
    let voters = shard.replicas.iter().filter(|replica| replica.role == "voter").count();
    let wanted = stratalog_proto::config::voters(shard.replication, nodes);
    if shard.leader_node == 0 {
        return Err(format!("shard {number} has no leader"));
    }
    if voters != wanted || shard.replicas.iter().any(|replica| matches!(replica.role.as_str(), "joining" | "leaving")) {
        return Err(format!("shard {number} has {voters} voters of {wanted}: {:?}", shard.replicas));
    }
    match shard.replicas.iter().find(|replica| replica.missing_segments > 0) {
        Some(replica) => Err(format!("replica {} of shard {number} misses segments", replica.replica)),
        None => Ok(()),
    }
}

fn ended(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            return Some(status);
        }
        sleep(Duration::from_millis(10));
    }
    None
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if panicking()
            && let Some(home) = self.home.take()
        {
            eprintln!("data and logs of the nodes are kept in {}", home.keep().display());
        }
    }
}

/// Ports of this machine that nobody listens on, below those that the system gives to connections: one of these may be taken
/// before the node listens on it.
pub(super) fn free_ports() -> [u16; 3] {
    [(); 3].map(|()| {
        loop {
            let port = fastrand::u16(10_000..32_000);
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    })
}

/// A command of the system, for what a test needs root for.
pub(super) fn system(program: &str, arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&ran.stderr).trim()))
}
