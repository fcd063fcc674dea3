//! Making the segments: the log of a topic is read once, and a bounded part of the rows is held at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex};
use stratalog_query::TailChunk;
use stratalog_storage::col::system;
use stratalog_storage::{SegmentHandle, SegmentMeta};
use tokio_util::sync::CancellationToken;

use super::lost::{Lost, holds};
use crate::rows::erase::places;
use crate::rows::log::HostedTopic;
use crate::rows::merge::Offsets;
use crate::rows::options::RowsOptions;
use crate::rows::parse::parse;
use crate::rows::seal::{self, BuildFailed};
use crate::rows::shard_rows::ShardRows;
use crate::shard::Wanted;

/// What to make.
pub(super) struct Job {
    pub(super) shard: Arc<ShardRows>,
    pub(super) topic: HostedTopic,
    pub(super) lost: Vec<Arc<SegmentMeta>>,
    /// The other live segments of the topic.
    pub(super) others: Vec<Arc<SegmentHandle>>,
    pub(super) log_starts: BTreeMap<PartitionId, Offset>,
    pub(super) options: RowsOptions,
    pub(super) stop: CancellationToken,
}

/// What was made.
pub(super) struct Made {
    pub(super) segments: Vec<SegmentMeta>,
    pub(super) rows: u64,
    /// Rows of the lost segments that lie below log start.
    pub(super) trimmed: u64,
}

/// It failed; with the files that were finished.
pub(super) struct NotMade {
    pub(super) error: Error,
    pub(super) written: Vec<SegmentMeta>,
}

/// Makes the rows of lost segments again, in new segments, durably. Nothing counts until a Merge names them. Blocks.
///
/// # Errors
/// [`Code::CorruptData`] if the log has another number of rows there; those of reading the log and the other segments, and of
/// building; [`Code::Cancelled`] once the node stops.
pub(super) fn make(job: &Job) -> Result<Made, NotMade> {
    let mut making = Making {
        job,
        lost: Lost::of(&job.lost),
        taken: Offsets::new(),
        chunks: Vec::new(),
        bytes: 0,
        rows: 0,
        written: Vec::new(),
    };
    match making.run() {
        Ok(trimmed) => Ok(Made { segments: making.written, rows: making.rows, trimmed }),
        Err(error) => Err(NotMade { error, written: making.written }),
    }
}

/// On the way through the log.
struct Making<'a> {
    job: &'a Job,
    lost: Lost,
    /// What other segments have.
    taken: Offsets,
    chunks: Vec<Arc<TailChunk>>,
    /// Memory of the chunks.
    bytes: usize,
    rows: u64,
    written: Vec<SegmentMeta>,
}

impl Making<'_> {
    /// Returns how many of the lost rows lie below log start.
    fn run(&mut self) -> Result<u64, Error> {
        self.note_taken()?;
        let (log, topic) = (&self.job.shard.log, &self.job.topic);
        let mut after = RaftIndex(0);
        while after < topic.row_frontier {
            if self.job.stop.is_cancelled() {
                return Err(Error::new(
                    Code::Cancelled,
                    "rows that were lost are not made again: the node is stopping",
                ));
            }
            let mut found = log.batches_after(after, Wanted::AlsoSealed(topic.id), self.job.options.pull_bytes);
            if let Some(unreadable) = found.unreadable.pop() {
                return Err(unreadable.error);
            }
            for chunk in parse(&topic.config, &found.batches).chunks {
                self.add(&chunk)?;
            }
            after = found.through;
        }
        self.build()?;
        self.trimmed()
    }

    /// Reads which rows the other segments have that may have been lost.
    fn note_taken(&mut self) -> Result<(), Error> {
        for other in self.job.others.iter().filter(|other| self.lost.overlaps(&other.meta)) {
            let reader = other.reader()?;
            for granule in 0..reader.granules() {
                for (partition, offset) in places(&reader, granule)? {
                    self.taken.entry(partition).or_default().insert(offset.0);
                }
            }
        }
        Ok(())
    }

    /// Keeps the rows of a chunk that were lost.
    fn add(&mut self, chunk: &TailChunk) -> Result<(), Error> {
        let was_lost = self.were_lost(&chunk.rows);
        if was_lost.true_count() == 0 {
            return Ok(());
        }
        let rows = filter_record_batch(&chunk.rows, &was_lost).expect("there is a mark for each row");
        let kept = TailChunk::new(chunk.first_index, chunk.last_index, rows);
        self.rows += kept.rows.num_rows() as u64;
        self.bytes += kept.bytes;
        self.chunks.push(Arc::new(kept));
        if self.bytes < self.job.options.seal_bytes { Ok(()) } else { self.build() }
    }

    fn were_lost(&self, rows: &RecordBatch) -> BooleanArray {
        let column = |name| rows.column_by_name(name).expect("a chunk has every system column");
        let times = column(system::TIME).as_primitive::<TimestampNanosecondType>().values();
        let partitions = column(system::PARTITION).as_primitive::<Int32Type>().values();
        let offsets = column(system::OFFSET).as_primitive::<Int64Type>().values();
        let was_lost = |row: usize| {
            let (partition, offset) = (PartitionId(partitions[row] as u32), Offset(offsets[row] as u64));
            self.job.log_starts.get(&partition).is_none_or(|start| *start <= offset)
                && self.lost.may_have_had(partition, offset, times[row])
                && !holds(&self.taken, partition, offset)
        };
        (0..rows.num_rows()).map(|row| Some(was_lost(row))).collect()
    }

    /// Writes segments of the rows that are held, and lets these go.
    fn build(&mut self) -> Result<(), Error> {
        let Job { shard, topic, options, .. } = self.job;
        let job = seal::Job {
            io: shard.log.io().clone(),
            dir: shard.log.segments_dir().to_owned(),
            shard: shard.log.id(),
            topic: topic.id,
            bucket_ns: topic.config.bucket_ns,
            index_budget_bytes: options.index_budget_bytes,
            chunks: std::mem::take(&mut self.chunks),
        };
        self.bytes = 0;
        match seal::build(&job) {
            Ok(segments) => {
                self.written.extend(segments);
                Ok(())
            }
            Err(BuildFailed { error, written }) => {
                self.written.extend(written);
                Err(error)
            }
        }
    }

    /// S1: as many rows as were lost, but for those below log start.
    fn trimmed(&self) -> Result<u64, Error> {
        let (rows, lost) = (self.rows, self.lost.rows());
        match lost.checked_sub(rows) {
            Some(0) => Ok(0),
            Some(trimmed) if trimmed <= self.lost.below(&self.job.log_starts) => Ok(trimmed),
            _ => {
                let (segments, topic) = (self.job.lost.len(), self.job.topic.id);
                let message = format!(
                    "S1: {segments} lost column segments of topic {topic} had {lost} rows, and its records make {rows} there \
                     by the settings of now; they cannot take their place. Restore the files from a copy"
                );
                Err(Error::new(Code::CorruptData, message))
            }
        }
    }
}
