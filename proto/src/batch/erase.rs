//! A batch without some of its records.

use bytes::Bytes;

use super::header::{CODEC_MASK, HEADER_BYTES, LENGTH_OVERHEAD};
use super::validated::seal_checksum;
use super::{Batch, BatchError, BatchHeader, Compression, Records};

/// Kafka's "no timestamp", which an empty batch carries.
const NO_TIMESTAMP: i64 = -1;

/// The batch without the records whose offset delta is `erased`, compressed by the same codec; the batch itself, as a
/// slice, if it has none of them. What stays is byte for byte what it was: offset deltas, timestamps, keys, values and
/// headers. So are the batch's offsets and the fields of its producer: the records leave gaps, as Kafka's compaction
/// leaves them. The largest timestamp is that of the records that stay, unless the log has set it.
///
/// A batch of which nothing stays is a header alone: without codec and timestamps, which could tell of what was there.
///
/// It is a pure function of its input, so that replicas that erase the same come to the same bytes.
///
/// Of a batch whose records decode up to some point only, those before it are told apart. The bytes behind stay as they are
/// if no offset there is erased, and all of them go otherwise, since whose they are is not known. The same is done where
/// they would read differently behind fewer records. Of one that does not decompress nothing stays.
pub fn without(batch: &Batch, erased: impl Fn(u32) -> bool, max_bytes: usize) -> Bytes {
    let Ok(records) = batch.records(max_bytes) else { return emptied(batch) };
    let kept = Kept::of(records, &erased);
    let rest_goes = kept.rest.is_some() && (kept.next_delta..batch.offset_count()).any(&erased);
    if kept.erased == 0 && !rest_goes {
        return batch.bytes().clone();
    }
    let with_rest = (!rest_goes).then(|| kept.with_rest(batch)).flatten();
    let whole = with_rest.filter(|bytes| kept.rest.is_none() || kept.reads_the_same(bytes, max_bytes));
    whole.unwrap_or_else(|| kept.alone(batch))
}

/// What stays of the records of a batch.
struct Kept {
    /// The records that stay, as they were.
    bytes: Vec<u8>,
    count: u32,
    erased: u32,
    max_timestamp_ms: i64,
    /// The lowest offset delta that what was not decoded may have.
    next_delta: u32,
    /// What could not be decoded, and why; `None` if everything could.
    rest: Option<(Bytes, &'static str)>,
}

impl Kept {
    fn of(mut records: Records, erased: impl Fn(u32) -> bool) -> Self {
        let (bytes, max_timestamp_ms) = (Vec::new(), i64::MIN);
        let mut kept = Self { bytes, count: 0, erased: 0, max_timestamp_ms, next_delta: 0, rest: None };
        loop {
            let start = records.position();
            let record = match records.next() {
                None => return kept,
                Some(Err(error)) => {
                    kept.rest = Some((records.rest_from(start), reason(&error)));
                    return kept;
                }
                Some(Ok(record)) => record,
            };
            kept.next_delta = record.offset_delta as u32 + 1;
            if erased(record.offset_delta as u32) {
                kept.erased += 1;
                continue;
            }
            kept.bytes.extend_from_slice(records.bytes_from(start));
            kept.count += 1;
            kept.max_timestamp_ms = kept.max_timestamp_ms.max(record.timestamp_ms);
        }
    }

    /// A batch of what was decoded and stays.
    fn alone(&self, batch: &Batch) -> Bytes {
        if self.count == 0 {
            return emptied(batch);
        }
        let (record_count, max_timestamp_ms) = (self.count as i32, self.max_timestamp_ms);
        encode(
            BatchHeader { record_count, max_timestamp_ms, ..batch.header().clone() },
            batch.compression(),
            &self.bytes,
        )
    }

