//! A shard without Raft or a log on disk: the real replicated state, entries in memory, segments in a directory.

mod copies;
mod works;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use stratalog_proto::batch::{Batch, BatchBuilder, Compression, Record};
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::{Append, Command, Entry, EntryBuilder};
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, ShardId, TenantId, Term, TopicId, internal};
use stratalog_query::{PartitionInfo, ShardSnapshot, TopicInfo};
use stratalog_storage::col::system;
use stratalog_storage::{Io, Manifest, RealDisk};
use tokio::sync::watch;

use super::catalog::Directory;
use super::extent::{Extent, Sealed};
use super::log::{HostedTopic, RemovedListener, RowLog, unsealed_after};
use crate::outcome::CommandResult;
use crate::shard::testing::rec_of;
use crate::shard::{Applied, AppliedBatch, Passed, ShardState, Unreadable, Wanted};

pub(super) use copies::{AloneCopies, FakeCopies};
pub(super) use works::{rows_over, rows_with};

/// What happens to the next Seal or Merge that is proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum SealFate {
    #[default]
    Applies,
    /// It applies, and its answer is lost.
    AnswerLost,
    /// Nobody hears of it, and nobody says so.
    Lost,
    /// Its answer is lost, and it applies when [`MemLog::apply_late`] is called.
    Late,
    /// It is refused.
    Refused,
}

pub(super) struct MemLog {
    state: Mutex<ShardState>,
    entries: Mutex<Vec<Bytes>>,
    applied: watch::Sender<RaftIndex>,
    leading: watch::Sender<Option<Term>>,
    term: Mutex<Term>,
    listener: Mutex<Option<RemovedListener>>,
    pub(super) fate: Mutex<SealFate>,
    /// Entries that cannot be read.
    pub(super) lost: Mutex<BTreeSet<RaftIndex>>,
    late: Mutex<Vec<Command>>,
    /// The first offset of each batch and the one past its last, by its entry and its place there.
    offsets: Mutex<BTreeMap<(RaftIndex, u32), (Offset, Offset)>>,
    clock: AtomicI64,
    dir: PathBuf,
    io: Arc<dyn Io>,
    shard: ShardId,
}

/// The time of the first entry: 2026-01-31T23:59:59Z.
pub(super) const NOW_NS: i64 = 1_769_903_999_000_000_000;

impl MemLog {
    pub(super) fn new(dir: &Path) -> Arc<Self> {
        Self::on(Arc::new(RealDisk), dir)
    }

