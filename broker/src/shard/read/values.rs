//! Single records: of dead letters, and their values for `_raw`.

use std::collections::BTreeMap;
use std::sync::Arc;

use stratalog_proto::batch::{Batch, Batches, Record};
use stratalog_proto::{Error, Offset, PartitionId, RaftIndex, TopicId, TopicPartition};
use stratalog_storage::RecMeta;

use super::MAX_BATCH_CONTENT_BYTES;
use super::source::{MAX_MOVES, Source, moved_too_often};
use crate::shard::{BatchSlot, Shard, ShardState};

/// About what is read of a replay segment at once.
const SLICE_BYTES: usize = 256 << 10;

/// A record that is wanted: its offset, and its place in the answer.
type Wanted = (Offset, usize);

/// Records of one batch in the log.
type InBatch = (BatchSlot, Vec<Wanted>);

/// Where the records of an answer are, so that each batch is read and unpacked once.
#[derive(Default)]
struct Places {
    /// By entry, then by place in it.
    log: BTreeMap<RaftIndex, BTreeMap<u32, (TopicPartition, InBatch)>>,
    /// Each with the records of one partition in it, ascending.
    recs: Vec<(Arc<RecMeta>, TopicPartition, Vec<Wanted>)>,
}

impl Shard {
    /// The values of [`records`](Self::records), as `_raw` has them.
    #[cfg(test)]
    pub(crate) fn values(
        &self,
        topic: TopicId,
        rows: &[(PartitionId, Offset)],
    ) -> Result<Vec<Option<bytes::Bytes>>, Error> {
        Ok(self.records(topic, rows)?.into_iter().map(|record| record?.value).collect())
    }

    /// Records: one for each row; `None` for an offset that is not in the log, or a record of a batch that does not decode.
    /// Each batch is unpacked once, however many of its records are asked for.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// As [`batches_after`](Self::batches_after).
    pub(crate) fn records(&self, topic: TopicId, rows: &[(PartitionId, Offset)]) -> Result<Vec<Option<Record>>, Error> {
        let mut records = vec![None; rows.len()];
        let place = |(at, (partition, offset)): (usize, &(PartitionId, Offset))| {
            (TopicPartition { topic, partition: *partition }, (*offset, at))
        };
        let mut wanted: Vec<(TopicPartition, Wanted)> = rows.iter().enumerate().map(place).collect();
        wanted.sort_unstable();
        for _ in 0..MAX_MOVES {
            let places = self.read(|state| Places::find(state, &wanted));
            wanted = self.read_places(places, &mut records)?;
            if wanted.is_empty() {
                return Ok(records);
            }
        }
        Err(moved_too_often(wanted[0].0))
    }

    /// Reads what it finds into `found`. What is left has moved, and is to be looked up again.
    fn read_places(
        &self,
        places: Places,
        found: &mut [Option<Record>],
    ) -> Result<Vec<(TopicPartition, Wanted)>, Error> {
        let mut moved = Vec::new();
        for batches in places.log.into_values() {
            let slots: Vec<BatchSlot> = batches.values().map(|(_, (slot, _))| *slot).collect();
            for ((tp, (slot, wanted)), batch) in batches.into_values().zip(self.batches(&slots)) {
                match batch {
                    Ok(batch) => take_records(&batch, slot.base_offset, &wanted, found),
                    Err(error) => self.moved_or(&Source::Log(slot), tp, wanted, error, &mut moved)?,
                }
            }
        }
        for (meta, tp, wanted) in places.recs {
            if let Err(error) = self.read_rec(&meta, tp, &wanted, found) {
                self.moved_or(&Source::Rec(meta), tp, wanted, error, &mut moved)?;
            }
        }
        moved.sort_unstable();
        Ok(moved)
    }

    /// Puts what could not be read to what has moved, or fails if it did not move.
    fn moved_or(
        &self,
        source: &Source,
        tp: TopicPartition,
        wanted: Vec<Wanted>,
        error: Error,
        moved: &mut Vec<(TopicPartition, Wanted)>,
    ) -> Result<(), Error> {
        if self.read(|state| source.is_current(state, tp, wanted[0].0)) {
            return Err(error);
        }
        moved.extend(wanted.into_iter().map(|wanted| (tp, wanted)));
        Ok(())
    }

    /// Records in a replay segment, ascending by offset.
    fn read_rec(
        &self,
        meta: &Arc<RecMeta>,
        tp: TopicPartition,
        mut wanted: &[Wanted],
        found: &mut [Option<Record>],
    ) -> Result<(), Error> {
        while let Some((offset, _)) = wanted.first() {
            let slice = self.rec_slice(meta, tp, *offset, SLICE_BYTES)?;
            for batch in Batches::new(slice.bytes) {
                let batch = batch.and_then(Batch::parse_trusted)?;
                let base = Offset(batch.header().base_offset as u64);
                let end = Offset(base.0 + u64::from(batch.offset_count()));
                let (here, rest) = wanted.split_at(wanted.partition_point(|(offset, _)| *offset < end));
                if !here.is_empty() {
                    take_records(&batch, base, here, found);
                }
                wanted = rest;
            }
        }
        Ok(())
    }
}

impl Places {
    /// Looks up records, ascending by partition and offset.
    fn find(state: &ShardState, wanted: &[(TopicPartition, Wanted)]) -> Self {
        let mut places = Self::default();
        for (tp, (offset, at)) in wanted {
            match Source::of(state, *tp, *offset) {
                None => {}
                Some(Source::Log(slot)) => {
                    let of_entry = places.log.entry(slot.index).or_default();
                    let (_, (_, records)) = of_entry.entry(slot.at).or_insert_with(|| (*tp, (slot, Vec::new())));
                    records.push((*offset, *at));
                }
                Some(Source::Rec(meta)) => places.add_rec(meta, *tp, (*offset, *at)),
            }
        }
        places
    }

    fn add_rec(&mut self, meta: Arc<RecMeta>, tp: TopicPartition, wanted: Wanted) {
        match self.recs.last_mut() {
            Some((last, of, records)) if last.id == meta.id && *of == tp => records.push(wanted),
            _ => self.recs.push((meta, tp, vec![wanted])),
        }
    }
}

/// Takes records, ascending by offset, out of their batch. A batch that does not decode has none: its records
/// are dead letters, whose reason says so.
fn take_records(batch: &Batch, base: Offset, wanted: &[Wanted], found: &mut [Option<Record>]) {
    let Ok(records) = batch.records(MAX_BATCH_CONTENT_BYTES) else { return };
    let mut wanted = wanted.iter().peekable();
    for record in records.map_while(Result::ok) {
        let offset = base.0 + record.offset_delta as u64;
        while let Some((_, row)) = wanted.next_if(|(wanted, _)| wanted.0 == offset) {
            found[*row] = Some(record.clone());
        }
    }
}
