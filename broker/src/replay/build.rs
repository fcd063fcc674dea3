//! Building the replay segments of a range: a pure function of the entries and of what apply made of them, so that every
//! replica builds the same files.

use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::entry::Entry;
use stratalog_proto::{Code, Error, PartitionId, RaftIndex, SegmentId, ShardId, Term, TopicId};
use stratalog_storage::{ErasedOffsets, RecBatch, RecMeta, RecSpec, write_rec};

use super::store::RecStore;
use crate::raft::GroupLog;
use crate::shard::{BatchSlot, PendingRec};

/// A topic with fewer bytes in a roll shares a packed segment with others of its kind.
const OWN_FILE_BYTES: u64 = 8 << 20;

/// Where a batch is, and whose it is.
pub(crate) type Placed = (TopicId, PartitionId, BatchSlot);

/// Where entries are read from. Blocks.
pub(crate) trait Entries {
    /// The commands of an applied entry, and its term.
    ///
    /// # Errors
    /// The entry cannot be read, or is not here.
    fn entry(&self, index: RaftIndex) -> Result<(Bytes, Term), Error>;
}

impl Entries for GroupLog {
    fn entry(&self, index: RaftIndex) -> Result<(Bytes, Term), Error> {
        let no_commands = || broken(self.shard(), index, "the entry has no commands");
        Ok((self.payload(index)?.ok_or_else(no_commands)?, self.term_of(index)))
    }
}

/// A range of a shard's log: the entries above `after`, up to `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) after: RaftIndex,
    pub(crate) through: RaftIndex,
}

/// Builds the segments of a range: one for each large topic, one for all others. They are durable and verified when this
/// returns (L4), and nothing is left of them if it fails. Blocks.
///
/// # Errors
/// Those of reading entries and of writing segments.
pub(crate) fn build(
    store: &RecStore,
    entries: &dyn Entries,
    range: Range,
    placed: Vec<Placed>,
) -> Result<Vec<RecMeta>, Error> {
    let mut written = Vec::new();
    for (file, batches) in files_of(load(store.shard(), entries, placed)?) {
        let spec = RecSpec { id: file, shard: store.shard(), after: range.after, through: range.through };
        let built = write_rec(&**store.io(), store.dir(), &spec, &batches).map_err(Error::from);
        match built.and_then(|meta| verified(store, meta)) {
            Ok(meta) => written.push(meta),
            Err(error) => {
                written.iter().for_each(|meta| store.discard(meta));
                return Err(error);
            }
        }
    }
    Ok(written)
}

/// L4: reads back what was written, before anything that it was made of may go. What turns out damaged is unlinked.
fn verified(store: &RecStore, built: RecMeta) -> Result<RecMeta, Error> {
    match store.verify(&built) {
        Ok(()) => Ok(built),
        Err(error) => {
            store.discard(&built);
            Err(error)
        }
    }
}

/// Makes a segment that an applied command brought in, of the log or of the segment that it replaces, and makes it known.
/// Blocks.
///
/// # Errors
/// As [`rebuild`] and [`repack_as`].
pub(crate) fn make(store: &RecStore, entries: &dyn Entries, pending: PendingRec) -> Result<(), Error> {
    let made = match &pending.replaces {
        Some(from) => repack_as(store, from, &pending.meta, &pending.erased),
        None => rebuild(store, entries, &pending.meta, pending.batches),
    };
    match made {
        Ok(()) => store.adopt(pending.meta),
        Err(_) => store.note_unmade(pending.meta.id),
    }
    made
}

/// Builds again what another replica built: the segment `meta` of exactly these batches. Blocks.
///
/// # Errors
/// As [`build`], and [`Code::CorruptData`] if it turns out to be another file (A1).
fn rebuild(store: &RecStore, entries: &dyn Entries, meta: &RecMeta, placed: Vec<Placed>) -> Result<(), Error> {
    let batches = load(store.shard(), entries, placed)?;
    let spec = RecSpec { id: meta.id, shard: store.shard(), after: meta.after, through: meta.through };
    let built = write_rec(&**store.io(), store.dir(), &spec, &batches)?;
    same(store, meta, Some(verified(store, built)?))
}

