//! The log of the node in memory.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use stratalog_proto::batch::Batch;
use stratalog_proto::{Code, Offset};

/// As many batches of a producer are remembered.
const REMEMBERED: usize = 5;

#[derive(Clone, Debug)]
pub(crate) struct LoggedBatch {
    pub(crate) base: u64,
    pub(crate) count: u64,
    pub(crate) bytes: Bytes,
}

/// First and last sequence and base offset of a batch.
type Sent = (i32, i32, u64);

#[derive(Debug, Default)]
struct Partition {
    batches: Vec<LoggedBatch>,
    start: u64,
    end: u64,
    /// By producer id: the epoch, and the newest batches, newest last.
    producers: BTreeMap<i64, (i16, VecDeque<Sent>)>,
}

/// Every partition's batches.
#[derive(Debug, Default)]
pub(crate) struct Log(BTreeMap<u32, Partition>);

impl Log {
    /// Appends a batch; the base offset, also when it is there already.
    pub(crate) fn append(&mut self, partition: u32, bytes: Bytes) -> Result<u64, Code> {
        let batch = Batch::parse(bytes).map_err(|_| Code::CorruptBatch)?;
        let header = batch.header();
        let log = self.0.entry(partition).or_default();
        let base = log.end;
        if header.has_producer() {
            let first = header.base_sequence;
            let last = first + header.last_offset_delta;
            let epoch = header.producer_epoch;
            let fresh = || (epoch, VecDeque::new());
            let (known, recent) = log.producers.entry(header.producer_id).or_insert_with(fresh);
            match epoch.cmp(known) {
                Ordering::Less => return Err(Code::ProducerFenced),
                Ordering::Greater if first != 0 => return Err(Code::OutOfOrderSequence),
                Ordering::Greater => (*known, *recent) = fresh(),
                Ordering::Equal => {}
            }
            if let Some((.., base)) = recent.iter().find(|seen| (seen.0, seen.1) == (first, last)) {
                return Ok(*base);
            }
            // A producer that is not known yet may begin anywhere.
            if recent.back().is_some_and(|newest| newest.1 + 1 != first) {
                return Err(Code::OutOfOrderSequence);
            }
            recent.push_back((first, last, base));
            if recent.len() > REMEMBERED {
                recent.pop_front();
            }
        }
        let (header, body) = batch.patched(Offset(base), 1);
        let count = u64::from(batch.record_count());
        log.batches.push(LoggedBatch { base, count, bytes: [header, body].concat().into() });
        log.end += count;
        Ok(base)
    }

    pub(crate) fn start(&self, partition: u32) -> u64 {
        self.0.get(&partition).map_or(0, |log| log.start)
    }

    pub(crate) fn end(&self, partition: u32) -> u64 {
        self.0.get(&partition).map_or(0, |log| log.end)
    }

    /// Retention: forgets everything below an offset.
    pub(crate) fn truncate_front(&mut self, partition: u32, start: u64) {
        let log = self.0.entry(partition).or_default();
        log.start = start;
        log.batches.retain(|batch| batch.base + batch.count > start);
    }

    pub(crate) fn batches(&self, partition: u32) -> &[LoggedBatch] {
        self.0.get(&partition).map_or(&[], |log| &log.batches)
    }

    pub(crate) fn batches_mut(&mut self, partition: u32) -> &mut Vec<LoggedBatch> {
        &mut self.0.entry(partition).or_default().batches
    }

    /// The offset of the first record at or after a time.
    pub(crate) fn at_time(&self, partition: u32, time_ms: i64) -> u64 {
        let found = self.batches(partition).iter().find_map(|batch| {
            let records = Batch::parse(batch.bytes.clone()).unwrap().records(usize::MAX).unwrap();
            let record = records.map(Result::unwrap).find(|record| record.timestamp_ms >= time_ms)?;
            Some(batch.base + record.offset_delta as u64)
        });
        found.unwrap_or_else(|| self.end(partition))
    }

    pub(crate) fn values(&self, partition: u32) -> Vec<String> {
        let batches = self.batches(partition).iter().map(|batch| Batch::parse(batch.bytes.clone()).unwrap());
        let records = batches.flat_map(|batch| batch.records(usize::MAX).unwrap().map(Result::unwrap));
        records.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
    }
}
