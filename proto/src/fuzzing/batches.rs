//! Record batches, as a client or a peer sends them and as they lie on disk.

use bytes::Bytes;
use stratalog_mutation::{Decoder, Pieces};

use crate::batch::{Batch, BatchBuilder, Batches, Compression, HEADER_BYTES, without};
use crate::{Offset, ProducerId};

/// What records may decompress to here.
const MAX_CONTENT_BYTES: usize = 1 << 20;
/// Content, what is compressed anew of it, and what the codecs take: for a frame of LZ4 that announces blocks of 4 MiB, its
/// reader takes four times that, whatever is in it.
const MEMORY_BYTES: usize = 24 << 20;

/// Batches back to back, in which checksums are not judged: a fuzzer finds no right one.
pub const BATCHES: Decoder =
    Decoder { name: "batches", samples: several, run: read_batches, words: &[], memory_bytes: MEMORY_BYTES };

/// A codec, numbers of records and offsets, and the records: behind a header that is right for them.
pub const RECORDS: Decoder =
    Decoder { name: "records", samples: bodies, run: read_body, words: &[], memory_bytes: MEMORY_BYTES };

/// A batch of some records; the value of the last is long enough to be worth compressing.
fn batch(codec: Compression, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(codec).producer(ProducerId(4711), 3, 100);
    for number in 0..records {
        let (key, value) = (format!("key {number}"), format!("value {number} ").repeat(1 + 8 * number));
        let key = (number % 2 == 0).then_some(key.as_bytes());
        let headers: &[_] = if number % 3 == 0 { &[("source", Some(&b"test"[..])), ("none", None)] } else { &[] };
        builder.push(1_700_000_000_000 + number as i64, key, Some(value.as_bytes()), headers);
    }
    builder.finish()
}

fn several() -> Vec<Vec<u8>> {
    let each = Compression::ALL.map(|codec| batch(codec, 4).to_vec());
    let together = [batch(Compression::None, 1), batch(Compression::Zstd, 9)].concat();
    each.into_iter().chain([together]).collect()
}

fn read_batches(bytes: &[u8]) -> bool {
    let mut read = 0;
    for cut in Batches::new(Bytes::copy_from_slice(bytes)) {
        let Ok(cut) = cut else { return false };
        let _ = Batch::parse(cut.clone());
        match Batch::parse_trusted(cut) {
            Ok(batch) => read += usize::from(read_batch(&batch)),
            Err(_) => return false,
        }
    }
    read > 0
}

/// Whether its records decode.
fn read_batch(batch: &Batch) -> bool {
    let _ = (batch.check_dense(), batch.patched(Offset(9), 7));
    let renumbered = Batch::parse(batch.with_producer(ProducerId(1), 0, 0));
    assert_eq!(renumbered.unwrap().record_count(), batch.record_count());
    erase_some(batch);
    let Ok(records) = batch.records(MAX_CONTENT_BYTES) else { return false };
    let mut last = -1;
    for record in records {
        let Ok(record) = record else { return false };
        assert!(record.offset_delta > last, "L2: offset deltas ascend");
        last = record.offset_delta;
        record.headers.iter().for_each(|header| drop(header.key_text()));
    }
    i64::from(last) < i64::from(batch.offset_count())
}

/// What stays of a batch is one again, of the same offsets.
fn erase_some(batch: &Batch) {
    let left = without(batch, |delta| delta % 2 == 1, MAX_CONTENT_BYTES);
    let left = Batch::parse_trusted(left).expect("what stays of a batch is a batch");
    assert_eq!(left.offset_count(), batch.offset_count(), "L2: erasure moves no offset");
    assert!(left.record_count() <= batch.record_count());
}

fn bodies() -> Vec<Vec<u8>> {
    let body = |codec: Compression| {
        let batch = batch(codec, 5);
        [&[codec.codec()][..], &5_u32.to_le_bytes(), &4_u32.to_le_bytes(), &batch[HEADER_BYTES..]].concat()
    };
    Compression::ALL.map(body).into()
}

fn read_body(bytes: &[u8]) -> bool {
    let mut pieces = Pieces(bytes);
    let (codec, records, last_delta) = (pieces.byte() & 7, pieces.number(), pieces.number());
    let mut forged = batch(Compression::None, 1)[..HEADER_BYTES].to_vec();
    forged.extend_from_slice(pieces.rest());
    let length = forged.len() as u32 - 12;
    forged[8..12].copy_from_slice(&length.to_be_bytes());
    forged[22] = codec;
    forged[23..27].copy_from_slice(&last_delta.to_be_bytes());
    forged[57..61].copy_from_slice(&records.to_be_bytes());
    Batch::parse_trusted(forged.into()).is_ok_and(|batch| read_batch(&batch))
}