    /// An empty log whose segments are in a directory of this disk.
    pub(super) fn on(io: Arc<dyn Io>, dir: &Path) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(ShardState::new()),
            entries: Mutex::default(),
            applied: watch::Sender::new(RaftIndex(0)),
            leading: watch::Sender::new(Some(Term(1))),
            term: Mutex::new(Term(1)),
            listener: Mutex::default(),
            fate: Mutex::default(),
            lost: Mutex::default(),
            late: Mutex::default(),
            offsets: Mutex::default(),
            clock: AtomicI64::new(NOW_NS),
            dir: dir.to_owned(),
            io,
            shard: ShardId(1),
        })
    }

    /// An empty log of another shard.
    pub(super) fn of_shard(shard: ShardId, dir: &Path) -> Arc<Self> {
        let log = Arc::into_inner(Self::new(dir)).expect("nobody else has it yet");
        Arc::new(Self { shard, ..log })
    }

    /// The same log after a restart: every entry is applied again, over what this disk holds. Proposals whose answer was lost
    /// may still apply.
    pub(super) fn reopened(&self, io: Arc<dyn Io>) -> Arc<Self> {
        let next = Self::on(io, &self.dir);
        for payload in &*self.entries.lock() {
            next.apply_entry(payload.clone());
        }
        next.clock.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        *next.late.lock() = std::mem::take(&mut *self.late.lock());
        next
    }

    /// Another replica that has applied the same entries, with its segments in another directory. It does not lead.
    pub(super) fn follower(&self, dir: &Path) -> Arc<Self> {
        let next = Self::new(dir);
        self.entries.lock().iter().for_each(|payload| drop(next.apply_entry(payload.clone())));
        next.lead(self.current_term().0, false);
        next
    }

    /// Applies what another replica has applied beyond.
    pub(super) fn follow(&self, leader: &Self) {
        let seen = self.applied().0 as usize;
        let new: Vec<Bytes> = leader.entries.lock().iter().skip(seen).cloned().collect();
        new.into_iter().for_each(|payload| drop(self.apply_entry(payload)));
    }

    /// The proposals whose answer was lost, which are never applied here then.
    pub(super) fn take_late(&self) -> Vec<Command> {
        std::mem::take(&mut *self.late.lock())
    }

    /// Applies the oldest proposal whose answer was lost, or forgets it; whether there was one.
    pub(super) fn apply_late(&self, forget: bool) -> bool {
        let mut late = self.late.lock();
        if late.is_empty() {
            return false;
        }
        let command = late.remove(0);
        drop(late);
        if !forget {
            self.apply(&[command]).remove(0).ok();
        }
        true
    }

    /// From now on it leads in this term, or another replica does.
    pub(super) fn lead(&self, term: u64, leads: bool) {
        *self.term.lock() = Term(term);
        self.leading.send_replace(leads.then_some(Term(term)));
    }

    /// What the state is now.
    pub(super) fn read<R>(&self, f: impl FnOnce(&ShardState) -> R) -> R {
        f(&self.state.lock())
    }

    /// Applies commands as one entry.
    pub(super) fn apply(&self, commands: &[Command]) -> Vec<Result<CommandResult, Error>> {
        let mut builder = EntryBuilder::with_capacity(0);
        commands.iter().for_each(|command| builder.push(command));
        self.apply_entry(builder.finish(self.clock.fetch_add(1_000_000, Ordering::Relaxed)))
    }

    fn apply_entry(&self, payload: Bytes) -> Vec<Result<CommandResult, Error>> {
        let entry = Entry::parse(payload.clone()).unwrap();
        let mut entries = self.entries.lock();
        entries.push(payload);
        let index = RaftIndex(entries.len() as u64);
        let effects = self.state.lock().apply(index, self.current_term(), &entry).unwrap();
        self.remember_batches(index, &entry);
        if let Some(listener) = self.listener.lock().as_ref().filter(|_| !effects.removed.is_empty()) {
            listener(&effects.removed);
        }
        self.applied.send_replace(index);
        effects.results
    }

    /// Where the batches of an entry came to lie: the state forgets it once they are rolled.
    fn remember_batches(&self, index: RaftIndex, entry: &Entry) {
        let (state, mut commands) = (self.state.lock(), entry.commands());
        while let Some(command) = commands.next() {
            let Command::Append(append) = command.unwrap() else { continue };
            let at = (commands.position() - append.batch.len()) as u32;
            let partition = state.partition(append.topic, append.partition);
            if let Some(slot) = partition.and_then(|partition| partition.slot_at(index, at)) {
                self.offsets.lock().insert((index, at), (slot.base_offset, slot.next_offset()));
            }
        }
    }

    pub(super) fn create(&self, topic: &TopicInfo) {
        let partitions = (0..topic.partitions).collect();
        let config = Some(topic.config.to_internal());
        let put = internal::PutTopic { topic: topic.id.to_bytes(), partitions, config };
        self.apply(&[Command::PutTopic(put)])[0].as_ref().unwrap();
    }

    /// Appends values to a partition as one batch; the index of its entry.
    pub(super) fn produce(&self, topic: &TopicInfo, partition: u32, values: &[&str]) -> RaftIndex {
        let batch = batch_of(values);
        let append = Append { topic: topic.id, partition: PartitionId(partition), batch };
        self.apply(&[Command::Append(append)])[0].as_ref().unwrap();
        self.applied()
    }

    /// Rolls everything that is applied, into a segment that is nowhere; where the replay frontier is then.
    pub(super) fn roll(&self) -> RaftIndex {
        let (expect, next) = (self.state.lock().replay_frontier(), self.applied());
        let batches = self.state.lock().batches_between(expect, next);
        let segments = vec![rec_of(next.0.into(), expect.0, next.0, &batches)];
        let roll = internal::Roll { expect: expect.0, next: next.0, segments };
        self.apply(&[Command::Roll(roll)])[0].as_ref().unwrap();
        next
    }

    fn index_entry(&self, index: RaftIndex) -> Entry {
        Entry::parse(self.entries.lock()[index.0 as usize - 1].clone()).unwrap()
    }
}

/// One batch of records with these values, timestamps from [`NOW_NS`] on.
pub(super) fn batch_of(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for (n, value) in values.iter().enumerate() {
        builder.push(NOW_NS / 1_000_000 + n as i64, None, Some(value.as_bytes()), &[]);
    }
    builder.finish()
}

