//! The codec against Kafka's own bytes, against itself, and against bytes that lie.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{Offset, ProducerId};

const LIMIT: usize = 1 << 20;

/// A record as the tests write it down.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plain {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Plain {
    fn new(timestamp_ms: i64, key: Option<&str>, value: Option<&str>, headers: &[(&str, Option<&str>)]) -> Self {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Self {
            timestamp_ms,
            key: key.map(bytes),
            value: value.map(bytes),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.map(bytes))).collect(),
        }
    }

    fn of(record: &Record) -> Self {
        let header = |header: Header| (header.key_text().into_owned(), header.value.map(|value| value.to_vec()));
        Self {
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_ref().map(|key| key.to_vec()),
            value: record.value.as_ref().map(|value| value.to_vec()),
            headers: record.headers.iter().map(header).collect(),
        }
    }

    fn push_to(&self, builder: &mut BatchBuilder) {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        builder.push(self.timestamp_ms, self.key.as_deref(), self.value.as_deref(), &headers);
    }
}

fn build(compression: Compression, records: &[Plain]) -> Bytes {
    let mut builder = BatchBuilder::new(compression).producer(ProducerId(4711), 3, 100);
    records.iter().for_each(|record| record.push_to(&mut builder));
    builder.finish()
}

fn read(batch: &Batch) -> Result<Vec<Plain>, BatchError> {
    batch.records(LIMIT)?.map(|record| record.map(|record| Plain::of(&record))).collect()
}

/// What the fixtures hold.
fn fixture_records() -> Vec<Plain> {
    let json = r#"{"level":"info","message":"hello hello hello hello hello"}"#;
    vec![
        Plain::new(1_700_000_000_000, Some("user-7"), Some(json), &[("source", Some("test")), ("none", None)]),
        Plain::new(1_700_000_000_250, None, Some(""), &[]),
        Plain::new(1_699_999_999_000, Some("gone"), None, &[]),
    ]
}

fn fixtures() -> Vec<(Compression, Bytes)> {
    let lines = include_str!("fixtures/java-3.9.0.txt").lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let (name, hex) = line.split_once(' ').unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (name.parse().unwrap(), (0..hex.len()).step_by(2).map(byte).collect())
    };
    lines.map(parse).collect()
}

/// A batch around `body`, whatever that is, with a header that says so.
fn forge(compression: Compression, record_count: i32, body: &[u8]) -> Bytes {
    let mut bytes = build(Compression::None, &fixture_records()[1..2])[..HEADER_BYTES].to_vec();
    bytes.extend_from_slice(body);
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[21..23].copy_from_slice(&i16::from(compression.codec()).to_be_bytes());
    bytes[23..27].copy_from_slice(&(record_count - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&record_count.to_be_bytes());
    validated::seal_checksum(&mut bytes);
    bytes.into()
}

#[test]
fn batches_of_the_java_client_are_read() {
    let fixtures = fixtures();
    assert_eq!(fixtures.iter().map(|(codec, _)| *codec).collect::<Vec<_>>(), Compression::ALL);
    for (codec, bytes) in fixtures {
        let batch = Batch::parse(bytes).unwrap();
        let header = batch.header();
        assert_eq!(batch.compression(), codec);
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (4711, 3, 100));
        assert_eq!((header.base_timestamp_ms, header.max_timestamp_ms), (1_700_000_000_000, 1_700_000_000_250));
        assert_eq!(read(&batch).unwrap(), fixture_records(), "{codec}");
    }
}

#[test]
fn uncompressed_batch_has_the_very_bytes_of_the_java_client() {
    let (codec, java) = fixtures().swap_remove(0);
    assert_eq!(codec, Compression::None);
    assert_eq!(build(Compression::None, &fixture_records()), java);
}

#[test]
fn raw_snappy_of_librdkafka_is_read() {
    let plain = build(Compression::None, &fixture_records());
    let body = snap::raw::Encoder::new().compress_vec(&plain[HEADER_BYTES..]).unwrap();
    let batch = Batch::parse(forge(Compression::Snappy, 3, &body)).unwrap();
    assert_eq!(read(&batch).unwrap().len(), 3);
}

#[test]
fn concatenated_snappy_streams_are_read() {
    let plain = build(Compression::None, &fixture_records());
    let (front, back) = plain[HEADER_BYTES..].split_at(20);
    let mut body = Vec::new();
    snappy::compress(&mut body, front);
    snappy::compress(&mut body, back);
    let batch = Batch::parse(forge(Compression::Snappy, 3, &body)).unwrap();
    assert_eq!(read(&batch).unwrap().len(), 3);
}

