//! What is broken, how, and when. A nemesis has the cluster to itself while clients keep it busy.

mod aimed;
mod damage;
mod disks;
mod groups;
mod hostile;
mod kills;
mod levers;
mod members;
mod overload;
mod partitions;
mod pauses;
mod power;
mod restarts;
mod shapes;
mod weather;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog_client::Client;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::history::{Fault, Line, Micros, Probe, When};
use crate::workload::{Group, Shared};

pub(crate) use damage::{DAMAGE_IS_FOUND, HALTS_NAMED, KEPT_ASIDE, NO_BAD_BYTE, WHOLE_AGAIN};
pub(crate) use disks::READS_SERVE;
pub(crate) use hostile::{CLOSED_IN_TIME, GARBAGE_IS_REFUSED, OTHERS_ARE_SERVED, QUERIES_END};
pub(crate) use levers::ENDS_AT_ONCE;
pub(crate) use members::WIPED_IS_REFUSED;
pub(crate) use overload::{THROTTLED, WITHIN_MEMORY};

/// How long a question to the cluster about its topic may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// How long sends take while nothing is broken is measured in such a time.
const CALM: Duration = Duration::from_secs(12);
/// Clients are under way before anything is broken.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long a cluster is left alone after a fault that took all of it away.
const SHORTEST_REST_MS: u64 = 2_000;
const LONGEST_REST_MS: u64 = 30_000;

/// What breaks things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nemesis {
    /// Nothing is broken.
    None,
    /// `kill -9` of a leader.
    KillLeader,
    /// `kill -9` of all nodes at once.
    KillAll,
    /// A leader stands still, and goes on as if nothing had been.
    PauseLeader,
    /// Links are cut, in all shapes.
    Partitions,
    /// Devices are full.
    FullDisks,
    /// Nodes come, go and are replaced.
    Members,
    /// One node after the other is stopped and started again.
    RollingRestart,
    /// The same, with another release on the way there and back.
    Upgrade,
    /// Kills in the middle of seals, rolls and fetches.
    AimedKills,
    /// The power of one node goes.
    CutOne,
    /// That of all nodes.
    CutAll,
    /// A minority halts, and the power of one of the others goes.
    PauseAndCut,
    /// Bits flip in all files of one node.
    FlipBits,
    /// Chunks of them are lost.
    LoseChunks,
    /// Of every segment one copy is damaged.
    DamageEachOnce,
    /// Of one segment all copies are.
    DamageOnAll,
    /// The logs of all nodes are.
    DamageAllLogs,
    /// The end of a node's log is lost while nobody can tell it.
    ForgetTheEnd,
    /// A node's votes or states are damaged.
    DamageVotes,
    /// A node's segments are gone.
    DeleteSegments,
    /// What is derived is gone everywhere.
    DeleteDerived,
    /// Clocks step.
    Clocks,
    /// A sync of the log fails.
    SyncErrors,
    /// Syncs take long.
    SlowDisk,
    /// Connections that are idle or slow.
    SlowClients,
    /// Bytes that are no requests.
    Garbage,
    /// Packets between nodes come late, not at all, twice and out of order.
    BadNetwork,
    /// More is produced than the cluster can take.
    Overload,
    /// Statements that ask for too much.
    HostileQueries,
    /// Members of a consumer group are killed, and others join.
    Rebalance,
    /// What only needs processes and links that can be cut, in turn.
    Mixed,
}

/// The name of the probe that every run makes.
pub(crate) const NO_NODE_ENDS: &str = "no node ends by itself";

/// Where a nemesis works.
pub(crate) struct Chaos<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) shared: Arc<Shared>,
    /// Members of a consumer group, if the run has one.
    pub(crate) group: Option<&'a mut Group>,
    pub(crate) random: fastrand::Rng,
    /// The last release, for upgrades.
    pub(crate) other_binary: Option<PathBuf>,
    pub(crate) binary: PathBuf,
    /// Faults go on until here, and until there were enough of each kind; but not beyond `at_the_latest`.
    pub(crate) until: Instant,
    pub(crate) at_the_latest: Instant,
    pub(crate) wanted: BTreeMap<String, u64>,
    fired: BTreeMap<String, u64>,
    /// The highest number that a node ever had.
    last_node: u64,
}

