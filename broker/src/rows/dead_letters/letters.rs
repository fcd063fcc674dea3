//! The dead rows of a segment, and what their records become by the settings of now.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use stratalog_proto::batch::{BatchBuilder, Compression, Record};
use stratalog_proto::config::TopicConfig;
use stratalog_proto::{Error, Offset, PartitionId, RaftIndex, TopicId};
use stratalog_storage::col::{ColReader, system};

use crate::rows::log::RowLog;
use crate::rows::parse::{escape, parse};
use crate::shard::AppliedBatch;

/// A dead row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) partition: PartitionId,
    pub(super) offset: Offset,
    /// When its record came.
    pub(super) ingested_ns: i64,
    /// Why its value became no row.
    pub(super) reason: String,
}

/// The dead rows of a granule of which `is_wanted` says so. Blocks.
///
/// # Errors
/// Those of reading the segment.
pub(super) fn letters(
    reader: &ColReader,
    granule: usize,
    is_wanted: impl Fn(&Letter) -> bool,
) -> Result<Vec<Letter>, Error> {
    let column = |name| reader.schema().index_of(name).expect("a segment has every system column");
    let read = |name| -> Result<ArrayRef, Error> { Ok(reader.read(column(name), granule)?) };
    let nulls = reader.null_counts(column(system::DEAD));
    let nulls = nulls.as_primitive::<UInt64Type>().value(granule);
    if nulls == reader.granule_rows(granule).len() as u64 {
        return Ok(Vec::new());
    }
    let (dead, partitions) = (read(system::DEAD)?, read(system::PARTITION)?);
    let (offsets, ingested) = (read(system::OFFSET)?, read(system::INGESTED_AT)?);
    let (dead, partitions) = (dead.as_string::<i32>(), partitions.as_primitive::<Int32Type>());
    let (offsets, ingested) = (offsets.as_primitive::<Int64Type>(), ingested.as_primitive::<TimestampNanosecondType>());
    let letter = |row: usize| Letter {
        partition: PartitionId(partitions.value(row) as u32),
        offset: Offset(offsets.value(row) as u64),
        ingested_ns: ingested.value(row),
        reason: dead.value(row).to_owned(),
    };
    Ok((0..dead.len()).filter(|row| dead.is_valid(*row)).map(letter).filter(is_wanted).collect())
}

/// What came of letters.
#[derive(Default)]
pub(super) struct Outcome {
    /// Rows that take the place of the dead ones with their partition and offset: those that are rows of their own now, and
    /// those that are dead for another reason.
    pub(super) rows: Vec<RecordBatch>,
    /// How many of them are rows of their own.
    pub(super) mended: u64,
    /// Bytes of memory that the rows take.
    pub(super) bytes: usize,
    /// Of those whose record could not be read, how many, and why the first could not.
    pub(super) unreadable: Option<(u64, Error)>,
}

impl Outcome {
    /// Reads the records of letters and makes rows of them again. Blocks on the disk.
    pub(super) fn add(&mut self, log: &dyn RowLog, topic: TopicId, config: &TopicConfig, letters: &[Letter]) {
        let places: Vec<_> = letters.iter().map(|letter| (letter.partition, letter.offset)).collect();
        match log.records(topic, &places) {
            Ok(records) => {
                let found = letters.iter().zip(records).filter_map(|(letter, record)| Some((letter, record?)));
                self.add_records(topic, config, found.collect());
            }
            Err(error) if letters.len() == 1 => {
                let (count, first) = self.unreadable.take().unwrap_or((0, error));
                self.unreadable = Some((count + 1, first));
            }
            // One damaged place must not keep the others dead.
            Err(_) => letters.chunks(letters.len().div_ceil(2)).for_each(|half| self.add(log, topic, config, half)),
        }
    }

    fn add_records(&mut self, topic: TopicId, config: &TopicConfig, found: Vec<(&Letter, Record)>) {
        let batches: Vec<_> = found.iter().map(|(letter, record)| alone(topic, letter, record)).collect();
        let mut letters = found.iter().map(|(letter, _)| *letter);
        for chunk in parse(config, &batches).chunks {
            let of_chunk: Vec<_> = letters.by_ref().take(chunk.rows.num_rows()).collect();
            self.add_rows(&chunk.rows, &of_chunk);
        }
        assert!(letters.next().is_none(), "S1: a record is a row");
    }

    /// Keeps the rows, one for each letter, that say something else than it did.
    fn add_rows(&mut self, rows: &RecordBatch, letters: &[&Letter]) {
        let dead = rows.column_by_name(system::DEAD).expect("a chunk has every system column");
        let dead = cast(dead, &DataType::Utf8).expect("a reason is text");
        let dead = dead.as_string::<i32>();
        let is_new = |(row, letter): (usize, &&Letter)| dead.is_null(row) || dead.value(row) != letter.reason;
        let keep: BooleanArray = letters.iter().enumerate().map(|pair| Some(is_new(pair))).collect();
        if keep.true_count() == 0 {
            return;
        }
        let rows = filter_record_batch(rows, &keep).expect("the filter has a value for each row");
        self.mended += (0..letters.len()).filter(|row| dead.is_null(*row)).count() as u64;
        self.bytes += rows.get_array_memory_size();
        self.rows.push(rows);
    }
}

/// A record as a batch of its own, at its place.
pub(super) fn alone(topic: TopicId, letter: &Letter, record: &Record) -> AppliedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    let headers: Vec<_> = record.headers.iter().map(|header| (header.key, header.value)).collect();
    // A name that is not UTF-8 is in the row as it is here: escaped.
    let names: Vec<_> = headers.iter().map(|(name, _)| escape(name)).collect();
    let headers: Vec<_> = names.iter().zip(&headers).map(|(name, (_, value))| (&**name, value.as_deref())).collect();
    builder.push(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers);
    AppliedBatch {
        // Where it came from does not matter: these rows are for a segment, not for the tail.
        index: RaftIndex(1),
        topic,
        partition: letter.partition,
        base_offset: letter.offset,
        entry_time_ns: letter.ingested_ns,
        batch: builder.finish(),
    }
}
