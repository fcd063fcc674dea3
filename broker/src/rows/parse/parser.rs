//! A run of applied batches of one topic, as closed chunks.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stratalog_proto::batch::{Batch, BatchHeader, Records};
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::{Offset, PartitionId, RaftIndex};
use stratalog_query::TailChunk;

use super::chunk::ChunkBuilder;
use super::system::Place;
use crate::shard::AppliedBatch;

/// The most that one record batch may decompress to.
const MAX_BATCH_CONTENT_BYTES: usize = 256 << 20;

/// What a run of batches became: every offset of them is a row or is counted (S1).
#[derive(Default)]
pub(in crate::rows) struct Parsed {
    /// Closed chunks, ascending by index.
    pub(in crate::rows) chunks: Vec<TailChunk>,
    /// Offsets that became no row.
    pub(in crate::rows) rowless: BTreeMap<PartitionId, u64>,
    /// The offset after the last one of each partition.
    pub(in crate::rows) ends: BTreeMap<PartitionId, Offset>,
    /// Rows, dead ones included.
    pub(in crate::rows) rows: u64,
    /// Rows whose value did not parse.
    pub(in crate::rows) dead_rows: u64,
}

impl Parsed {
    /// Adds what the batches behind these became.
    pub(in crate::rows) fn append(&mut self, next: Parsed) {
        self.chunks.extend(next.chunks);
        for (partition, count) in next.rowless {
            *self.rowless.entry(partition).or_default() += count;
        }
        self.ends.extend(next.ends);
        self.rows += next.rows;
        self.dead_rows += next.dead_rows;
    }
}

/// Makes rows of batches of one topic, which ascend by index.
pub(in crate::rows) fn parse<'a>(config: &TopicConfig, batches: impl IntoIterator<Item = &'a AppliedBatch>) -> Parsed {
    let mut parser = Parser { config, open: None, parsed: Parsed::default() };
    batches.into_iter().for_each(|batch| parser.push(batch));
    parser.close();
    parser.parsed
}

struct Parser<'a> {
    config: &'a TopicConfig,
    open: Option<Open<'a>>,
    parsed: Parsed,
}

/// The chunk that takes the next row.
struct Open<'a> {
    builder: ChunkBuilder<'a>,
    first_index: RaftIndex,
    last_index: RaftIndex,
}

impl<'a> Parser<'a> {
    fn push(&mut self, applied: &AppliedBatch) {
        let batch = Batch::parse_trusted(applied.batch.clone());
        let offsets = claimed_offsets(applied);
        let count = batch.as_ref().map_or(offsets, Batch::record_count);
        match batch {
            Ok(batch) if self.config.format == Format::Raw || batch.header().is_control() => {
                self.count_rowless(applied.partition, offsets);
            }
            Ok(batch) => {
                self.push_records(applied, count, decode(&batch));
                // Records of it were erased.
                self.count_rowless(applied.partition, offsets - count);
            }
            Err(error) => self.push_records(applied, count, Err(error.to_string())),
        }
        self.parsed.ends.insert(applied.partition, Offset(applied.base_offset.0 + u64::from(offsets)));
    }

    fn count_rowless(&mut self, partition: PartitionId, offsets: u32) {
        if offsets > 0 {
            *self.parsed.rowless.entry(partition).or_default() += u64::from(offsets);
        }
    }

    /// One row for each of `count` records. From the first one that cannot be read on, they are dead.
    fn push_records(&mut self, applied: &AppliedBatch, count: u32, records: Result<Records, String>) {
        let mut unreadable = records.as_ref().err().cloned();
        let mut records = records.ok();
        let base = applied.base_offset;
        let mut place = Place { partition: applied.partition, offset: base, ingested_ns: applied.entry_time_ns };
        for _ in 0..count {
            self.push_record(applied.index, base, &mut place, records.as_mut(), &mut unreadable);
            place.offset.0 += 1;
        }
    }

    /// Adds the row of the next record, at `place`, or behind it where records were erased.
    ///
    /// A record at which the parser panics becomes a dead row: it must not stop the shard, here or on the next leader.
    fn push_record(
        &mut self,
        index: RaftIndex,
        base: Offset,
        place: &mut Place,
        records: Option<&mut Records>,
        unreadable: &mut Option<String>,
    ) {
        let builder = self.builder(index);
        if unreadable.is_none() {
            let step = AssertUnwindSafe(|| match records.and_then(Iterator::next) {
                Some(Ok(record)) => {
                    place.offset = Offset(base.0 + record.offset_delta as u64);
                    builder.push(*place, &record);
                    Ok(())
                }
                Some(Err(error)) => Err(error.to_string()),
                None => Err("it has fewer records than its header says".to_owned()),
            });
            match catch_unwind(step) {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => *unreadable = Some(reason),
                Err(_) => {
                    tracing::error!(partition = %place.partition, offset = %place.offset, "X1: the parser panicked");
                    builder.rollback();
                    builder.push_unreadable(*place, "the parser failed at this record; please report it as a defect");
                }
            }
        }
        if let Some(reason) = unreadable {
            builder.push_unreadable(*place, &format!("the record batch does not decode: {reason}"));
        }
        if builder.is_full() {
            self.close();
        }
    }

    fn builder(&mut self, index: RaftIndex) -> &mut ChunkBuilder<'a> {
        let config = self.config;
        let open = self.open.get_or_insert_with(|| Open {
            builder: ChunkBuilder::new(config),
            first_index: index,
            last_index: index,
        });
        debug_assert!(open.last_index <= index, "batches ascend by index");
        open.last_index = index;
        &mut open.builder
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let (rows, dead_rows) = open.builder.finish();
        self.parsed.rows += rows.num_rows() as u64;
        self.parsed.dead_rows += dead_rows;
        self.parsed.chunks.push(TailChunk::new(open.first_index, open.last_index, rows));
    }
}

fn decode(batch: &Batch) -> Result<Records, String> {
    catch_unwind(|| batch.records(MAX_BATCH_CONTENT_BYTES))
        .map_err(|_| "the decoder failed; please report it as a defect".to_owned())?
        .map_err(|error| error.to_string())
}

/// The offsets that apply gave to a batch, whether it parses or not.
fn claimed_offsets(applied: &AppliedBatch) -> u32 {
    BatchHeader::read(&applied.batch).map_or(0, |header| header.offset_count())
}