    /// A batch of that and of what was not decoded; `None` if there is nothing of the latter.
    fn with_rest(&self, batch: &Batch) -> Option<Bytes> {
        let (rest, _) = self.rest.as_ref()?;
        let record_count = (batch.record_count() - self.erased) as i32;
        let header = BatchHeader { record_count, ..batch.header().clone() };
        Some(encode(header, batch.compression(), &[&self.bytes, &rest[..]].concat()))
    }

    /// Whether the records of a batch are those that stay, and what follows fails to decode as it did.
    fn reads_the_same(&self, bytes: &Bytes, max_bytes: usize) -> bool {
        let records = Batch::parse(bytes.clone()).and_then(|batch| batch.records(max_bytes));
        let Ok(records) = records else { return false };
        let again = Self::of(records, |_| false);
        let why = |kept: &Self| kept.rest.as_ref().map(|(_, why)| *why);
        again.bytes == self.bytes && why(&again) == why(self)
    }
}

/// Why a record does not decode, whatever its number is.
fn reason(error: &BatchError) -> &'static str {
    match error {
        BatchError::Record { reason, .. } => reason,
        _ => "",
    }
}

/// The batch without all of its records, whatever they are: they are not read.
fn emptied(batch: &Batch) -> Bytes {
    let header = batch.header().clone();
    let attributes = header.attributes & !CODEC_MASK;
    let (base_timestamp_ms, max_timestamp_ms) = (NO_TIMESTAMP, NO_TIMESTAMP);
    let header = BatchHeader { attributes, record_count: 0, base_timestamp_ms, max_timestamp_ms, ..header };
    encode(header, Compression::None, &[])
}

