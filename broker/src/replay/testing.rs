//! A log of entries without Raft, and a store over the simulated disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use stratalog_proto::batch::{Batch, BatchBuilder, Compression};
use stratalog_proto::entry::{Append, Command, Entry, EntryBuilder};
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, ShardId, Term, TopicId, internal};
use stratalog_storage::Io;
use stratalog_storage::simulation::SimDisk;

use super::build::{Entries, Placed, Range, build};
use super::store::RecStore;
use crate::shard::{BatchSlot, Shard};

pub(super) const SHARD: ShardId = ShardId(7);

/// Rolls everything that a shard has applied; where its replay frontier is then.
pub(crate) async fn roll(shard: &Shard) -> RaftIndex {
    let range = Range { after: shard.read(|state| state.replay_frontier()), through: shard.applied() };
    let placed = shard.read(|state| state.batches_between(range.after, range.through));
    let built = build(shard.recs(), shard.group().log(), range, placed).unwrap();
    built.iter().for_each(|meta| shard.recs().adopt(Arc::new(meta.clone())));
    let segments = built.iter().map(internal::RecMeta::from).collect();
    let roll = internal::Roll { expect: range.after.0, next: range.through.0, segments };
    shard.propose(Command::Roll(roll)).await.unwrap();
    range.through
}

/// Lets go of the log that is rolled, as the roller does after a snapshot.
pub(crate) async fn release(shard: &Arc<Shard>) {
    let taken = shard.group().snapshot().await.unwrap();
    shard.group().purge(taken.frontier).await.unwrap();
    shard.group().log().release(taken.frontier);
}

/// A disk with a directory for segments, and the store of it.
pub(super) fn store() -> (SimDisk, Arc<RecStore>) {
    let disk = SimDisk::seeded(1);
    disk.create_dir_all(Path::new("/segments")).unwrap();
    (disk.clone(), store_on(&disk))
}

pub(super) fn store_on(disk: &SimDisk) -> Arc<RecStore> {
    Arc::new(RecStore::new(Arc::new(disk.clone()), Path::new("/segments"), SHARD, Arc::new(())))
}

/// Entries from index 1 on, and what apply makes of them.
#[derive(Default)]
pub(super) struct Log {
    entries: Vec<(Bytes, Term)>,
    pub(super) placed: Vec<Placed>,
    /// How often an entry was read.
    pub(super) reads: AtomicUsize,
}

impl Log {
    /// Appends an entry with one batch for each of the given partitions, of so many bytes.
    pub(super) fn append(&mut self, term: u64, batches: &[(TopicId, u32, usize)]) {
        let index = RaftIndex(self.entries.len() as u64 + 1);
        let mut entry = EntryBuilder::with_capacity(0);
        for (topic, partition, bytes) in batches {
            let batch = batch(index.0 as u8, *bytes);
            entry.push(&Command::Append(Append { topic: *topic, partition: PartitionId(*partition), batch }));
        }
        let payload = entry.finish(index.0 as i64 * 100);
        self.place(index, &payload);
        self.entries.push((payload, Term(term)));
    }

    fn place(&mut self, index: RaftIndex, payload: &Bytes) {
        let entry = Entry::parse(payload.clone()).unwrap();
        let mut commands = entry.commands();
        while let Some(command) = commands.next() {
            let Command::Append(append) = command.unwrap() else { continue };
            let of_partition =
                |(topic, partition, _): &&Placed| (*topic, *partition) == (append.topic, append.partition);
            let last = self.placed.iter().filter(of_partition).map(|(_, _, slot)| slot.next_offset()).max();
            let header = Batch::parse(append.batch.clone()).unwrap().header().clone();
            let slot = BatchSlot {
                base_offset: last.unwrap_or(Offset(0)),
                records: header.record_count as u32,
                index,
                at: (commands.position() - append.batch.len()) as u32,
                len: append.batch.len() as u32,
                max_timestamp_ms: header.max_timestamp_ms,
            };
            self.placed.push((append.topic, append.partition, slot));
        }
    }

    /// All of it.
    pub(super) fn range(&self) -> Range {
        Range { after: RaftIndex(0), through: RaftIndex(self.entries.len() as u64) }
    }
}

impl Entries for Log {
    fn entry(&self, index: RaftIndex) -> Result<(Bytes, Term), Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let entry = self.entries.get(index.0 as usize - 1).cloned();
        entry.ok_or_else(|| Error::new(Code::Internal, format!("no entry {index}")))
    }
}

/// A batch of one record, about so large.
pub(super) fn batch(seed: u8, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(i64::from(seed), None, Some(&vec![seed; bytes]), &[]);
    builder.finish()
}