#[async_trait]
impl RowLog for MemLog {
    fn id(&self) -> ShardId {
        self.shard
    }

    fn applied(&self) -> RaftIndex {
        *self.applied.borrow()
    }

    fn watch_applied(&self) -> watch::Receiver<RaftIndex> {
        self.applied.subscribe()
    }

    fn watch_leading(&self) -> watch::Receiver<Option<Term>> {
        self.leading.subscribe()
    }

    fn leads_in(&self, term: Term) -> bool {
        *self.leading.borrow() == Some(term)
    }

    fn current_term(&self) -> Term {
        *self.term.lock()
    }

    fn applied_term(&self) -> Term {
        self.current_term()
    }

    fn unsealed_after(&self) -> Option<RaftIndex> {
        unsealed_after(&self.state.lock())
    }

    fn batches_after(&self, after: RaftIndex, wanted: Wanted<'_>, max_bytes: usize) -> Applied {
        let applied = self.applied();
        let mut found = Applied { batches: Vec::new(), through: after, unreadable: Vec::new() };
        let mut bytes = 0;
        while found.through < applied && (found.batches.is_empty() || bytes < max_bytes) {
            let index = RaftIndex(found.through.0 + 1);
            let entry = self.index_entry(index);
            let mut commands = entry.commands();
            while let Some(command) = commands.next() {
                let Command::Append(append) = command.unwrap() else { continue };
                let held = found.unreadable.iter().any(|lost| lost.topic == append.topic);
                if held || !wanted.has(append.topic) {
                    continue;
                }
                if self.lost.lock().contains(&index) {
                    let error = Error::new(Code::CorruptData, format!("entry {index} is damaged"));
                    found.unreadable.push(Unreadable { topic: append.topic, index, error });
                    continue;
                }
                let at = (commands.position() - append.batch.len()) as u32;
                let state = self.state.lock();
                let partition = state.partition(append.topic, append.partition);
                let Some(log_start) = partition.map(|partition| partition.log_start()) else { continue };
                let offsets = self.offsets.lock().get(&(index, at)).copied();
                let Some((base_offset, _)) = offsets.filter(|(_, next)| *next > log_start) else { continue };
                bytes += append.batch.len();
                found.batches.push(AppliedBatch {
                    index,
                    topic: append.topic,
                    partition: append.partition,
                    base_offset,
                    entry_time_ns: entry.time_ns(),
                    batch: append.batch,
                });
            }
            found.through = index;
        }
        found
    }

    fn topics(&self) -> Vec<HostedTopic> {
        HostedTopic::all(&self.state.lock())
    }

    fn manifest(&self) -> Manifest {
        self.state.lock().manifest().clone()
    }

    fn extent(&self, topic: TopicId) -> Extent {
        Extent::of(&self.state.lock(), topic)
    }

    fn extent_and_sealed(&self, topic: TopicId) -> (Extent, Sealed) {
        self.read(|state| (Extent::of(state, topic), Sealed::of(state, topic)))
    }

    fn passed(&self, topic: TopicId, index: RaftIndex) -> BTreeMap<PartitionId, Passed> {
        self.state.lock().passed(topic, index)
    }

    fn rehearse(&self, topic: TopicId, commands: &[Command]) -> Result<Extent, Error> {
        let copy = self.state.lock().clone();
        Ok(Extent::of(&copy.rehearse(commands)?, topic))
    }

    fn partitions(&self, topic: TopicId) -> Vec<PartitionInfo> {
        let state = self.state.lock();
        let partitions = state.topic(topic).into_iter().flat_map(|topic| topic.partitions());
        let info = partitions.map(|(partition, state)| PartitionInfo {
            partition,
            shard: self.id(),
            log_start: state.log_start(),
            high_watermark: state.high_watermark(),
            bytes: state.bytes(),
        });
        info.collect()
    }

    fn offsets_through(&self, topic: TopicId, index: RaftIndex) -> Option<u64> {
        self.state.lock().offsets_through(topic, index)
    }

