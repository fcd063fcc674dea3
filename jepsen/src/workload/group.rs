//! A consumer group through librdkafka: its members read what the group gives them, and commit by hand what they were given. Somebody
//! who is no member asks all the time what is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stratalog_client::ConsumedRecord;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Shared;
use super::kafka_consumer::{MAX_RECORDS, POLL_MS, note};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::history::{CommitOp, CommittedOp, CrashOp, Line, Outcome, Process, RebalanceOp, Role, SubscribeOp, When};
use crate::kafka::{Answer, Clients, Command, Handle, KafkaClient, Kind};

const GROUP: &str = "jepsen";
/// The shortest that Kafka allows: a member that was killed is missed after it.
const SESSION_MS: u64 = 6_000;
const COMMIT_EVERY: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long the group may take to read what is there when nothing is broken any more.
const READS_ALL_WITHIN: Duration = Duration::from_secs(90);
/// How long members may take to leave.
const LEAVES_WITHIN: Duration = Duration::from_secs(60);
/// One of so many revocations finds a member that commits nothing before: others read the same again.
const FORGETS: u32 = 4;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    /// Members leave.
    Leaving,
    /// They have left.
    Over,
}

/// A running group.
#[derive(Debug)]
pub(crate) struct Group {
    shared: Arc<Shared>,
    clients: Clients,
    phase: watch::Sender<Phase>,
    members: Vec<Running>,
    observer: Running,
    known: Arc<Known>,
}

/// What the harness knows of the group.
#[derive(Debug, Default)]
struct Known {
    /// The highest offset that was committed in each partition.
    committed: Mutex<BTreeMap<u32, u64>>,
    /// Who has which partitions.
    owned: Mutex<BTreeMap<u32, BTreeSet<u32>>>,
}

/// A process that somebody talks to.
#[derive(Debug)]
struct Running {
    process: u32,
    handle: Arc<Handle>,
    /// `None`: it was killed, and its end was waited for.
    task: Option<JoinHandle<()>>,
}

/// One who talks to a process.
struct Member {
    shared: Arc<Shared>,
    known: Arc<Known>,
    process: u32,
    client: KafkaClient,
    phase: watch::Receiver<Phase>,
    random: fastrand::Rng,
    /// What it was given and has not committed yet: partition → the next offset.
    given: BTreeMap<u32, u64>,
}

impl Group {
    /// Starts all members, if there are to be any. To be called on the thread that the harness began on.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub(super) fn start(
        shared: &Arc<Shared>,
        processes: &[Process],
        clients: &Clients,
    ) -> Result<Option<Self>, Failure> {
        let of = |role: Role| processes.iter().filter(move |process| process.role == role);
        let Some(observer) = of(Role::Observer).next() else { return Ok(None) };
        let (phase, known) = (watch::Sender::new(Phase::Reading), Arc::new(Known::default()));
        let number = observer.process;
        let client = clients.start(number, Kind::Observer, &[("group.id", GROUP.to_owned())])?;
        let handle = Arc::clone(&client.handle);
        let task = tokio::spawn(observe(Arc::clone(shared), number, client, phase.subscribe()));
        let observer = Running { process: number, handle, task: Some(task) };
        let (shared, clients) = (Arc::clone(shared), clients.clone());
        let mut group = Self { shared, clients, phase, members: Vec::new(), observer, known };
        for process in of(Role::Member) {
            let member = group.launch(process.process)?;
            group.members.push(member);
        }
        Ok(Some(group))
    }

    fn launch(&self, process: u32) -> Result<Running, Failure> {
        // Half of all runs give each member its share anew, and the other half moves as little as there is to move.
        let strategy = if self.shared.seed.is_multiple_of(2) { "cooperative-sticky" } else { "range" };
        let settings = [
            ("group.id", GROUP.to_owned()),
            ("partition.assignment.strategy", strategy.to_owned()),
            ("auto.offset.reset", "earliest".to_owned()),
            ("session.timeout.ms", SESSION_MS.to_string()),
            ("heartbeat.interval.ms", "1000".to_owned()),
            ("max.poll.interval.ms", "60000".to_owned()),
        ];
        let client = self.clients.start(process, Kind::Member, &settings)?;
        let handle = Arc::clone(&client.handle);
        let (shared, known, phase) = (Arc::clone(&self.shared), Arc::clone(&self.known), self.phase.subscribe());
        let random = shared.random(process);
        let member = Member { shared, known, process, client, phase, random, given: BTreeMap::new() };
        Ok(Running { process, handle, task: Some(tokio::spawn(member.run())) })
    }

    /// Some member, one that has partitions if there is any.
    pub(crate) fn choose(&self, random: &mut fastrand::Rng) -> usize {
        let owned = self.known.owned.lock();
        let reads = |member: &Running| owned.get(&member.process).is_some_and(|partitions| !partitions.is_empty());
        let reading: Vec<usize> = (0..self.members.len()).filter(|at| reads(&self.members[*at])).collect();
        random.choice(reading).unwrap_or_else(|| random.usize(..self.members.len()))
    }

    /// `kill -9` of a member; its number, and the partitions that it had.
    ///
    /// # Errors
    /// If the system refuses, or the harness fails.
    pub(crate) async fn kill(&mut self, member: usize) -> Result<(u32, BTreeSet<u32>), Failure> {
        let member = self.members.get_mut(member).ok_or_else(|| Failure::new("the group has no such member"))?;
        let had = self.known.owned.lock().remove(&member.process).unwrap_or_default();
        member.handle.kill()?;
        // Whatever it was about is noted before it begins anew.
        if let Some(task) = member.task.take() {
            task.await.map_err(|error| Failure(format!("a member of the group failed: {error}")))?;
        }
        Ok((member.process, had))
    }

    /// Starts a member again that was killed. To be called on the thread that the harness began on.
    ///
    /// # Errors
    /// If its process cannot be started.
    pub(crate) fn revive(&mut self, member: usize) -> Result<(), Failure> {
        let process = self.members[member].process;
        self.members[member] = self.launch(process)?;
        Ok(())
    }

    /// Waits until the group has committed all that there is, or has had the time to.
    ///
    /// # Errors
    /// If the cluster cannot be asked what there is.
    pub(crate) async fn read_all(&self, cluster: &Cluster) -> Result<(), Failure> {
        let described = cluster.client().await?.describe_topic(&self.shared.load.topic).await?;
        let ends: Vec<(u32, u64)> =
            described.partitions.iter().map(|found| (found.partition, found.high_watermark)).collect();
        let deadline = Instant::now() + READS_ALL_WITHIN;
        while !self.known.has_read(&ends) && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Has all members leave, and looks at what the group has committed in the end.
    ///
    /// # Errors
    /// If one of them does not leave, or the harness fails.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.phase.send_replace(Phase::Leaving);
        let left = futures::future::join_all(self.members.into_iter().map(Running::end)).await;
        self.phase.send_replace(Phase::Over);
        let observed = self.observer.end().await;
        left.into_iter().collect::<Result<Vec<()>, Failure>>()?;
        observed
    }
}

