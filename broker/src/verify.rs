//! Reading a partition from end to end, to find damage before somebody needs what is damaged (L5).

use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::batch::{Batch, BatchHeader, Batches};
use stratalog_proto::{Code, Error, Offset, PartitionId, TopicPartition};
use stratalog_query::TopicInfo;
use stratalog_storage::RecMeta;

use crate::shard::{BatchSlot, Shard, Source};

/// About what is read at once.
const STEP_BYTES: usize = 4 << 20;
/// Damaged places that are told one by one; the others are counted.
const MAX_DAMAGE: usize = 100;

/// What is in a partition, and what of it cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifiedPartition {
    /// The partition.
    pub partition: PartitionId,
    /// The lowest offset, when the check began.
    pub log_start: Offset,
    /// One past the highest offset, when the check began.
    pub high_watermark: Offset,
    /// Batches that are whole: checksum, count and offsets.
    pub batches: u64,
    /// Their records: fewer than their offsets, if some were erased.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Offsets that cannot be read.
    pub damaged: u64,
    /// Where they are, ascending; the first hundred places.
    pub damage: Vec<Damage>,
}

/// Offsets that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The lowest.
    pub first: Offset,
    /// One past the highest.
    pub next: Offset,
    /// What is wrong, and in which file.
    pub what: String,
}

/// Reads every batch from log start to high watermark, as both are when it begins. Dropping the future ends it soon.
///
/// # Errors
/// [`Code::UnknownTopic`] if the topic is gone; those of reading other than damage.
pub(crate) async fn verify(
    topic: &TopicInfo,
    shard: &Arc<Shard>,
    partition: PartitionId,
) -> Result<VerifiedPartition, Error> {
    let tp = TopicPartition { topic: topic.id, partition };
    let gone = || Error::new(Code::UnknownTopic, format!("topic `{}` was deleted", topic.name));
    let ends = |shard: &Shard| {
        shard.read(|state| {
            state.partition(tp.topic, tp.partition).map(|found| (found.log_start(), found.high_watermark()))
        })
    };
    let (log_start, high_watermark) = ends(shard).ok_or_else(gone)?;
    let mut walk = Walk {
        shard: Arc::clone(shard),
        tp,
        next: log_start,
        aligned: false,
        found: VerifiedPartition { partition, log_start, high_watermark, ..VerifiedPartition::default() },
    };
    while walk.next < high_watermark {
        let step = tokio::task::spawn_blocking(move || walk.step().map(|()| walk)).await;
        walk = step.map_err(|error| Error::new(Code::Internal, format!("the check ended early: {error}")))??;
        let (log_start, _) = ends(shard).ok_or_else(gone)?;
        walk.pass_expired(log_start);
    }
    Ok(walk.found)
}

/// On the way through a partition.
struct Walk {
    shard: Arc<Shard>,
    tp: TopicPartition,
    /// The next offset to look at.
    next: Offset,
    /// Whether a batch begins there.
    aligned: bool,
    found: VerifiedPartition,
}

impl Walk {
    /// What retention takes away meanwhile is not missing.
    fn pass_expired(&mut self, log_start: Offset) {
        if log_start > self.next {
            (self.next, self.aligned) = (log_start, false);
        }
    }

    /// Looks at the next few batches, or passes over damage. Blocks on the disk.
    fn step(&mut self) -> Result<(), Error> {
        let (tp, next) = (self.tp, self.next);
        let Some(source) = self.shard.read(|state| Source::of(state, tp, next)) else { return self.miss() };
        let looked = match &source {
            Source::Log(_) => self.look_in_log(),
            Source::Rec(meta) => self.look_in_rec(meta),
        };
        match looked {
            Err(error) if self.shard.read(|state| source.is_current(state, tp, self.next)) => self.skip(&source, error),
            // What went away meanwhile is elsewhere: the next step finds it there.
            _ => Ok(()),
        }
    }

    fn look_in_log(&mut self) -> Result<(), Error> {
        let (tp, next, end) = (self.tp, self.next, self.found.high_watermark);
        let slots: Vec<BatchSlot> = self.shard.read(|state| {
            let Some(partition) = state.partition(tp.topic, tp.partition) else { return Vec::new() };
            let mut bytes = 0;
            let few = partition.batches_from(next).take_while(|slot| {
                let first = bytes == 0;
                bytes += slot.len as usize;
                slot.base_offset < end && (first || bytes <= STEP_BYTES)
            });
            few.copied().collect()
        });
        for (slot, batch) in slots.iter().zip(self.shard.batches(&slots)) {
            self.count(slot.base_offset, batch?.bytes().clone())?;
        }
        Ok(())
    }

