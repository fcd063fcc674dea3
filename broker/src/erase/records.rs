//! The records of a replay segment: which of them a job erases.

use std::collections::HashSet;
use std::sync::Arc;

use stratalog_proto::{Error, RaftIndex, TopicId};
use stratalog_storage::{ErasedOffsets, RecCursor, RecMeta};

use super::blocking;
use super::find::matching;
use super::job::Job;
use crate::rows::{Position, rows_of_batches};
use crate::shard::{AppliedBatch, Shard};

/// Batches whose rows are made at once, in bytes.
const WINDOW_BYTES: usize = 8 << 20;
/// A segment is rewritten once the offsets of those of its records that were found take so many bytes, and looked at again:
/// a command carries them.
const MAX_AT_ONCE_BYTES: usize = 4 << 20;
/// Nor do they take more than this part of what the log takes at once: other things are in the command, too.
const ENTRY_PART: usize = 4;

/// What was found in a replay segment.
pub(super) struct Found {
    pub(super) erased: ErasedOffsets,
    /// Whether all of it was looked at.
    pub(super) whole: bool,
}

/// Reads the batches of a topic in a replay segment, as far as they lie at or below a fence.
struct Walk {
    cursor: RecCursor,
    fence: RaftIndex,
    is_over: bool,
}

impl Walk {
    /// Blocks.
    fn new(shard: &Shard, meta: &Arc<RecMeta>, topic: TopicId, fence: RaftIndex) -> Result<Self, Error> {
        let cursor = shard.recs().reader(meta)?.ordered_of(|of| (of == topic).then_some(meta.after))?;
        Ok(Self { cursor, fence, is_over: false })
    }

    /// The next batches, a bounded number of bytes; none at the end. Blocks.
    fn next(&mut self) -> Result<Vec<AppliedBatch>, Error> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while !self.is_over && bytes < WINDOW_BYTES {
            match self.cursor.next().transpose()?.filter(|batch| batch.index <= self.fence) {
                Some(batch) => {
                    bytes += batch.batch.len();
                    batches.push(AppliedBatch::from(batch));
                }
                None => self.is_over = true,
            }
        }
        Ok(batches)
    }
}

impl Job {
    /// The records of a replay segment that are to go: those whose rows, made again, fulfil the condition, and those whose
    /// rows were found in column segments. A record that is erased already is not among them.
    ///
    /// # Errors
    /// Those of reading the segment and of evaluating the condition.
    pub(super) async fn find_records(&self, meta: &Arc<RecMeta>, rows: &Arc<ErasedOffsets>) -> Result<Found, Error> {
        let (shard, of, topic, fence) = (Arc::clone(self.shard()), Arc::clone(meta), self.topic().id, self.fence());
        let mut walk = blocking(move || Walk::new(&shard, &of, topic, fence)).await?;
        let mut erased = ErasedOffsets::default();
        loop {
            self.go_on()?;
            let (topic, shard) = (Arc::clone(self.topic()), self.shard().id());
            let next = blocking(move || {
                let batches = walk.next()?;
                let rows = (!batches.is_empty()).then(|| rows_of_batches(&topic, shard, &batches));
                Ok((walk, rows))
            });
            let (walked, made) = next.await?;
            walk = walked;
            let Some((snapshot, records)) = made else { return Ok(Found { erased, whole: true }) };
            let mut meant: HashSet<Position> = HashSet::new();
            matching(self.engine(), snapshot, self.erasure(), |position| {
                meant.insert(position);
            })
            .await?;
            let goes = |at: &&Position| meant.contains(at) || rows.contains(self.topic().id, at.0, at.1);
            for (partition, offset) in records.iter().filter(goes) {
                erased.insert(self.topic().id, *partition, *offset);
            }
            if !erased.truncate(self.most_at_once()) {
                return Ok(Found { erased, whole: false });
            }
        }
    }

    /// Bytes that the offsets of one command may take.
    fn most_at_once(&self) -> usize {
        MAX_AT_ONCE_BYTES.min(self.shard().group().log().max_entry_bytes() / ENTRY_PART)
    }
}