impl Running {
    async fn end(self) -> Result<(), Failure> {
        let Self { process, handle, task } = self;
        let Some(mut task) = task else { return Ok(()) };
        let panicked = |error| Failure(format!("process {process} of the group failed: {error}"));
        if let Ok(ended) = tokio::time::timeout(LEAVES_WITHIN, &mut task).await {
            return ended.map_err(panicked);
        }
        handle.kill()?;
        task.await.map_err(panicked)?;
        Err(Failure(format!("process {process} of the group did not end within {LEAVES_WITHIN:?}")))
    }
}

impl Known {
    fn has_read(&self, ends: &[(u32, u64)]) -> bool {
        let committed = self.committed.lock();
        ends.iter().all(|(partition, end)| committed.get(partition).copied().unwrap_or_default() >= *end)
    }

    fn committed(&self, offsets: &[(u32, u64)]) {
        let mut committed = self.committed.lock();
        for (partition, offset) in offsets {
            let highest = committed.entry(*partition).or_default();
            *highest = (*offset).max(*highest);
        }
    }
}

impl Member {
    async fn run(mut self) {
        // It ends with the process.
        let _ = self.read().await;
        let now = self.shared.history.now();
        if *self.phase.borrow() == Phase::Reading {
            self.shared.note(&Line::Crash(CrashOp { process: self.process, at: When(now, now) }));
        }
        self.shared.note_end(&self.client.handle).await;
    }

    /// Reads and commits until members leave; `None`: the process has ended.
    async fn read(&mut self) -> Option<()> {
        let (at, answer) = self.shared.timed(self.client.ask(&Command::Subscribe {})).await;
        answer?;
        let (process, group) = (self.process, GROUP.to_owned());
        self.shared.note(&Line::Subscribe(SubscribeOp { process, at, group }));
        let mut committed = Instant::now();
        while *self.phase.borrow() == Phase::Reading {
            self.hear(&Command::Poll { records: MAX_RECORDS, ms: POLL_MS }).await?;
            if committed.elapsed() >= COMMIT_EVERY {
                self.commit(None).await?;
                committed = Instant::now();
            }
        }
        self.commit(None).await?;
        self.client.handle.may_end();
        self.hear(&Command::Leave {}).await
    }