/// Java's producer streams into zstd and announces no size; large batches need the buffer to grow.
#[test]
fn zstd_without_an_announced_size_is_read() {
    let records = vec![Plain::new(0, None, Some(&"x".repeat(700_000)), &[])];
    let plain = build(Compression::None, &records);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
    std::io::Write::write_all(&mut encoder, &plain[HEADER_BYTES..]).unwrap();
    let body = encoder.finish().unwrap();
    let batch = Batch::parse(forge(Compression::Zstd, 1, &body)).unwrap();
    assert_eq!(read(&batch).unwrap().len(), 1);
    assert!(matches!(batch.records(600_000), Err(BatchError::Bomb { .. })));
}

#[test]
fn uncompressed_records_are_slices_of_the_batch() {
    let batch = Batch::parse(build(Compression::None, &fixture_records())).unwrap();
    let whole = batch.bytes().as_ptr_range();
    let record = batch.records(LIMIT).unwrap().next().unwrap().unwrap();
    for slice in [record.key.unwrap(), record.value.unwrap(), record.headers.iter().next().unwrap().key] {
        assert!(whole.contains(&slice.as_ptr()));
    }
}

#[test]
fn patched_header_keeps_the_checksum_valid() {
    let bytes = build(Compression::Lz4, &fixture_records());
    let batch = Batch::parse(bytes.clone()).unwrap();
    let (header, body) = batch.patched(Offset(1 << 40), 9);
    assert_eq!(header.len(), HEADER_BYTES);
    assert_eq!(body.as_ptr(), bytes[HEADER_BYTES..].as_ptr());
    let patched = Batch::parse([header, body].concat().into()).unwrap();
    assert_eq!((patched.header().base_offset, patched.header().leader_epoch), (1 << 40, 9));
    assert_eq!(read(&patched).unwrap(), fixture_records());
}

#[test]
fn batch_of_another_producer_differs_in_nothing_else() {
    let batch = Batch::parse(build(Compression::Zstd, &fixture_records())).unwrap();
    let other = Batch::parse(batch.with_producer(ProducerId(9), 0, 7)).unwrap();
    let header = other.header();
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 0, 7));
    assert_eq!(read(&other).unwrap(), fixture_records());
    assert_eq!(other.with_producer(ProducerId(4711), 3, 100), batch.bytes());
}

#[test]
fn log_append_time_overrides_the_records() {
    let mut bytes = build(Compression::None, &fixture_records()).to_vec();
    bytes[22] |= 1 << 3;
    validated::seal_checksum(&mut bytes);
    let records = read(&Batch::parse(bytes.into()).unwrap()).unwrap();
    assert!(records.iter().all(|record| record.timestamp_ms == 1_700_000_000_250));
}

#[test]
fn a_flipped_bit_fails_the_checksum_only_where_it_is_checked() {
    let mut bytes = build(Compression::None, &fixture_records()).to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let bytes = Bytes::from(bytes);
    assert!(matches!(Batch::parse(bytes.clone()), Err(BatchError::Checksum { .. })));
    assert!(Batch::parse_trusted(bytes).is_ok());
}

#[test]
fn older_formats_are_named() {
    let mut bytes = vec![0; 30];
    bytes[16] = 1;
    assert_eq!(Batch::parse(bytes.into()), Err(BatchError::Magic { magic: 1 }));
}

#[test]
fn more_or_fewer_bytes_than_declared_are_refused() {
    let bytes = build(Compression::None, &fixture_records());
    let longer: Bytes = [&bytes[..], &[0]].concat().into();
    assert!(matches!(Batch::parse(longer), Err(BatchError::Length { .. })));
    for len in 0..bytes.len() {
        assert!(Batch::parse(bytes.slice(..len)).is_err());
    }
}

#[test]
fn counts_that_lie_are_refused_before_memory_is_taken() {
    let one = &build(Compression::None, &fixture_records()[1..2])[HEADER_BYTES..];
    for count in [i32::MIN + 1, -1, 0] {
        assert!(matches!(Batch::parse(forge(Compression::None, count, one)), Err(BatchError::Count { .. })));
    }
    for count in [2, i32::MAX] {
        let batch = Batch::parse(forge(Compression::None, count, one)).unwrap();
        assert!(matches!(batch.records(LIMIT), Err(BatchError::Record { .. })));
    }
    let mut bytes = build(Compression::None, &fixture_records()).to_vec();
    bytes[26] = 1;
    assert!(matches!(Batch::parse_trusted(bytes.into()), Err(BatchError::Count { .. })));
}

