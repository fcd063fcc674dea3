//! A shard without Raft or a log on disk: the real replicated state, entries in memory, segments in a directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use stratalog_proto::batch::{Batch, BatchBuilder, Compression};
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::{Append, Command, Entry, EntryBuilder};
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, ShardId, TenantId, Term, TopicId, internal};
use stratalog_query::{PartitionInfo, ShardSnapshot, TopicInfo};
use stratalog_storage::col::system;
use stratalog_storage::{Io, Manifest, RealDisk};
use tokio::sync::watch;

use super::catalog::Directory;
use super::log::{HostedTopic, RemovedListener, RowLog, unsealed_after};
use crate::outcome::CommandResult;
use crate::shard::testing::rec_of;
use crate::shard::{Applied, AppliedBatch, ShardState, Unreadable, Wanted};

/// What happens to the next Seal that is proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum SealFate {
    #[default]
    Applies,
    /// It applies, and its answer is lost.
    AnswerLost,
    /// Nobody hears of it, and nobody says so.
    Lost,
    /// It is refused.
    Refused,
}

pub(super) struct MemLog {
    state: Mutex<ShardState>,
    entries: Mutex<Vec<Bytes>>,
    applied: watch::Sender<RaftIndex>,
    listener: Mutex<Option<RemovedListener>>,
    pub(super) fate: Mutex<SealFate>,
    /// Entries that cannot be read.
    pub(super) lost: Mutex<BTreeSet<RaftIndex>>,
    clock: AtomicI64,
    dir: PathBuf,
    io: Arc<dyn Io>,
}

/// The time of the first entry: 2026-01-31T23:59:59Z.
pub(super) const NOW_NS: i64 = 1_769_903_999_000_000_000;

impl MemLog {
    pub(super) fn new(dir: &Path) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(ShardState::new()),
            entries: Mutex::default(),
            applied: watch::Sender::new(RaftIndex(0)),
            listener: Mutex::default(),
            fate: Mutex::default(),
            lost: Mutex::default(),
            clock: AtomicI64::new(NOW_NS),
            dir: dir.to_owned(),
            io: Arc::new(RealDisk),
        })
    }

    /// Applies commands as one entry.
    pub(super) fn apply(&self, commands: &[Command]) -> Vec<Result<CommandResult, Error>> {
        let mut builder = EntryBuilder::with_capacity(0);
        commands.iter().for_each(|command| builder.push(command));
        let payload = builder.finish(self.clock.fetch_add(1_000_000, Ordering::Relaxed));
        let entry = Entry::parse(payload.clone()).unwrap();
        let mut entries = self.entries.lock();
        entries.push(payload);
        let index = RaftIndex(entries.len() as u64);
        let effects = self.state.lock().apply(index, Term(1), &entry).unwrap();
        if let Some(listener) = self.listener.lock().as_ref().filter(|_| !effects.removed.is_empty()) {
            listener(&effects.removed);
        }
        self.applied.send_replace(index);
        effects.results
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
        ShardId(1)
    }

    fn applied(&self) -> RaftIndex {
        *self.applied.borrow()
    }

    fn watch_applied(&self) -> watch::Receiver<RaftIndex> {
        self.applied.subscribe()
    }

    fn is_leader(&self) -> bool {
        true
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
                let slot = state.partition(append.topic, append.partition).and_then(|p| p.slot_at(index, at));
                let Some(slot) = slot else { continue };
                bytes += append.batch.len();
                found.batches.push(AppliedBatch {
                    index,
                    topic: append.topic,
                    partition: append.partition,
                    base_offset: slot.base_offset,
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
        let fate = match &command {
            Command::Seal(_) => std::mem::take(&mut *self.fate.lock()),
            _ => SealFate::Applies,
        };
        let lost = || Error::new(Code::Timeout, "the answer is lost");
        match fate {
            SealFate::Applies => self.apply(&[command]).remove(0),
            SealFate::AnswerLost => self.apply(&[command]).remove(0).and(Err(lost())),
            SealFate::Lost => Err(lost()),
            SealFate::Refused => Err(Error::new(Code::Conflict, "refused")),
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

    fn values(&self, topic: TopicId, rows: &[(PartitionId, Offset)]) -> Result<Vec<Option<Bytes>>, Error> {
        let value = |(partition, offset): &(PartitionId, Offset)| {
            let slot = self.state.lock().partition(topic, *partition).and_then(|p| p.batch_with(*offset).copied());
            let Some(slot) = slot else { return Ok(None) };
            let payload = self.entries.lock()[slot.index.0 as usize - 1].clone();
            let batch = Batch::parse(payload.slice(slot.at as usize..(slot.at + slot.len) as usize))?;
            let record = batch.records(1 << 20)?.nth((offset.0 - slot.base_offset.0) as usize).unwrap();
            Ok(record?.value)
        };
        rows.iter().map(value).collect()
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

/// (partition, offset) of every row in segments and tail, ascending.
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
    found.sort_unstable();
    found
}
