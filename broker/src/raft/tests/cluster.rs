//! Three voters, what they acknowledged, and whether they still have it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::EmptyNode;
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::{Append, Command, EntryBuilder};
use stratalog_proto::{Code, Error, RaftIndex, internal};
use stratalog_storage::Io;
use stratalog_storage::simulation::SimDisk;
use tokio::time::{sleep, timeout};

use super::machine::{PARTITION, Segments, TOPIC};
use super::network::ChannelNetwork;
use super::replica::Replica;
use crate::outcome::CommandResult;

pub(super) const ALL: [u64; 3] = [1, 2, 3];
/// How long an answer is waited for: longer than an election.
const ANSWER_WAIT: Duration = Duration::from_secs(6);
/// How long a healed cluster may take to agree.
const SETTLE_WAIT: Duration = Duration::from_secs(120);

/// The replicas of one shard: three voters, unless a test begins or goes on otherwise.
pub(super) struct Cluster {
    pub(super) network: ChannelNetwork,
    running: BTreeMap<u64, Replica>,
    /// What is left of those that crashed.
    stopped: BTreeMap<u64, (SimDisk, Segments)>,
    /// What was acknowledged: batches by their offset.
    pub(super) acked: BTreeMap<u64, Bytes>,
    written: u64,
    seed: u64,
}

/// Runs a test on a runtime whose clock is paused, with the bug that [`super::sabotage`] asks for.
pub(super) fn simulate(test: impl Future<Output = ()>) {
    super::sabotage::plant_what_is_asked_for();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test);
}

impl Cluster {
    /// Starts three replicas on empty disks, and writes the topic.
    pub(super) async fn start(seed: u64) -> Self {
        let mut cluster = Self::empty(seed);
        for id in ALL {
            cluster.add(id).await;
        }
        let voters: BTreeMap<u64, EmptyNode> = ALL.into_iter().map(|id| (id, EmptyNode {})).collect();
        cluster.at(1).group.raft.initialize(voters).await.unwrap();
        cluster.put_topic().await;
        cluster
    }

    /// The same with so many batches written; and who leads.
    pub(super) async fn led(seed: u64, batches: usize) -> (Self, u64) {
        let mut cluster = Self::start(seed).await;
        cluster.produce_some(batches).await;
        let leader = cluster.new_leader(0).await;
        (cluster, leader)
    }

    /// The same, and everybody has all of it.
    pub(super) async fn agreed(seed: u64, batches: usize) -> (Self, u64) {
        let (cluster, leader) = Self::led(seed, batches).await;
        cluster.agree(&ALL).await;
        (cluster, leader)
    }

    /// Starts one replica that forms a group of its own, and writes the topic.
    pub(super) async fn start_alone(seed: u64) -> Self {
        let mut cluster = Self::empty(seed);
        cluster.add(1).await;
        cluster.at(1).group.form().await.unwrap();
        cluster.at(1).group.lead(SETTLE_WAIT).await.unwrap();
        cluster.put_topic().await;
        cluster
    }

    fn empty(seed: u64) -> Self {
        let network = ChannelNetwork::new(seed);
        let (running, stopped, acked) = Default::default();
        Self { network, running, stopped, acked, written: 0, seed }
    }

    /// Starts a further replica on an empty disk. It belongs to no group.
    pub(super) async fn add(&mut self, id: u64) {
        self.stopped.insert(id, (SimDisk::seeded(self.seed * 10 + id), Segments::default()));
        self.restart(id).await.unwrap();
    }

    /// Takes a replica away for ever, with its disk.
    pub(super) async fn take_away(&mut self, id: u64) {
        self.crash(id, false).await;
        self.stopped.remove(&id);
    }

