//! Reading what was planned.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use stratalog_proto::batch::{Batch, HEADER_BYTES};
use stratalog_proto::{Code, Error, ShardId};

use super::plan::Plan;
use super::{FetchedBatches, FetchedPartition};
use crate::shard::{BatchSlot, Shard};

/// What was read.
pub(super) struct Answer {
    pub(super) partitions: Vec<FetchedPartition>,
    /// Something was no longer where the plan says: it is to be planned again.
    pub(super) moved: bool,
}

/// Bytes that may still be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: usize,
    /// The first batch of all is always read.
    nothing_yet: bool,
}

impl Budget {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { left: max_bytes, nothing_yet: true }
    }

    fn fits(self, bytes: usize) -> bool {
        self.nothing_yet || bytes <= self.left
    }

    fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        self.nothing_yet = false;
    }
}

/// One partition on its way from plan to answer.
struct Reading {
    plan: Plan,
    found: Result<Vec<FetchedBatches>, Error>,
    /// How many of the planned batches of the log are to be read.
    granted: usize,
    /// Whether batches of the log may follow what was found.
    open: bool,
}

/// Reads what was planned: no more than about `max_bytes`, whatever the plans add up to.
///
/// # Errors
/// [`Code::Internal`] if a read ended in a panic. What concerns one partition is in its result.
pub(super) async fn read(plans: Vec<Plan>, max_bytes: usize) -> Result<Answer, Error> {
    let from_recs = plans.iter().any(|plan| !plan.recs().is_empty());
    let begin = move || begin(plans, Budget::new(max_bytes));
    // Without replay segments nothing of this reads the disk.
    let (mut readings, budget) = if from_recs { on_blocking_thread(begin).await? } else { begin() };
    grant(&mut readings, budget);
    for (shard, wanted) in by_shard(&readings) {
        let batches = read_slots(shard, wanted.iter().map(|wanted| wanted.slot).collect()).await?;
        // Of all headers together, so that a batch costs no allocation.
        let mut heads = BytesMut::with_capacity(HEADER_BYTES * wanted.len());
        for (wanted, batch) in wanted.iter().zip(batches) {
            readings[wanted.reading].add(wanted, batch, &mut heads);
        }
    }
    let moved = readings.iter().any(Reading::has_moved);
    Ok(Answer { partitions: readings.into_iter().map(Reading::finish).collect(), moved })
}

async fn on_blocking_thread<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let ended = |error| Error::new(Code::Internal, format!("a read of the log ended early: {error}"));
    tokio::task::spawn_blocking(read).await.map_err(ended)
}

/// Reads what is in replay segments, partition by partition: how long their batches are is known only once they are read.
fn begin(plans: Vec<Plan>, mut budget: Budget) -> (Vec<Reading>, Budget) {
    let readings = plans.into_iter().map(|plan| Reading::begin(plan, &mut budget)).collect();
    (readings, budget)
}

impl Reading {
    fn begin(plan: Plan, budget: &mut Budget) -> Self {
        let mut reading = Self { plan, found: Ok(Vec::new()), granted: 0, open: true };
        match reading.plan.recs().is_empty() {
            true => reading.grant_first(budget),
            false => {
                if let Err(error) = reading.read_recs(budget) {
                    reading.fail(error);
                }
            }
        }
        reading
    }

    /// Grants a partition its first batch in its turn, as one that begins in a replay segment reads it.
    fn grant_first(&mut self, budget: &mut Budget) {
        if let Some(first) = self.plan.slots().first().filter(|first| budget.fits(first.slot.len as usize)) {
            budget.spend(first.slot.len as usize);
            self.granted = 1;
        }
    }

    fn read_recs(&mut self, budget: &mut Budget) -> Result<(), Error> {
        let (Some(shard), Ok(found)) = (&self.plan.shard, &mut self.found) else { return Ok(()) };
        for part in self.plan.recs() {
            if !budget.fits(1) {
                self.open = false;
                break;
            }
            let slice = shard.rec_slice(&part.meta, self.plan.tp, part.from, part.max_bytes.min(budget.left))?;
            assert!(slice.next <= self.plan.high_watermark, "L3: a fetch does not read above the high watermark");
            budget.spend(slice.bytes.len());
            found.push(FetchedBatches { head: Bytes::new(), body: slice.bytes });
            if slice.next < part.end {
                self.open = false;
                break;
            }
        }
        Ok(())
    }

