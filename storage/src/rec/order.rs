//! The order in which entries gave the batches of a segment their offsets: what the materializer follows. A few bytes a
//! batch.

use bytes::Bytes;
use stratalog_proto::RaftIndex;
use stratalog_proto::batch::HEADER_BYTES;

use super::writer::RecSpec;
use crate::container::Malformed;

/// The most bytes of a varint: seven bits each.
const MAX_VARINT_BYTES: usize = 10;

/// One batch in the order of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ordered {
    pub(super) index: RaftIndex,
    /// Where the batch was in its entry, in bytes.
    pub(super) at: u32,
    pub(super) entry_time_ns: i64,
    /// The number of its partition in the footer.
    pub(super) partition: u32,
    /// Bytes of the batch.
    pub(super) len: u32,
}

impl Ordered {
    /// Its place in the log.
    pub(super) fn place(&self) -> (RaftIndex, u32) {
        (self.index, self.at)
    }
}

/// Encodes the order section.
pub(super) struct OrderWriter {
    out: Vec<u8>,
    /// Of the entry before.
    index: RaftIndex,
    time_ns: i64,
    /// The batches of one entry.
    entry: Vec<Ordered>,
}

impl OrderWriter {
    pub(super) fn new(spec: &RecSpec) -> Self {
        Self { out: Vec::new(), index: spec.after, time_ns: 0, entry: Vec::new() }
    }

    /// Adds the next batch, which comes from a later place of the log than the one before.
    pub(super) fn push(&mut self, batch: Ordered) {
        if self.entry.first().is_some_and(|first| first.index != batch.index) {
            self.end_entry();
        }
        self.entry.push(batch);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.end_entry();
        self.out
    }

    fn end_entry(&mut self) {
        let Some(first) = self.entry.first() else { return };
        put_varint(&mut self.out, first.index.0 - self.index.0);
        put_varint(&mut self.out, zigzag(first.entry_time_ns.wrapping_sub(self.time_ns)));
        put_varint(&mut self.out, self.entry.len() as u64);
        (self.index, self.time_ns) = (first.index, first.entry_time_ns);
        let mut before = 0;
        for batch in self.entry.drain(..) {
            put_varint(&mut self.out, batch.partition.into());
            put_varint(&mut self.out, u64::from(batch.at - before));
            put_varint(&mut self.out, batch.len.into());
            before = batch.at;
        }
    }
}

/// Decodes the order section, batch by batch.
#[derive(Clone, Debug)]
pub(super) struct OrderReader {
    bytes: Bytes,
    position: usize,
    through: RaftIndex,
    partitions: u32,
    index: RaftIndex,
    time_ns: i64,
    /// Batches of the entry that are still to come.
    left: u64,
    /// Where the batch before was in the entry, if there was one.
    at: Option<u32>,
}

impl OrderReader {
    /// Reads the section of a file of `partitions` partitions.
    pub(super) fn new(bytes: Bytes, spec: &RecSpec, partitions: usize) -> Self {
        let partitions = partitions as u32;
        let (index, through) = (spec.after, spec.through);
        Self { bytes, position: 0, through, partitions, index, time_ns: 0, left: 0, at: None }
    }

    /// The next batch; `None` behind the last one.
    pub(super) fn next(&mut self) -> Result<Option<Ordered>, Malformed> {
        if self.left == 0 {
            if self.position == self.bytes.len() {
                return Ok(None);
            }
            self.begin_entry()?;
        }
        let partition = self.u32()?;
        let at = self.u32()?.checked_add(self.at.unwrap_or(0)).filter(|at| self.at.is_none_or(|before| *at > before));
        let len = self.u32()?;
        let at = at.ok_or(Malformed("the batches of an entry do not ascend"))?;
        if partition >= self.partitions || len < HEADER_BYTES as u32 {
            return Err(Malformed("a batch is of no partition, or shorter than a header"));
        }
        self.at = Some(at);
        self.left -= 1;
        Ok(Some(Ordered { index: self.index, at, entry_time_ns: self.time_ns, partition, len }))
    }

