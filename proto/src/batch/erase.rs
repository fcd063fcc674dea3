//! A batch without some of its records.

use bytes::Bytes;

use super::header::{CODEC_MASK, HEADER_BYTES, LENGTH_OVERHEAD};
use super::validated::seal_checksum;
use super::{Batch, BatchError, BatchHeader, Compression};

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
/// # Errors
/// As [`Batch::records`] and the iterator that it gives: without reading its records, they cannot be told apart.
pub fn without(batch: &Batch, erased: impl Fn(u32) -> bool, max_bytes: usize) -> Result<Bytes, BatchError> {
    let mut records = batch.records(max_bytes)?;
    let (mut kept, mut count, mut max_timestamp_ms) = (Vec::new(), 0, i64::MIN);
    loop {
        let start = records.position();
        let Some(record) = records.next().transpose()? else { break };
        if erased(record.offset_delta as u32) {
            continue;
        }
        kept.extend_from_slice(records.bytes_from(start));
        count += 1;
        max_timestamp_ms = max_timestamp_ms.max(record.timestamp_ms);
    }
    if count == batch.record_count() {
        return Ok(batch.bytes().clone());
    }
    let header = BatchHeader { record_count: count as i32, max_timestamp_ms, ..batch.header().clone() };
    Ok(if count == 0 { emptied(batch) } else { encode(header, batch.compression(), &kept) })
}

/// The batch without all of its records, whatever they are: they are not read.
pub fn emptied(batch: &Batch) -> Bytes {
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
        Batch::parse(without(batch, |delta| erased.contains(&delta), MAX_BYTES).unwrap()).unwrap()
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
        assert!(matches!(without(&batch, |_| true, MAX_BYTES), Err(BatchError::Decompress { .. })));
        let left = Batch::parse(emptied(&batch)).unwrap();
        assert_eq!((left.offset_count(), left.record_count()), (2, 0));
    }
}