impl<'a> Chaos<'a> {
    pub(crate) fn new(
        cluster: &'a mut Cluster,
        (shared, group): (Arc<Shared>, Option<&'a mut Group>),
        seed: u64,
        length: Duration,
        wanted: BTreeMap<String, u64>,
        binaries: (PathBuf, Option<PathBuf>),
    ) -> Self {
        let now = Instant::now();
        Self {
            cluster,
            shared,
            group,
            random: fastrand::Rng::with_seed(seed),
            binary: binaries.0,
            other_binary: binaries.1,
            until: now + length,
            at_the_latest: now + 3 * length + Duration::from_secs(120),
            wanted,
            fired: BTreeMap::new(),
            last_node: 0,
        }
    }

    /// Breaks and mends until there is enough of it.
    ///
    /// # Errors
    /// If the harness cannot go on, or the cluster does not become whole again.
    pub(crate) async fn run(&mut self, nemesis: Nemesis) -> Result<(), Failure> {
        tokio::time::sleep(WARM_UP).await;
        let mut round = 0;
        while self.goes_on() {
            self.watch_for_ends()?;
            self.strike(nemesis, round).await?;
            round += 1;
        }
        self.watch_for_ends()
    }

    async fn strike(&mut self, nemesis: Nemesis, round: usize) -> Result<(), Failure> {
        match nemesis {
            Nemesis::None => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                Ok(())
            }
            Nemesis::KillLeader => self.kill_leader().await,
            Nemesis::KillAll => self.kill_all().await,
            Nemesis::PauseLeader => self.pause_leader(round).await,
            Nemesis::Partitions => self.partition(round).await,
            Nemesis::FullDisks => self.fill_disks().await,
            Nemesis::Members => self.change_members(round).await,
            Nemesis::RollingRestart => self.rolling_restart().await,
            Nemesis::Upgrade => self.upgrade().await,
            Nemesis::AimedKills => self.aimed_kill(round).await,
            Nemesis::CutOne => self.cut_one(round).await,
            Nemesis::CutAll => self.cut_all().await,
            Nemesis::PauseAndCut => self.pause_and_cut().await,
            Nemesis::FlipBits => self.flip_bits(round).await,
            Nemesis::LoseChunks => self.lose_chunks(round).await,
            Nemesis::DamageEachOnce => self.damage_each_once().await,
            Nemesis::DamageOnAll => self.damage_on_all().await,
            Nemesis::DamageAllLogs => self.damage_all_logs().await,
            Nemesis::ForgetTheEnd => self.forget_the_end().await,
            Nemesis::DamageVotes => self.damage_votes(round).await,
            Nemesis::DeleteSegments => self.delete_segments(round).await,
            Nemesis::DeleteDerived => self.delete_derived().await,
            Nemesis::Clocks => self.move_clocks(round).await,
            Nemesis::SyncErrors => self.fail_sync().await,
            Nemesis::SlowDisk => self.slow_disk(round).await,
            Nemesis::SlowClients => self.slow_clients().await,
            Nemesis::Garbage => self.garbage().await,
            Nemesis::BadNetwork => self.bad_network().await,
            Nemesis::Overload => self.overload().await,
            Nemesis::HostileQueries => self.hostile_queries().await,
            Nemesis::Rebalance => self.rebalance(round).await,
            Nemesis::Mixed => self.mixed(round).await,
        }
    }

    async fn mixed(&mut self, round: usize) -> Result<(), Failure> {
        let turn = round / 6;
        match round % 6 {
            0 => self.kill_leader().await,
            1 => self.pause_leader(turn).await,
            2 => self.partition(turn).await,
            3 => self.aimed_kill(turn).await,
            4 => self.rolling_restart().await,
            _ => self.kill_all().await,
        }
    }

    fn goes_on(&self) -> bool {
        let now = Instant::now();
        let lacks = || self.wanted.iter().any(|(kind, wanted)| self.fired.get(kind).is_none_or(|fired| fired < wanted));
        now < self.until || (now < self.at_the_latest && lacks())
    }

    fn now(&self) -> Micros {
        self.shared.history.now()
    }