    async fn propose(&self, command: Command) -> Result<CommandResult, Error> {
        if matches!(command, Command::Barrier(_)) {
            // What was proposed before it is applied by the time that it is, or never will be.
            while self.apply_late(self.applied().0.is_multiple_of(2)) {}
        }
        let fate = match &command {
            Command::Seal(_) | Command::Merge(_) => std::mem::take(&mut *self.fate.lock()),
            _ => SealFate::Applies,
        };
        let lost = || Error::new(Code::Timeout, "the answer is lost");
        match fate {
            SealFate::Applies => self.apply(&[command]).remove(0),
            SealFate::AnswerLost => self.apply(&[command]).remove(0).and(Err(lost())),
            SealFate::Lost => Err(lost()),
            SealFate::Late => {
                self.late.lock().push(command);
                Err(lost())
            }
            SealFate::Refused => Err(Error::new(Code::Conflict, "refused")),
        }
    }

    async fn propose_in(&self, term: Term, command: Command) -> Result<CommandResult, Error> {
        match self.leads_in(term) {
            true => self.propose(command).await,
            false => Err(Error::new(Code::NotLeader, format!("it was built in term {term}"))),
        }
    }

    fn on_segments_removed(&self, listener: RemovedListener) {
        *self.listener.lock() = Some(listener);
    }

    fn segments_dir(&self) -> &Path {
        &self.dir
    }

    fn io(&self) -> &Arc<dyn Io> {
        &self.io
    }

    fn records(&self, topic: TopicId, rows: &[(PartitionId, Offset)]) -> Result<Vec<Option<Record>>, Error> {
        let record = |(partition, offset): &(PartitionId, Offset)| {
            let slot = self.state.lock().partition(topic, *partition).and_then(|p| p.batch_with(*offset).copied());
            let Some(slot) = slot else { return Ok(None) };
            if self.lost.lock().contains(&slot.index) {
                return Err(Error::new(Code::CorruptData, format!("entry {} is damaged", slot.index)));
            }
            let payload = self.entries.lock()[slot.index.0 as usize - 1].clone();
            let batch = Batch::parse(payload.slice(slot.at as usize..(slot.at + slot.len) as usize))?;
            let record = batch.records(1 << 20)?.nth((offset.0 - slot.base_offset.0) as usize).unwrap();
            Ok(Some(record?))
        };
        rows.iter().map(record).collect()
    }
}

/// A directory of fixed topics.
pub(super) struct FixedTopics(pub(super) Vec<Arc<TopicInfo>>);

impl Directory for FixedTopics {
    fn version(&self) -> u64 {
        1
    }

    fn topics(&self) -> Vec<Arc<TopicInfo>> {
        self.0.clone()
    }
}

/// A topic of shard 1.
pub(super) fn topic(name: &str, partitions: u32, config: TopicConfig) -> Arc<TopicInfo> {
    Arc::new(TopicInfo {
        id: TopicId::new(),
        tenant: TenantId(0),
        name: name.to_owned(),
        partitions,
        config,
        shards: vec![ShardId(1); partitions as usize],
    })
}

/// (partition, offset) of every row of a batch.
pub(super) fn places(rows: &RecordBatch) -> Vec<(i32, i64)> {
    let partitions = rows.column_by_name(system::PARTITION).unwrap().as_primitive::<Int32Type>();
    let offsets = rows.column_by_name(system::OFFSET).unwrap().as_primitive::<Int64Type>();
    partitions.values().iter().copied().zip(offsets.values().iter().copied()).collect()
}

/// (partition, offset) of every row in segments and tail at or above log start, ascending.
pub(super) fn visible(snapshot: &ShardSnapshot) -> Vec<(i32, i64)> {
    let mut found: Vec<(i32, i64)> = snapshot.tail.iter().flat_map(|chunk| places(&chunk.rows)).collect();
    for segment in &snapshot.segments {
        let reader = segment.reader().unwrap();
        let at = |name| reader.schema().index_of(name).unwrap();
        let (partition, offset) = (at(system::PARTITION), at(system::OFFSET));
        for granule in 0..reader.granules() {
            let partitions = reader.read(partition, granule).unwrap();
            let offsets = reader.read(offset, granule).unwrap();
            let partitions = partitions.as_primitive::<Int32Type>().values();
            found.extend(partitions.iter().copied().zip(offsets.as_primitive::<Int64Type>().values().iter().copied()));
        }
    }
    let log_start = |partition: i32| snapshot.log_starts.get(&PartitionId(partition as u32)).map_or(0, |start| start.0);
    found.retain(|(partition, offset)| *offset as u64 >= log_start(*partition));
    found.sort_unstable();
    found
}
