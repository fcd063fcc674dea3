//! One partition of a scan as a stream: takes work, gives batches.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::Stream;
use stratalog_storage::SegmentHandle;
use stratalog_storage::col::GRANULE_ROWS;

use super::ScanTable;
use super::counts::{Counts, Level};
use super::filter::Filters;
use super::granule::{Granule, Stored};
use super::log_start::granules_with_rows;
use super::prune::{GranuleStatistics, Pruner, SegmentStatistics};
use super::segment::{OpenSegment, SegmentRows};
use super::tail::TailRows;
use super::work::{Opening, Unit, Work};
use crate::catalog::TailChunk;

/// Granules that one partition takes at a time: enough to be worth a lock, few enough to share a segment evenly.
const GRANULES_A_UNIT: usize = 4;

/// What the partitions of a scan share.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) table: ScanTable,
    pub(super) filters: Filters,
    pub(super) pruner: Pruner,
    pub(super) counts: Counts,
    /// Columns of the table.
    pub(super) projection: Vec<usize>,
    /// `projection` of the table's schema.
    pub(super) schema: SchemaRef,
}

/// The state of one partition.
struct Partition {
    reading: Arc<Reading>,
    work: Arc<Work>,
    memory: MemoryReservation,
    /// What is left of a unit, in small pieces.
    pending: VecDeque<Piece>,
}

/// One granule or chunk.
enum Piece {
    Tail { shard: usize, chunk: Arc<TailChunk> },
    Granule { segment: Arc<OpenSegment>, granule: usize, generation: u64 },
}

/// Batches of one partition, until the work is done. Between two granules it lets other tasks run.
pub(super) fn stream(
    reading: Arc<Reading>,
    work: Arc<Work>,
    memory: MemoryReservation,
) -> impl Stream<Item = Result<RecordBatch>> {
    let partition = Partition { reading, work, memory, pending: VecDeque::new() };
    futures::stream::try_unfold(partition, |mut partition| async move {
        let batch = partition.next().await?;
        Ok(batch.map(|batch| (batch, partition)))
    })
}

impl Partition {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while !self.work.is_done() {
            if let Some(piece) = self.pending.pop_front() {
                if let Some(batch) = self.read(&piece)? {
                    return Ok(Some(batch));
                }
                tokio::task::yield_now().await;
                continue;
            }
            let work = self.work.clone();
            let Some((unit, opening)) = work.next().await else { break };
            self.start(unit, opening)?;
        }
        // Whoever is above may keep an ended stream for long.
        self.memory.free();
        Ok(None)
    }

    fn start(&mut self, unit: Unit, opening: Option<Opening<'_>>) -> Result<()> {
        match unit {
            Unit::Tail { shard, chunk } => self.pending.push_back(Piece::Tail { shard, chunk }),
            Unit::Segment { shard, segment } => {
                let units = self.reading.open(shard, segment)?;
                if let Some(opening) = opening {
                    opening.found(units);
                }
            }
            Unit::Granules { segment, granules, generation } => {
                let piece = |granule| Piece::Granule { segment: segment.clone(), granule, generation };
                self.pending.extend(granules.into_iter().map(piece));
            }
        }
        Ok(())
    }

    fn read(&mut self, piece: &Piece) -> Result<Option<RecordBatch>> {
        let reading = self.reading.clone();
        let shards = &reading.table.snapshot.shards;
        match piece {
            Piece::Tail { shard, chunk } => {
                reading.counts.tail_rows(chunk.rows.num_rows());
                self.rows(&TailRows { table: &reading.table, filters: &reading.filters, shard: &shards[*shard], chunk })
            }
            Piece::Granule { segment, granule, generation } => {
                if reading.is_excluded_by_now(segment, *granule, *generation) {
                    reading.counts.granules_pruned(Level::ZoneMaps, 1);
                    return Ok(None);
                }
                let shard = &shards[segment.shard];
                self.rows(&SegmentRows { table: &reading.table, shard, segment, granule: *granule })
            }
        }
    }

    fn rows(&mut self, stored: &dyn Stored) -> Result<Option<RecordBatch>> {
        let reading = self.reading.clone();
        let mut granule = Granule::new(&reading.table, &reading.filters, &reading.counts, stored);
        let mut selection = granule.filter()?;
        self.memory.try_resize(granule.memory())?;
        if selection.count() == 0 {
            return Ok(None);
        }
        selection.truncate(self.work.grant(selection.count()));
        if selection.count() == 0 {
            return Ok(None);
        }
        let batch = granule.project(&selection, &reading.projection, &reading.schema)?;
        reading.counts.output_rows(batch.num_rows());
        self.memory.try_resize(granule.memory())?;
        Ok(Some(batch))
    }
}

impl Reading {
    /// Opens a segment: the granules that its zone maps and text index leave.
    fn open(&self, shard: usize, segment: Arc<SegmentHandle>) -> Result<Vec<Unit>> {
        let generation = self.pruner.generation();
        if !self.pruner.keep(&SegmentStatistics(vec![&segment.meta]))[0] {
            self.counts.segment_pruned(Level::Manifest);
            self.counts.granules_pruned(Level::Manifest, granules_of(segment.meta.rows));
            return Ok(Vec::new());
        }
        let segment = Arc::new(OpenSegment::open(&self.table, &self.filters, shard, &segment)?);
        let kept = self.granules(&segment);
        // Rows of a segment ascend in time, more or less: its newest granules are the last ones.
        let newest_first: Vec<usize> = (0..kept.len()).rev().filter(|granule| kept[*granule]).collect();
        let unit =
            |granules: &[usize]| Unit::Granules { segment: segment.clone(), granules: granules.to_vec(), generation };
        Ok(newest_first.chunks(GRANULES_A_UNIT).map(unit).collect())
    }

    /// Which granules of a segment are read.
    fn granules(&self, segment: &OpenSegment) -> Vec<bool> {
        let statistics = |with_text| GranuleStatistics { filters: &self.filters, segment, with_text };
        let mut kept = self.pruner.keep(&statistics(false));
        if segment.has_hidden {
            let log_starts = &self.table.snapshot.shards[segment.shard].log_starts;
            let has_rows = granules_with_rows(log_starts, &segment.reader);
            kept.iter_mut().zip(has_rows).for_each(|(kept, has_rows)| *kept &= has_rows);
        }
        let of_zones = kept.iter().filter(|kept| !**kept).count();
        if segment.has_hits() && of_zones < kept.len() {
            let by_text = self.pruner.keep(&statistics(true));
            kept.iter_mut().zip(by_text).for_each(|(kept, by_text)| *kept &= by_text);
        }
        let pruned = kept.iter().filter(|kept| !**kept).count();
        self.counts.granules_pruned(Level::ZoneMaps, of_zones);
        self.counts.granules_pruned(Level::Text, pruned - of_zones);
        if pruned == kept.len() {
            self.counts.segment_pruned(if pruned == of_zones { Level::ZoneMaps } else { Level::Text });
        }
        kept
    }

    /// Whether filters that became narrower since `generation` exclude a granule.
    fn is_excluded_by_now(&self, segment: &OpenSegment, granule: usize, generation: u64) -> bool {
        self.pruner.generation() != generation
            && !self.pruner.keep(&GranuleStatistics { filters: &self.filters, segment, with_text: true })[granule]
    }
}

/// The granules of a segment of so many rows.
pub(super) fn granules_of(rows: u64) -> usize {
    rows.div_ceil(u64::from(GRANULE_ROWS)) as usize
}