    /// Adds the next batch of the log; its header is made at the end of `heads`.
    fn add(&mut self, wanted: &Wanted, batch: Result<Batch, Error>, heads: &mut BytesMut) {
        match (batch, &mut self.found) {
            (Ok(batch), Ok(found)) if self.open => {
                heads.extend_from_slice(&batch.patched_header(wanted.slot.base_offset, wanted.leader_epoch));
                let (head, body) = (heads.split().freeze(), batch.bytes().slice(HEADER_BYTES..));
                found.push(FetchedBatches { head, body });
            }
            (Ok(_), _) => {}
            (Err(error), _) => self.fail(error),
        }
    }

    /// Nothing follows any more: an answer has no holes. The error is the answer if there is nothing before it; else the
    /// next fetch begins with it.
    fn fail(&mut self, error: Error) {
        self.open = false;
        if self.found.as_ref().is_ok_and(Vec::is_empty) {
            self.found = Err(error);
        }
    }

    /// Whether the first of what was planned could not be read, and is somewhere else by now.
    fn has_moved(&self) -> bool {
        let (Err(_), Some(shard), Some((source, offset))) = (&self.found, &self.plan.shard, self.plan.first()) else {
            return false;
        };
        shard.read(|state| !source.is_current(state, self.plan.tp, offset))
    }

    fn finish(self) -> FetchedPartition {
        FetchedPartition {
            partition: self.plan.tp.partition,
            log_start: self.plan.log_start,
            high_watermark: self.plan.high_watermark,
            result: self.plan.parts.and(self.found),
        }
    }
}

/// Grants the partitions the rest of the bytes, for their batches in the log.
fn grant(readings: &mut [Reading], budget: Budget) {
    let lengths = |reading: &Reading| -> Vec<usize> {
        let rest = reading.plan.slots().iter().skip(reading.granted).filter(|_| reading.open);
        rest.map(|part| part.slot.len as usize).collect()
    };
    let counts = allot(&readings.iter().map(lengths).collect::<Vec<_>>(), budget);
    readings.iter_mut().zip(counts).for_each(|(reading, count)| reading.granted += count);
}

/// How many batches of each partition fit: one of each in turn, so that a full partition does not starve the others. The
/// first batch of all is always taken.
pub(super) fn allot(lengths: &[Vec<usize>], mut budget: Budget) -> Vec<usize> {
    let mut counts = vec![0; lengths.len()];
    let mut open: Vec<usize> = (0..lengths.len()).collect();
    while !open.is_empty() {
        open.retain(|&at| {
            let Some(len) = lengths[at].get(counts[at]).filter(|len| budget.fits(**len)) else { return false };
            budget.spend(*len);
            counts[at] += 1;
            true
        });
    }
    counts
}

/// A batch of the log that is to be read.
struct Wanted {
    slot: BatchSlot,
    leader_epoch: i32,
    /// Whose it is: the place among the readings.
    reading: usize,
}

/// The granted batches of each shard, in the order of its log.
fn by_shard(readings: &[Reading]) -> Vec<(Arc<Shard>, Vec<Wanted>)> {
    let mut shards: BTreeMap<ShardId, (Arc<Shard>, Vec<Wanted>)> = BTreeMap::new();
    for (at, reading) in readings.iter().enumerate().filter(|(_, reading)| reading.granted > 0) {
        let (slots, Some(shard)) = (&reading.plan.slots()[..reading.granted], &reading.plan.shard) else { continue };
        assert!(
            slots.iter().all(|part| part.slot.next_offset() <= reading.plan.high_watermark),
            "L3: a fetch does not read above the high watermark"
        );
        let (_, wanted) = shards.entry(shard.id()).or_insert_with(|| (Arc::clone(shard), Vec::new()));
        wanted.extend(slots.iter().map(|part| Wanted {
            slot: part.slot,
            leader_epoch: part.leader_epoch,
            reading: at,
        }));
    }
    let mut shards: Vec<_> = shards.into_values().collect();
    shards.iter_mut().for_each(|(_, wanted)| wanted.sort_unstable_by_key(|wanted| (wanted.slot.index, wanted.slot.at)));
    shards
}

/// From memory if all of it is there, else on a blocking thread.
async fn read_slots(shard: Arc<Shard>, slots: Vec<BatchSlot>) -> Result<Vec<Result<Batch, Error>>, Error> {
    let cached: Option<Vec<_>> = slots.iter().map(|slot| shard.cached_batch(slot)).collect();
    match cached {
        Some(cached) => Ok(cached),
        None => on_blocking_thread(move || shard.batches(&slots)).await,
    }
}