/// Rewrites a segment, keeping these partitions of it, without the records that are erased. Blocks.
///
/// # Errors
/// Those of reading and writing segments.
pub(crate) fn repack(
    store: &RecStore,
    from: &Arc<RecMeta>,
    id: SegmentId,
    keep: &[(TopicId, PartitionId)],
    erased: &ErasedOffsets,
) -> Result<Option<RecMeta>, Error> {
    let built = stratalog_storage::repack(&**store.io(), store.dir(), &*store.reader(from)?, id, keep, erased)?;
    built.map(|meta| verified(store, meta)).transpose()
}

/// Rewrites a segment as another replica did. Blocks.
///
/// # Errors
/// As [`repack`] and [`rebuild`].
fn repack_as(store: &RecStore, from: &Arc<RecMeta>, meta: &RecMeta, erased: &ErasedOffsets) -> Result<(), Error> {
    let keep: Vec<_> = meta.ranges().map(|(topic, range)| (topic, range.partition)).collect();
    same(store, meta, repack(store, from, meta.id, &keep, erased)?)
}

/// A1: a segment is the same on every replica. One that is not is unlinked.
fn same(store: &RecStore, expected: &RecMeta, built: Option<RecMeta>) -> Result<(), Error> {
    if built.as_ref().is_some_and(|built| built.is_same_file(expected)) {
        return Ok(());
    }
    store.discard(expected);
    let shard = store.shard();
    let bytes = built.map_or(0, |built| built.bytes);
    let message = format!(
        "A1: replay segment {} of shard {shard} came out different here from what the leader built ({} bytes, {} there)",
        expected.id, bytes, expected.bytes
    );
    Err(Error::new(Code::CorruptData, message))
}

/// Reads the batches of a range, each entry once and in the order of the log; sorted as a segment holds them.
fn load(shard: ShardId, entries: &dyn Entries, mut placed: Vec<Placed>) -> Result<Vec<RecBatch>, Error> {
    placed.sort_unstable_by_key(|(_, _, slot)| (slot.index, slot.at));
    let mut batches = Vec::with_capacity(placed.len());
    for of_entry in placed.chunk_by(|(_, _, a), (_, _, b)| a.index == b.index) {
        let index = of_entry[0].2.index;
        let (payload, term) = entries.entry(index)?;
        let entry_time_ns = Entry::parse(payload.clone())?.time_ns();
        for (topic, partition, slot) in of_entry {
            let range = slot.at as usize..slot.at as usize + slot.len as usize;
            if range.end > payload.len() {
                return Err(broken(shard, index, "it is shorter than the batches that were applied of it"));
            }
            batches.push(RecBatch {
                topic: *topic,
                partition: *partition,
                base_offset: slot.base_offset,
                index,
                at: slot.at,
                leader_epoch: i32::try_from(term.0).unwrap_or(i32::MAX),
                entry_time_ns,
                batch: payload.slice(range),
            });
        }
    }
    batches.sort_unstable_by_key(|batch| (batch.topic, batch.partition, batch.base_offset));
    Ok(batches)
}

/// Which batches go into which file; the ids are new.
fn files_of(batches: Vec<RecBatch>) -> Vec<(SegmentId, Vec<RecBatch>)> {
    let mut files = Vec::new();
    let mut packed = Vec::new();
    for of_topic in batches.chunk_by(|a, b| a.topic == b.topic) {
        let bytes: u64 = of_topic.iter().map(|batch| batch.batch.len() as u64).sum();
        if bytes >= OWN_FILE_BYTES {
            files.push((SegmentId::new(), of_topic.to_vec()));
        } else {
            packed.extend_from_slice(of_topic);
        }
    }
    if !packed.is_empty() {
        files.push((SegmentId::new(), packed));
    }
    files
}

fn broken(shard: ShardId, index: RaftIndex, why: &str) -> Error {
    Error::new(Code::CorruptData, format!("entry {index} of shard {shard} cannot be rolled: {why}"))
}

#[cfg(test)]
mod tests;
