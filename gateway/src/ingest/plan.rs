//! Spreads records over partitions and builds the batches.

use std::collections::BTreeMap;

use bytes::Bytes;
use stratalog_broker::{RecordLines, joined_limit};
use stratalog_proto::batch::{BatchBuilder, Compression, HEADER_BYTES, encoded_record_bytes, partition_for_key};
use stratalog_proto::{Code, Error, PartitionId};

use super::key::find_key;
use super::split::{MAX_RECORDS, too_many};
use super::{IngestOptions, Shape, for_each_record};

/// A batch is closed at about this size: large enough to compress well, small enough that many are in flight.
const BATCH_BYTES: usize = 256 << 10;
/// Below this size compression gains nothing.
const COMPRESS_FROM_BYTES: usize = 4 << 10;

/// Room that a joined value leaves for a key that is found in it.
const MAX_FOUND_KEY_BYTES: usize = 1_024;

/// What one request becomes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// In the order in which they have to be enqueued.
    pub(crate) batches: Vec<PlannedBatch>,
    /// Records that no batch can hold.
    pub(crate) refused: Vec<Refused>,
    /// All records of the request.
    pub(crate) records: u32,
}

/// A batch to produce.
#[derive(Debug)]
pub(crate) struct PlannedBatch {
    pub(crate) partition: PartitionId,
    pub(crate) bytes: Bytes,
    /// The number in the request of each of its records, ascending.
    pub(crate) records: Vec<u32>,
}

/// A record that is refused before anything is sent.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its number in the request.
    pub(crate) record: u32,
    pub(crate) error: Error,
}

/// Cuts `body` into records and those into batches. CPU work in proportion to the body.
///
/// # Errors
/// As [`for_each_record`], and as many lines that are records are too many, too; nothing has been produced then.
pub(crate) fn plan(shape: Shape, body: &Bytes, options: &IngestOptions) -> Result<Plan, Error> {
    let compression = if body.len() < COMPRESS_FROM_BYTES { Compression::None } else { Compression::Lz4 };
    let mut planner =
        Planner { options, compression, spread: options.first_spread, open: BTreeMap::new(), plan: Plan::default() };
    match shape {
        Shape::Lines => planner.push_lines(body)?,
        _ => for_each_record(shape, body, &mut |value| planner.push(&value))?,
    }
    Ok(planner.finish())
}

struct Planner<'a> {
    options: &'a IngestOptions,
    compression: Compression,
    /// Records without a key go to one partition until its batch is full, then to the next.
    spread: u32,
    open: BTreeMap<PartitionId, Open>,
    plan: Plan,
}

/// A batch that still takes records.
struct Open {
    builder: BatchBuilder,
    records: Vec<u32>,
}

impl Planner<'_> {
    fn push_lines(&mut self, body: &Bytes) -> Result<(), Error> {
        let mut lines = RecordLines::new(self.options.format, self.options.multiline.clone(), self.joined_limit());
        let mut has_room = true;
        let mut push = |record: Option<Bytes>| {
            has_room &= self.plan.records < MAX_RECORDS || record.is_none();
            record.iter().filter(|_| has_room).for_each(|record| self.push(record));
        };
        for_each_record(Shape::Lines, body, &mut |line| push(lines.push(line)))?;
        push(lines.finish());
        if has_room { Ok(()) } else { Err(Error::new(Code::InvalidRequest, too_many())) }
    }

    fn push(&mut self, value: &[u8]) {
        let record = self.plan.records;
        self.plan.records += 1;
        let key = self.key(value);
        let bytes = encoded_record_bytes(key.as_deref(), Some(value), &[]);
        if HEADER_BYTES + bytes > self.limit() {
            self.refuse(record, value.len());
            return;
        }
        let partition = self.partition(key.as_deref());
        self.make_room(partition, bytes);
        let partition = self.partition(key.as_deref());
        let compression = self.compression;
        let open = self
            .open
            .entry(partition)
            .or_insert_with(|| Open { builder: BatchBuilder::new(compression), records: Vec::new() });
        open.builder.push(self.options.timestamp_ms, key.as_deref(), Some(value), &[]);
        open.records.push(record);
    }

    fn key(&self, value: &[u8]) -> Option<Vec<u8>> {
        match &self.options.key_field {
            Some(field) => find_key(value, field),
            None => self.options.key.as_ref().map(|key| key.clone().into_bytes()),
        }
    }

    fn partition(&self, key: Option<&[u8]>) -> PartitionId {
        match (self.options.partition, key) {
            (Some(partition), _) => PartitionId(partition),
            (None, Some(key)) => partition_for_key(key, self.options.partitions),
            (None, None) => PartitionId(self.spread % self.options.partitions),
        }
    }

    /// Closes the partition's batch if `bytes` more would make it too large.
    fn make_room(&mut self, partition: PartitionId, bytes: usize) {
        let limit = BATCH_BYTES.min(self.limit());
        let full = self.open.get(&partition).is_some_and(|open| open.builder.estimated_bytes() + bytes > limit);
        if !full {
            return;
        }
        if partition == PartitionId(self.spread % self.options.partitions) {
            self.spread = self.spread.wrapping_add(1);
        }
        if let Some(open) = self.open.remove(&partition) {
            self.plan.batches.push(open.close(partition));
        }
    }

    /// The most bytes of a batch before compression that surely fit after it: what cannot be compressed grows a little.
    fn limit(&self) -> usize {
        let limit = self.options.max_batch_bytes;
        match self.compression {
            Compression::None => limit,
            _ => limit - limit / 256 - 64,
        }
    }

    /// The most bytes of a joined value, so that it fits a batch with its key. How long one is that is found in the value is
    /// not known before.
    fn joined_limit(&self) -> usize {
        let max_batch_bytes = self.options.max_batch_bytes;
        let found = self.options.key_field.as_ref().map_or(0, |_| MAX_FOUND_KEY_BYTES.min(max_batch_bytes / 8));
        joined_limit(max_batch_bytes, self.options.key.as_ref().map_or(found, String::len))
    }

    fn refuse(&mut self, record: u32, bytes: usize) {
        let limit = self.options.max_batch_bytes;
        let message = format!(
            "the record has {bytes} bytes, and with its overhead that is over the topic's max.message.bytes of {limit}"
        );
        self.plan.refused.push(Refused { record, error: Error::new(Code::MessageTooLarge, message) });
    }

    fn finish(mut self) -> Plan {
        for (partition, open) in std::mem::take(&mut self.open) {
            self.plan.batches.push(open.close(partition));
        }
        self.plan
    }
}

impl Open {
    fn close(self, partition: PartitionId) -> PlannedBatch {
        PlannedBatch { partition, bytes: self.builder.finish(), records: self.records }
    }
}