    /// Asks for records, or to leave, and takes whatever comes until that is done.
    async fn hear(&mut self, command: &Command) -> Option<()> {
        let mut since = self.shared.history.now();
        self.client.input.say(command).await;
        loop {
            match self.client.answers.next().await? {
                Answer::Records { records, done, error } => {
                    let records: Vec<ConsumedRecord> = records.into_iter().map(Into::into).collect();
                    note(&self.shared, self.process, since, &records, error);
                    let next = records.iter().map(|record| (record.partition.0, record.offset.0 + 1));
                    self.given.extend(next);
                    if done {
                        return Some(());
                    }
                }
                Answer::Gained { partitions } => self.gained(since, partitions),
                Answer::Losing { partitions } => {
                    if self.random.u32(..FORGETS) != 0 || *self.phase.borrow() != Phase::Reading {
                        self.commit(Some(&partitions)).await?;
                    }
                    self.lost(since, partitions);
                    // What comes now comes after this.
                    since = self.shared.history.now();
                    self.client.input.say(&Command::Resume {}).await;
                }
                Answer::Lost { partitions } => self.lost(since, partitions),
                Answer::Left {} => return Some(()),
                _ => return None,
            }
        }
    }

    fn gained(&mut self, since: u64, gained: Vec<u32>) {
        self.known.owned.lock().entry(self.process).or_default().extend(&gained);
        self.note_rebalance(since, gained, Vec::new());
    }

    fn lost(&mut self, since: u64, lost: Vec<u32>) {
        self.given.retain(|partition, _| !lost.contains(partition));
        self.known.owned.lock().entry(self.process).or_default().retain(|partition| !lost.contains(partition));
        self.note_rebalance(since, Vec::new(), lost);
    }

    fn note_rebalance(&self, since: u64, gained: Vec<u32>, lost: Vec<u32>) {
        let (process, at) = (self.process, When(since, self.shared.history.now()));
        self.shared.note(&Line::Rebalance(RebalanceOp { process, at, gained, lost }));
    }

    /// Commits what it was given, of all partitions or of some; `None`: the process has ended.
    async fn commit(&mut self, of: Option<&[u32]>) -> Option<()> {
        let is_meant = |partition: u32| of.is_none_or(|of| of.contains(&partition));
        let offsets: Vec<(u32, u64)> =
            self.given.iter().map(|(at, next)| (*at, *next)).filter(|(at, _)| is_meant(*at)).collect();
        if offsets.is_empty() {
            return Some(());
        }
        let invoked = self.shared.history.now();
        let answer = self.client.ask(&Command::Commit { offsets: offsets.clone() }).await;
        let at = When(invoked, self.shared.history.now());
        let Some(Answer::Committed { offsets: told, error }) = answer else {
            self.note_commit(at, offsets, Outcome::Info("the client told nothing of it".to_owned()));
            return None;
        };
        let refused = |partition: u32| match told.iter().find(|(told, _)| *told == partition) {
            Some((_, refused)) => refused.clone(),
            None => Some(error.clone().unwrap_or_else(|| "the answer does not tell of it".to_owned())),
        };
        let (done, unknown): (Vec<_>, Vec<_>) =
            offsets.into_iter().partition(|(partition, _)| refused(*partition).is_none());
        let why = unknown.first().and_then(|(partition, _)| refused(*partition));
        self.known.committed(&done);
        self.given.retain(|partition, next| !done.contains(&(*partition, *next)));
        self.note_commit(at, done, Outcome::Ok(()));
        // The client tries some of them again by itself: the first try may have done it.
        self.note_commit(at, unknown, Outcome::Info(why.unwrap_or_default()));
        Some(())
    }

    fn note_commit(&self, at: When, offsets: Vec<(u32, u64)>, outcome: Outcome<()>) {
        if !offsets.is_empty() {
            let (process, group) = (self.process, GROUP.to_owned());
            self.shared.note(&Line::Commit(CommitOp { process, at, group, offsets, outcome }));
        }
    }
}

/// Asks what is committed, and once more when all members have left.
async fn observe(shared: Arc<Shared>, process: u32, mut client: KafkaClient, phase: watch::Receiver<Phase>) {
    let partitions: Vec<u32> = (0..shared.load.partitions).collect();
    loop {
        let is_last = *phase.borrow() == Phase::Over;
        let command = Command::Committed { partitions: partitions.clone() };
        let (at, answer) = shared.timed(client.ask(&command)).await;
        let Some(Answer::Offsets { offsets, error }) = answer else { break };
        let read = error.is_none();
        let outcome = error.map_or(Outcome::Ok(offsets), Outcome::Fail);
        shared.note(&Line::Committed(CommittedOp { process, at, group: GROUP.to_owned(), outcome }));
        if is_last && read {
            client.handle.may_end();
            client.input.say(&Command::End {}).await;
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    shared.note_end(&client.handle).await;
}
