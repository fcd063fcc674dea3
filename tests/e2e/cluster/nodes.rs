//! Clusters of real processes on this machine.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::{panicking, sleep};
use std::time::{Duration, Instant};

use stratalog_client::Client;
use stratalog_proto::v1::{ClusterShard, ClusterStatus};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::failure::{WORKERS, remember_panics, seen, troubles, what_failed};
use super::machine::ended_within;
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
    child: Option<RefCell<Child>>,
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
        remember_panics();
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let runtime = threads.worker_threads(2).thread_name(WORKERS).enable_all().build().unwrap();
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
        // Two that join at the same time get the ids in whatever order they come.
        self.add_with(number, &format!("node_id = {number}"));
    }

    /// As `add`, with further settings of `[cluster]`.
    pub(super) fn add_with(&mut self, number: u64, further: &str) {
        let home = self.home.as_ref().expect("it is kept only at the end").path();
        let host = self.network.host(number);
        let [grpc, peer, http, kafka] = self.network.ports().map(|port| format!("{host}:{port}"));
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
        let join = if further.contains("join") { String::new() } else { format!("join = [{}]", seeds.join(", ")) };
        let secret = if further.contains("secret") { "" } else { "secret = \"a secret of tests only\"" };
        let settings = format!(
            "data_dir = {:?}\ninsecure = {}\n[grpc]\nlisten = \"{grpc}\"\n[http]\nlisten = \"{http}\"\n[kafka]\nlisten = \
             \"{kafka}\"\n[cluster]\nlisten = \"{peer}\"\n{join}\n{secret}\n{further}\n{BUSY}",
            member.data,
            !self.network.is_loopback(),
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
        member.child = Some(RefCell::new(command.spawn().expect("the binary starts")));
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
        let status = ended_within(&mut child, STOP_WITHIN).unwrap_or_else(|| panic!("node {number} did not stop"));
        assert!(status.success(), "node {number} ended with {status}");
    }

    /// Suspends a node's process for a while; other nodes go on.
    pub(super) fn pause(&self, number: u64, time: Duration) {
        self.halt(number);
        sleep(time);
        self.resume(number);
    }

    /// Suspends a node's process.
    pub(super) fn halt(&self, number: u64) {
        self.signal(number, libc::SIGSTOP);
    }

    pub(super) fn resume(&self, number: u64) {
        self.signal(number, libc::SIGCONT);
    }

    pub(super) fn is_running(&self, number: u64) -> bool {
        self.member(number).child.is_some()
    }

    fn signal(&self, number: u64, signal: libc::c_int) {
        let child = self.member(number).child.as_ref().unwrap_or_else(|| panic!("node {number} does not run"));
        let id = libc::pid_t::try_from(child.borrow().id()).expect("process ids fit");
        // SAFETY: the call reads its arguments only. The child was not waited for yet, so the id is still its own.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0, "node {number} cannot be signalled");
    }

    fn take(&mut self, number: u64) -> Child {
        let child = self.member_mut(number).child.take();
        child.unwrap_or_else(|| panic!("node {number} does not run")).into_inner()
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

    /// Looks again and again until `whether` says yes, or fails the test with what it said last: at once, if a node that is to
    /// run has ended by itself.
    pub(super) fn wait(&self, what: &str, mut whether: impl FnMut(&Self) -> Result<(), String>) {
        let deadline = Instant::now() + WHOLE_WITHIN;
        loop {
            // Looked for first: what a node told before it ended is what may be waited for.
            let ended = self.ended();
            match whether(self) {
                Ok(()) => return,
                Err(why) => {
                    assert_eq!(ended, None, "a node ended by itself while it was waited until {what}: {why}");
                    assert!(Instant::now() < deadline, "waited {WHOLE_WITHIN:?} until {what}: {why}");
                }
            }
            sleep(LOOK_EVERY);
        }
    }

    /// A node that ended though nobody asked it to, and its last words.
    fn ended(&self) -> Option<String> {
        self.members.iter().find_map(|member| {
            let status = member.child.as_ref()?.borrow_mut().try_wait().expect("the child can be waited for")?;
            let told = self.told(member.number);
            Some(format!("node {}, {status}: {}", member.number, told.lines().last().unwrap_or_default()))
        })
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

impl Drop for Cluster {
    fn drop(&mut self) {
        let seen = if panicking() { seen(self) } else { String::new() };
        for child in self.members.iter_mut().filter_map(|member| Some(member.child.as_mut()?.get_mut())) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if panicking()
            && let Some(home) = self.home.take()
        {
            for number in self.numbers() {
                eprintln!("node {number} told of trouble, last:\n{}", troubles(&self.told(number)));
            }
            eprintln!("{seen}data and logs of the nodes are kept in {}", home.keep().display());
            eprintln!("what failed:\n{}", what_failed());
        }
    }
}