#[test]
fn offsets_without_a_record_are_gaps_that_no_producer_may_leave() {
    let mut bytes = build(Compression::None, &fixture_records()).to_vec();
    bytes[26] = 7;
    let batch = Batch::parse_trusted(bytes.into()).unwrap();
    assert_eq!((batch.record_count(), batch.offset_count()), (3, 8));
    assert_eq!(read(&batch).unwrap(), fixture_records());
    assert!(matches!(batch.check_dense(), Err(BatchError::Count { .. })));
}

#[test]
fn offset_deltas_that_do_not_ascend_within_the_batch_are_refused() {
    let whole = Batch::parse(build(Compression::None, &fixture_records())).unwrap();
    let left = erase::without(&whole, |delta| delta == 0, LIMIT);
    // Deltas 1 and 2, in a batch that takes other numbers of offsets.
    for (last_delta, fits) in [(1, false), (2, true), (9, true)] {
        let mut bytes = left.to_vec();
        bytes[26] = last_delta;
        assert_eq!(read(&Batch::parse_trusted(bytes.into()).unwrap()).is_ok(), fits, "{last_delta}");
    }
    let twice = [&left[HEADER_BYTES..], &left[HEADER_BYTES..]].concat();
    let mut bytes = forge(Compression::None, 4, &twice).to_vec();
    bytes[26] = 9;
    assert!(matches!(read(&Batch::parse_trusted(bytes.into()).unwrap()), Err(BatchError::Record { index: 2, .. })));
}

#[test]
fn records_behind_the_last_one_are_refused() {
    let three = &build(Compression::None, &fixture_records())[HEADER_BYTES..];
    let batch = Batch::parse(forge(Compression::None, 2, three)).unwrap();
    let records: Vec<_> = batch.records(LIMIT).unwrap().collect();
    assert_eq!(records.len(), 3);
    assert!(matches!(records[2], Err(BatchError::LeftOver { .. })));
}

#[test]
fn lengths_inside_a_record_that_lie_are_refused() {
    let refused: [(&[u8], &str); 8] = [
        (&[0x7e, 0, 0, 0, 1, 1, 0], "record longer than the batch"),
        (&[0x01, 0, 0, 0, 1, 1, 0], "negative record length"),
        (&[0x0c, 0, 0, 0, 3, 1, 0], "key length of -2"),
        (&[0x0c, 0, 0, 0, 0x40, 1, 0], "key longer than the record"),
        (&[0x0c, 0, 0, 0, 1, 0x40, 0], "value longer than the record"),
        (&[0x0c, 0, 0, 0, 1, 1, 0x7e], "more headers than bytes"),
        (&[0x0c, 0, 0, 0, 1, 1, 1], "negative header count"),
        (&[0x0c, 0, 0, 2, 1, 1, 0], "offset delta out of order"),
    ];
    for (body, what) in refused {
        let batch = Batch::parse(forge(Compression::None, 1, body)).unwrap();
        let records: Vec<_> = batch.records(LIMIT).unwrap().collect();
        assert!(matches!(records[..], [Err(BatchError::Record { index: 0, .. })]), "{what}: {records:?}");
    }
}

#[test]
fn records_cut_in_a_varint_are_refused() {
    let plain = build(Compression::None, &fixture_records());
    for end in HEADER_BYTES + 3 * 7..plain.len() {
        let batch = Batch::parse(forge(Compression::None, 3, &plain[HEADER_BYTES..end])).unwrap();
        assert!(read(&batch).is_err(), "cut at {end}");
    }
}

#[test]
fn unknown_codec_is_refused() {
    let mut bytes = build(Compression::None, &fixture_records()).to_vec();
    bytes[22] |= 5;
    assert_eq!(Batch::parse_trusted(bytes.into()), Err(BatchError::Codec { codec: 5 }));
}