    fn begin_entry(&mut self) -> Result<(), Malformed> {
        let step = self.varint()?;
        let index = self.index.0.checked_add(step).filter(|index| step > 0 && *index <= self.through.0);
        self.index = RaftIndex(index.ok_or(Malformed("an entry is not one of the segment"))?);
        let step = self.varint()?;
        self.time_ns = self.time_ns.wrapping_add(unzigzag(step));
        self.left = self.varint()?;
        self.at = None;
        if self.left == 0 { Err(Malformed("an entry has no batches")) } else { Ok(()) }
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed("a number is over 32 bits"))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (n, byte) in self.bytes[self.position..].iter().take(MAX_VARINT_BYTES).enumerate() {
            // The tenth byte has room for one bit.
            if n + 1 == MAX_VARINT_BYTES && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << (7 * n);
            if byte & 0x80 == 0 {
                self.position += n + 1;
                return Ok(value);
            }
        }
        Err(Malformed("a number has no end"))
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small numbers of either sign become small.
fn zigzag(value: i64) -> u64 {
    (value.wrapping_shl(1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use stratalog_proto::{SegmentId, ShardId};

    use super::*;

    fn spec(after: u64, through: u64) -> RecSpec {
        RecSpec {
            id: SegmentId(uuid::Uuid::nil()),
            shard: ShardId(0),
            after: RaftIndex(after),
            through: RaftIndex(through),
        }
    }

    fn read_all(bytes: &[u8], spec: &RecSpec) -> Result<Vec<Ordered>, Malformed> {
        let mut reader = OrderReader::new(Bytes::copy_from_slice(bytes), spec, 100);
        std::iter::from_fn(|| reader.next().transpose()).take(1_000).collect()
    }

    /// Steps to the next entry and its time, and in it steps to the next place, with partition and length.
    type Steps = Vec<(u32, i64, Vec<(u32, u32, u32)>)>;

    fn steps() -> impl Strategy<Value = Steps> {
        let batch = (0..100_u32, 0..100_000_000_u32, 61..u32::MAX);
        vec((1..u32::MAX, any::<i64>(), vec(batch, 1..8)), 0..20)
    }

    fn batches(after: u64, steps: &Steps) -> Vec<Ordered> {
        let (mut index, mut found) = (after, Vec::new());
        for (step, entry_time_ns, entry) in steps {
            index += u64::from(*step);
            let mut at = 0;
            for (partition, step, len) in entry {
                at += step + 1;
                let (partition, len) = (*partition, *len);
                found.push(Ordered { index: RaftIndex(index), at, entry_time_ns: *entry_time_ns, partition, len });
            }
        }
        found
    }

    proptest! {
        #[test]
        fn an_order_comes_back(after in any::<u32>(), steps in steps()) {
            let batches = batches(after.into(), &steps);
            let spec = spec(after.into(), u64::MAX);
            let mut writer = OrderWriter::new(&spec);
            batches.iter().for_each(|batch| writer.push(*batch));
            let bytes = writer.finish();
            prop_assert_eq!(read_all(&bytes, &spec).unwrap(), batches.clone());
            if !bytes.is_empty() {
                prop_assert!(read_all(&bytes[..bytes.len() - 1], &spec).is_err(), "a cut is noticed");
            }
        }

        #[test]
        fn x1_an_order_of_garbage_never_panics(bytes in vec(any::<u8>(), 0..100), through in 1..300_u64) {
            let batches = read_all(&bytes, &spec(0, through)).unwrap_or_default();
            prop_assert!(batches.iter().all(|batch| batch.index.0 <= through && batch.partition < 100));
            prop_assert!(batches.is_sorted_by(|a, b| a.place() < b.place()));
        }
    }

    #[test]
    fn numbers_that_do_not_end_or_do_not_fit_are_refused() {
        assert!(read_all(&[0xFF; 11], &spec(0, u64::MAX)).is_err());
        // An index step of 2^64 - 1 is a number; one of 2^64 is not.
        let mut largest = vec![0xFF; 9];
        largest.push(1);
        let entry = [&largest[..], &[0, 1, 0, 0, 61]].concat();
        assert_eq!(read_all(&entry, &spec(0, u64::MAX)).unwrap()[0].index, RaftIndex(u64::MAX));
        largest[9] = 2;
        assert!(read_all(&[&largest[..], &[0, 1, 0, 0, 61]].concat(), &spec(0, u64::MAX)).is_err());
    }
}