    /// Notes a fault that is over.
    fn note(&mut self, fault: Fault) {
        let seconds = |at: Micros| at as f64 / 1e6;
        eprintln!(
            "  {:>8.3} s  {} of {:?} until {:.3} s ({})",
            seconds(fault.at.0),
            fault.kind,
            fault.nodes,
            seconds(fault.at.1),
            fault.detail
        );
        *self.fired.entry(fault.kind.clone()).or_default() += 1;
        self.shared.note(&Line::Fault(fault));
    }

    /// Notes whether something is as it has to be.
    fn probe(&self, what: &str, since: Micros, held: bool, detail: String) {
        if !held {
            eprintln!("  {what}: it is not so: {detail}");
        }
        self.shared.note(&Line::Probe(Probe { what: what.to_owned(), at: When(since, self.now()), held, detail }));
    }

    /// Nodes that ended though nobody asked them to are noted, and started again.
    fn watch_for_ends(&mut self) -> Result<(), Failure> {
        let ended = self.cluster.revive()?;
        let now = self.now();
        ended.into_iter().for_each(|words| self.probe(NO_NODE_ENDS, now, false, words));
        Ok(())
    }

    /// Waits until the cluster is whole. That it does not become so is something that is wrong, not a failure of the harness.
    async fn wait_whole(&mut self) -> Result<(), Failure> {
        let since = self.now();
        if let Err(why) = self.cluster.wait_whole().await {
            self.probe("the cluster becomes whole again", since, false, why.0.clone());
            return Err(why);
        }
        Ok(())
    }

    /// Partitions of the topic whose shards a node leads; nothing while nobody knows.
    async fn partitions_led_by(&self, node: u64) -> Vec<u32> {
        let Some(status) = self.cluster.status(&[]).await else { return Vec::new() };
        let led: BTreeSet<u32> =
            status.shards.iter().filter(|shard| shard.leader_node == node).map(|shard| shard.shard).collect();
        let shards = self.shards().await;
        shards.into_iter().filter(|(_, shard)| led.contains(shard)).map(|(partition, _)| partition).collect()
    }

    /// Partition → shard.
    async fn shards(&self) -> BTreeMap<u32, u32> {
        let endpoints = self.cluster.endpoints();
        let topic = self.shared.load.topic.clone();
        let ask = async move { Client::connect(&endpoints).await?.describe_topic(&topic).await };
        let Ok(Ok(described)) = tokio::time::timeout(ANSWERS_WITHIN, ask).await else { return BTreeMap::new() };
        described.partitions.iter().map(|found| (found.partition, found.shard)).collect()
    }

    fn all_partitions(&self) -> Vec<u32> {
        (0..self.shared.load.partitions).collect()
    }

    /// A shard that has partitions of the topic.
    async fn some_shard(&mut self) -> u32 {
        let shards: BTreeSet<u32> = self.shards().await.into_values().collect();
        self.random.choice(shards).unwrap_or(1)
    }

    /// A node that leads a shard with partitions, and those that it leads.
    async fn some_leader(&mut self) -> Result<(u64, Vec<u32>), Failure> {
        let shard = self.some_shard().await;
        let leader = self.cluster.leader_of(shard, &[]).await?;
        Ok((leader, self.partitions_led_by(leader).await))
    }

    fn others(&self, node: u64) -> Vec<u64> {
        self.cluster.numbers().into_iter().filter(|other| *other != node).collect()
    }

    async fn sleep_ms(&mut self, range: std::ops::Range<u64>) {
        let ms = self.random.u64(range);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Leaves the cluster alone for about as long as it was away since `began`: a run in which nobody gets an answer proves nothing.
    async fn rest_since(&mut self, began: Micros) {
        let away = self.now().saturating_sub(began) / 1_000;
        let rest = away.clamp(SHORTEST_REST_MS, LONGEST_REST_MS);
        self.sleep_ms(rest..rest + SHORTEST_REST_MS).await;
    }
}

/// A fault without cut links.
fn fault(kind: &str, nodes: &[u64], at: When, partitions: Vec<u32>, detail: String) -> Fault {
    Fault { kind: kind.to_owned(), nodes: nodes.to_vec(), at, partitions, cuts: Vec::new(), alone: Vec::new(), detail }
}