#[test]
fn producer_without_a_sequence_is_refused_but_in_control_batches() {
    let mut bytes = build(Compression::None, &fixture_records()).to_vec();
    bytes[53..57].copy_from_slice(&(-1_i32).to_be_bytes());
    assert!(matches!(Batch::parse_trusted(bytes.clone().into()), Err(BatchError::Producer { .. })));
    bytes[22] |= 1 << 5;
    assert!(Batch::parse_trusted(bytes.into()).unwrap().header().is_control());
}

#[test]
fn x1_decompression_bombs_stop_at_the_limit() {
    let bomb = vec![Plain::new(0, None, Some(&"\0".repeat(4 * LIMIT)), &[])];
    for codec in Compression::ALL {
        let batch = Batch::parse(build(codec, &bomb)).unwrap();
        let error = batch.records(LIMIT).unwrap_err();
        assert_eq!(error, BatchError::Bomb { codec, limit_bytes: LIMIT }, "{codec}");
    }
}

#[test]
fn x1_snappy_claims_beyond_its_ratio_are_refused_before_memory_is_taken() {
    let claim = [0xff, 0xff, 0x3f, 0];
    let batch = Batch::parse(forge(Compression::Snappy, 1, &claim)).unwrap();
    assert!(matches!(batch.records(usize::MAX), Err(BatchError::Decompress { .. })));
}

#[test]
fn x1_zstd_announcements_beyond_its_ratio_are_refused_before_memory_is_taken() {
    // Magic, a descriptor that says "eight bytes of content size, single segment", and that size.
    let announcement = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1_u64 << 60).to_le_bytes()].concat();
    let batch = Batch::parse(forge(Compression::Zstd, 1, &announcement)).unwrap();
    assert!(matches!(batch.records(usize::MAX), Err(BatchError::Decompress { .. })));
}

#[test]
fn no_limit_is_a_limit_too() {
    for codec in Compression::ALL {
        let batch = Batch::parse(build(codec, &fixture_records())).unwrap();
        assert_eq!(batch.records(usize::MAX).unwrap().count(), 3);
    }
}

#[test]
fn estimate_bounds_the_uncompressed_batch() {
    let mut builder = BatchBuilder::new(Compression::None);
    let mut bound = HEADER_BYTES;
    for record in fixture_records() {
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        bound += encoded_record_bytes(record.key.as_deref(), record.value.as_deref(), &headers);
        record.push_to(&mut builder);
        assert!(builder.estimated_bytes() <= bound);
    }
    let estimated = builder.estimated_bytes();
    assert_eq!(builder.finish().len(), estimated);
}

fn any_codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(&Compression::ALL[..])
}

fn any_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))
}

prop_compose! {
    fn any_record()(
        timestamp_ms in any::<i64>(), key in any_bytes(), value in any_bytes(),
        headers in proptest::collection::vec(("[a-zä]{0,9}", any_bytes()), 0..4),
    ) -> Plain {
        Plain { timestamp_ms, key, value, headers }
    }
}

proptest! {
    #[test]
    fn any_batch_round_trips(codec in any_codec(), records in proptest::collection::vec(any_record(), 1..40)) {
        let batch = Batch::parse(build(codec, &records)).unwrap();
        prop_assert_eq!(batch.record_count() as usize, records.len());
        prop_assert_eq!(read(&batch).unwrap(), records);
    }

    #[test]
    fn x1_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Batch::parse(bytes.into());
    }

    #[test]
    fn x1_garbage_records_never_panic(
        codec in any_codec(), count in 1..9_i32, body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = read(&Batch::parse(forge(codec, count, &body)).unwrap());
    }

    /// Nearly right bytes reach further into the decoders than random ones.
    #[test]
    fn x1_damaged_records_never_panic(
        codec in any_codec(), records in proptest::collection::vec(any_record(), 1..9),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = build(codec, &records).to_vec();
        for (at, byte) in damage {
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
            bytes[at] = byte;
        }
        let _ = read(&Batch::parse_trusted(bytes.into()).unwrap());
    }

    #[test]
    fn x1_truncated_records_are_an_error(
        codec in any_codec(), records in proptest::collection::vec(any_record(), 1..9), cut in any::<prop::sample::Index>(),
    ) {
        let whole = build(codec, &records);
        let body = &whole[HEADER_BYTES..];
        let body = &body[..cut.index(body.len())];
        let batch = Batch::parse(forge(codec, records.len() as i32, body)).unwrap();
        // Codecs with a trailer may lose part of that and still give all records.
        if let Ok(read) = read(&batch) {
            prop_assert!(codec != Compression::None && read.len() == records.len());
        }
    }
}