/// A batch of this header and these records. Length and checksum are new.
fn encode(header: BatchHeader, codec: Compression, records: &[u8]) -> Bytes {
    let mut batch = codec.compress(vec![0; HEADER_BYTES], records);
    let header = BatchHeader { batch_length: (batch.len() - LENGTH_OVERHEAD) as i32, ..header };
    batch[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    seal_checksum(&mut batch);
    batch.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ProducerId;
    use crate::batch::{BatchBuilder, Record};

    const MAX_BYTES: usize = 1 << 20;

    fn batch_of(codec: Compression, timestamps: &[i64]) -> Batch {
        let mut builder = BatchBuilder::new(codec).producer(ProducerId(9), 2, 70);
        for (number, timestamp_ms) in timestamps.iter().enumerate() {
            let value = format!("value {number}");
            builder.push(*timestamp_ms, Some(b"key"), Some(value.as_bytes()), &[("h", None), ("i", Some(b"j"))]);
        }
        Batch::parse(builder.finish()).unwrap()
    }

    fn records(batch: &Batch) -> Vec<Record> {
        batch.records(MAX_BYTES).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn erase(batch: &Batch, erased: &[u32]) -> Batch {
        Batch::parse(without(batch, |delta| erased.contains(&delta), MAX_BYTES)).unwrap()
    }

    proptest! {
        #[test]
        fn what_stays_is_what_it_was(
            timestamps in prop::collection::vec(any::<i64>(), 1..40),
            erased in prop::collection::vec(0..45_u32, 0..40),
            codec in prop::sample::select(Compression::ALL.to_vec()),
        ) {
            let whole = batch_of(codec, &timestamps);
            let left = erase(&whole, &erased);
            let expected: Vec<Record> =
                records(&whole).into_iter().filter(|record| !erased.contains(&(record.offset_delta as u32))).collect();
            prop_assert_eq!(&records(&left), &expected);
            prop_assert_eq!(left.offset_count(), whole.offset_count());
            prop_assert_eq!(left.record_count() as usize, expected.len());
            let newest = expected.iter().map(|record| record.timestamp_ms).max();
            prop_assert_eq!(left.header().max_timestamp_ms, newest.unwrap_or(NO_TIMESTAMP));
            let fields = |batch: &Batch| {
                let header = batch.header().clone();
                (header.base_offset, header.producer_id, header.producer_epoch, header.base_sequence)
            };
            prop_assert_eq!(fields(&left), fields(&whole));
            // Erasing again, or in two steps, comes to the same.
            let again = erase(&left, &erased);
            prop_assert_eq!(again.bytes(), left.bytes());
        }
    }

    #[test]
    fn nothing_erased_is_the_batch_itself() {
        let batch = batch_of(Compression::Zstd, &[1, 2, 3]);
        assert_eq!(erase(&batch, &[7]).bytes().as_ptr(), batch.bytes().as_ptr());
    }

    #[test]
    fn a_batch_of_which_nothing_stays_is_a_header() {
        for codec in Compression::ALL {
            let batch = batch_of(codec, &[1_700_000_000_000; 3]);
            let left = erase(&batch, &[0, 1, 2]);
            assert_eq!((left.bytes().len(), left.compression()), (HEADER_BYTES, Compression::None));
            assert_eq!((left.offset_count(), left.record_count()), (3, 0));
            assert_eq!((left.header().base_timestamp_ms, left.header().max_timestamp_ms), (-1, -1));
            assert_eq!(records(&left), []);
            assert!(matches!(left.check_dense(), Err(BatchError::Count { .. })));
        }
    }

    #[test]
    fn a_batch_that_does_not_decode_is_only_emptied() {
        let mut bytes = batch_of(Compression::Gzip, &[1, 2]).bytes().to_vec();
        bytes.truncate(HEADER_BYTES);
        bytes.extend_from_slice(b"no gzip");
        let length = (bytes.len() - LENGTH_OVERHEAD) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        seal_checksum(&mut bytes);
        let batch = Batch::parse(bytes.into()).unwrap();
        let left = erase(&batch, &[1]);
        assert_eq!((left.offset_count(), left.record_count()), (2, 0));
    }

    /// Five records, of which the third says that it is longer than its fields.
    fn broken_at_the_third(codec: Compression) -> Batch {
        let whole = batch_of(Compression::None, &[1, 2, 3, 4, 5]);
        let mut records = whole.records(MAX_BYTES).unwrap();
        records.by_ref().take(2).for_each(|record| drop(record.unwrap()));
        let at = records.position();
        let mut body = records.rest_from(0).to_vec();
        // The number of its headers, of which each has two lengths, comes to more than there are.
        let header_count = body[at..].windows(2).position(|bytes| bytes == [4, 2]).unwrap();
        body[at + header_count] = 0x7e;
        let batch = Batch::parse(encode(whole.header().clone(), Compression::None, &body)).unwrap();
        assert!(batch.records(MAX_BYTES).unwrap().nth(2).unwrap().is_err());
        let header = BatchHeader { attributes: i16::from(codec.codec()), ..whole.header().clone() };
        Batch::parse(encode(header, codec, &body)).unwrap()
    }

    fn decodable(batch: &Batch) -> Vec<i32> {
        batch.records(MAX_BYTES).unwrap().map_while(Result::ok).map(|record| record.offset_delta).collect()
    }

    #[test]
    fn what_decodes_of_a_batch_stays_when_another_record_of_it_goes() {
        for codec in Compression::ALL {
            let batch = broken_at_the_third(codec);
            assert_eq!(decodable(&batch), [0, 1]);
            let left = erase(&batch, &[0]);
            assert_eq!((decodable(&left), left.offset_count(), left.record_count()), (vec![1], 5, 4));
            assert!(left.records(MAX_BYTES).unwrap().nth(1).unwrap().is_err(), "the rest is as unreadable as it was");
            assert_eq!(left.compression(), codec);
        }
    }

    #[test]
    fn what_does_not_decode_goes_with_an_erased_record_that_may_be_in_it() {
        let batch = broken_at_the_third(Compression::Zstd);
        let left = erase(&batch, &[0, 3]);
        assert_eq!((records(&left).len(), decodable(&left), left.offset_count()), (1, vec![1], 5));
        assert_eq!(erase(&batch, &[9]).bytes(), batch.bytes());
        assert_eq!(erase(&batch, &[0, 1, 2]).record_count(), 0);
    }
}