    fn look_in_rec(&mut self, meta: &Arc<RecMeta>) -> Result<(), Error> {
        let read = self.shard.rec_slice(meta, self.tp, self.next, STEP_BYTES);
        // A damaged block fails all that is read with it: what lies before it is looked at alone.
        let slice = read.or_else(|_| self.shard.rec_slice(meta, self.tp, self.next, 1))?;
        for batch in Batches::new(slice.bytes) {
            let batch = batch?;
            let base = Offset(BatchHeader::read(&batch)?.base_offset as u64);
            if base >= self.found.high_watermark {
                break;
            }
            self.count(base, batch)?;
        }
        Ok(())
    }

    /// Checks a batch that the log has at `base`, and counts it.
    fn count(&mut self, base: Offset, batch: Bytes) -> Result<(), Error> {
        let bytes = batch.len() as u64;
        let batch = Batch::parse(batch)?;
        let offsets = u64::from(batch.offset_count());
        let follows = base == self.next || (base < self.next && !self.aligned);
        if !follows || base.0 + offsets <= self.next.0 {
            let message = format!("L2: offsets {base} to {} follow {}", base.0 + offsets, self.next);
            return Err(Error::new(Code::CorruptData, message));
        }
        (self.next, self.aligned) = (Offset(base.0 + offsets), true);
        self.found.batches += 1;
        self.found.records += u64::from(batch.record_count());
        self.found.bytes += bytes;
        Ok(())
    }

    /// No source has the next offset: log start has passed it, or it is lost.
    fn miss(&mut self) -> Result<(), Error> {
        let (tp, next) = (self.tp, self.next);
        let partition = self.shard.read(|state| {
            let found = state.partition(tp.topic, tp.partition)?;
            Some((found.log_start(), found.rolled()))
        });
        match partition {
            Some((log_start, rolled)) if log_start <= next => {
                let what = "L2: no replay segment holds them, and they are not in the log".to_owned();
                self.damaged(rolled.max(Offset(next.0 + 1)), what);
                Ok(())
            }
            // The caller sees that the topic is gone, or where log start is.
            _ => Ok(()),
        }
    }

    /// Passes over what cannot be read.
    fn skip(&mut self, source: &Source, error: Error) -> Result<(), Error> {
        // A file that is gone, or that the device does not read, holds what cannot be read, too.
        let is_damage = match source {
            Source::Log(_) => matches!(error.code, Code::CorruptData | Code::CorruptBatch | Code::Io),
            Source::Rec(_) => {
                matches!(error.code, Code::CorruptData | Code::CorruptBatch | Code::Io | Code::Unavailable)
            }
        };
        if !is_damage {
            return Err(error);
        }
        let next = match source {
            Source::Log(_) => self.shard.read(|state| {
                let now = Source::of(state, self.tp, self.next);
                now.as_ref().and_then(Source::slot).map(BatchSlot::next_offset)
            }),
            Source::Rec(meta) => self.next_readable(meta),
        };
        // What moved just now is looked at once more.
        if let Some(next) = next {
            self.damaged(next, error.message);
        }
        Ok(())
    }

    /// The first offset above the next one that is readable again, as far as a few tries find it: where a batch begins is
    /// not known inside of what is damaged.
    fn next_readable(&self, meta: &Arc<RecMeta>) -> Option<Offset> {
        let end = meta.range(self.tp.topic, self.tp.partition)?.next;
        let tries = (0..u64::BITS).map(|n| Offset(self.next.0.saturating_add(1 << n))).take_while(|from| *from < end);
        let readable = tries.filter_map(|from| self.shard.rec_slice(meta, self.tp, from, 1).ok()).next();
        // It may be the same batch, and its bytes as they were written: then it is damaged in itself.
        Some(readable.map_or(end, |slice| if slice.first <= self.next { slice.next } else { slice.first }))
    }

    fn damaged(&mut self, next: Offset, what: String) {
        let next = next.min(self.found.high_watermark);
        self.found.damaged += next.0 - self.next.0;
        if self.found.damage.len() < MAX_DAMAGE {
            self.found.damage.push(Damage { first: self.next, next, what });
        }
        (self.next, self.aligned) = (next, false);
    }
}

#[cfg(test)]
mod tests;