    /// Every replica, running or not.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.running.keys().chain(self.stopped.keys()).copied().collect()
    }

    async fn put_topic(&self) {
        let put = internal::PutTopic {
            topic: TOPIC.to_bytes(),
            partitions: vec![PARTITION.0],
            config: Some(TopicConfig::default().to_internal()),
        };
        self.propose(Command::PutTopic(put)).await.unwrap();
    }

    pub(super) fn at(&self, id: u64) -> &Replica {
        &self.running[&id]
    }

    pub(super) fn runs(&self, id: u64) -> bool {
        self.running.contains_key(&id)
    }

    /// Stops a replica as a crash does.
    pub(super) async fn crash(&mut self, id: u64, power: bool) {
        let Some(replica) = self.running.remove(&id) else { return };
        self.stopped.insert(id, replica.crash(power).await);
    }

    pub(super) async fn restart(&mut self, id: u64) -> Result<(), Error> {
        let Some((disk, segments)) = self.stopped.remove(&id) else { return Ok(()) };
        self.running.insert(id, Replica::start(id, disk, segments, self.network.end()).await?);
        Ok(())
    }

    /// The disk of a replica that does not run.
    pub(super) fn disk_of(&self, id: u64) -> SimDisk {
        self.stopped[&id].0.clone()
    }

    /// A copy of the segments of a replica that does not run.
    pub(super) fn segments_of(&self, id: u64) -> Segments {
        let held = self.stopped[&id].1.lock().clone();
        Segments::new(parking_lot::Mutex::new(held))
    }

    /// Gives a replica that does not run another disk.
    pub(super) fn set_disk(&mut self, id: u64, disk: SimDisk) {
        self.stopped.get_mut(&id).expect("it has crashed").0 = disk;
    }

    /// Restarts a replica over a lane whose end was discarded; over what its disk had once, if that is given.
    pub(super) async fn restart_torn(&mut self, id: u64, earlier: Option<SimDisk>) {
        let (disk, segments) = self.stopped.remove(&id).expect("it has crashed");
        let disk = earlier.unwrap_or(disk);
        let replica = Replica::start_over(id, disk, segments, self.network.end(), true).await.unwrap();
        self.running.insert(id, replica);
    }

    /// Restarts a replica that has its vote and nothing else.
    pub(super) async fn restart_without_log(&mut self, id: u64) {
        let (disk, segments) = self.stopped.remove(&id).expect("it has crashed");
        for path in disk.paths().iter().filter(|path| path.starts_with("/lane") || path.starts_with("/state")) {
            disk.remove(path).unwrap();
        }
        let replica = Replica::start(id, disk, segments, self.network.end()).await.unwrap();
        self.running.insert(id, replica);
    }

    /// Tries to restart a replica that has its log and no vote.
    pub(super) async fn restart_without_vote(&mut self, id: u64) -> Result<(), Error> {
        let (disk, _) = self.stopped.get(&id).expect("it has crashed");
        disk.paths().iter().filter(|path| path.starts_with("/votes")).for_each(|path| disk.remove(path).unwrap());
        self.restart(id).await
    }

    /// The replica that leads in the highest term, among those that run.
    pub(super) fn leader(&self) -> Option<u64> {
        let leads = self.running.iter().filter(|(_, replica)| replica.group.is_leader());
        leads.max_by_key(|(_, replica)| replica.group.raft.metrics().borrow_watched().current_term).map(|(id, _)| *id)
    }

    /// Waits for a leader other than `not`.
    pub(super) async fn new_leader(&self, not: u64) -> u64 {
        let found = async {
            loop {
                match self.leader() {
                    Some(leader) if leader != not => return leader,
                    _ => sleep(Duration::from_millis(50)).await,
                }
            }
        };
        timeout(SETTLE_WAIT, found).await.expect("a new leader")
    }

    /// Proposes to whoever leads, again while nobody does. An answer that does not come is [`Code::Timeout`].
    pub(super) async fn propose(&self, command: Command) -> Result<CommandResult, Error> {
        let nobody = 0;
        let tried = self.propose_beside(nobody, &command);
        timeout(ANSWER_WAIT, tried).await.unwrap_or_else(|_| Err(Error::new(Code::Timeout, "no answer")))
    }

    /// Proposes to whoever leads beside `not`, again while nobody does.
    pub(super) async fn propose_beside(&self, not: u64, command: &Command) -> Result<CommandResult, Error> {
        loop {
            let leader = self.new_leader(not).await;
            match self.propose_at(leader, command).await {
                Err(error) if error.code == Code::NotLeader => sleep(Duration::from_millis(20)).await,
                answer => return answer,
            }
        }
    }

    pub(super) async fn propose_at(&self, id: u64, command: &Command) -> Result<CommandResult, Error> {
        let mut entry = EntryBuilder::with_capacity(64);
        entry.push(command);
        let group = &self.at(id).group;
        let term = group.watch_role().borrow().term;
        let submitted = group.submit(entry.finish(1).into(), term).await?;
        let not_now = || Error::new(Code::NotLeader, "no majority answers");
        let (_, mut results) = submitted.ok_or_else(not_now)?.outcome().await?;
        results.remove(0)
    }

    /// A batch that was never written before.
    pub(super) fn batch(&mut self) -> Bytes {
        self.written += 1;
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(self.written as i64, None, Some(format!("value {}", self.written).as_bytes()), &[]);
        builder.finish()
    }

    /// Writes a batch through whoever leads; notes it if it is acknowledged.
    pub(super) async fn produce(&mut self) -> Result<(), Error> {
        let batch = self.batch();
        let answer = self.propose(append(&batch)).await;
        self.note(&batch, answer)
    }

    pub(super) async fn produce_some(&mut self, batches: usize) {
        for _ in 0..batches {
            self.produce().await.unwrap();
        }
    }

    pub(super) fn note(&mut self, batch: &Bytes, answer: Result<CommandResult, Error>) -> Result<(), Error> {
        let CommandResult::Appended { base_offset, .. } = answer? else { panic!("an append was answered otherwise") };
        let before = self.acked.insert(base_offset.0, batch.clone());
        assert_eq!(before, None, "L2: offset {base_offset} was given twice");
        Ok(())
    }

    /// Rolls everything that the leader has applied.
    pub(super) async fn roll(&self, salt: u64) -> Result<(), Error> {
        let leader = self.new_leader(0).await;
        match self.at(leader).machine.plan_roll(salt) {
            Some(roll) => self.propose(Command::Roll(roll)).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Gives a replica the segments that its manifest names and that others hold.
    pub(super) fn refetch(&self, id: u64) {
        for rec in self.at(id).machine.missing() {
            let others = self.running.values().map(|other| other.segments.lock().get(&rec.id).cloned());
            let stopped = self.stopped.values().map(|(_, segments)| segments.lock().get(&rec.id).cloned());
            if let Some(found) = others.chain(stopped).flatten().next() {
                self.at(id).segments.lock().insert(rec.id, found);
            }
        }
    }

    /// Waits until a replica has applied at least `index`.
    pub(super) async fn applied(&self, id: u64, index: RaftIndex) {
        let reached = async {
            while self.at(id).machine.applied() < index {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let applied = || self.at(id).machine.applied();
        timeout(SETTLE_WAIT, reached).await.unwrap_or_else(|_| panic!("{id} applied {} of {index}", applied()));
    }

    /// Heals everything, and waits until all replicas have applied the same.
    pub(super) async fn settle(&mut self) {
        self.network.heal();
        for id in self.ids() {
            self.restart(id).await.unwrap();
            self.at(id).stall(false);
        }
        let written = async {
            while self.produce().await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(SETTLE_WAIT, written).await.expect("a healed cluster takes writes");
        self.agree(&self.ids()).await;
    }

    /// Waits until these replicas have applied all that one of them has.
    pub(super) async fn agree(&self, replicas: &[u64]) {
        let index = replicas.iter().map(|id| self.at(*id).machine.applied()).max().unwrap();
        for id in replicas {
            self.applied(*id, index).await;
        }
    }

    /// Checks what all replicas hold, once they have settled.
    pub(super) fn check(&self) {
        let all = self.ids();
        all.iter().for_each(|id| self.refetch(*id));
        all.iter().for_each(|id| self.check_acked(*id));
        let digests: Vec<_> = all
            .iter()
            .map(|id| self.at(*id))
            .map(|replica| {
                (replica.machine.applied(), replica.machine.read(|state| state.digest()), replica.machine.batches())
            })
            .collect();
        for digest in &digests {
            assert_eq!(digest.0, digests[0].0, "they have settled");
            assert_eq!(digest.2, digests[0].2, "L2: the replicas hold other records");
            assert_eq!(digest.1, digests[0].1, "A1: the replicas' states differ");
        }
        let offsets: Vec<u64> = digests[0].2.keys().copied().collect();
        assert_eq!(offsets, (0..offsets.len() as u64).collect::<Vec<_>>(), "L2: offsets are dense");
    }

    /// L1: a replica that applied all of it has each acknowledged batch at its offset.
    pub(super) fn check_acked(&self, id: u64) {
        let held = self.at(id).machine.batches();
        for (offset, batch) in &self.acked {
            assert_eq!(held.get(offset), Some(batch), "L1: replica {id}, offset {offset}");
        }
    }
}

pub(super) fn append(batch: &Bytes) -> Command {
    Command::Append(Append { topic: TOPIC, partition: PARTITION, batch: batch.clone() })
}
