//! From fetched batches to records.

use bytes::Bytes;
use stratalog_proto::batch::{Batch, BatchError, BatchHeader, Batches, Record};
use stratalog_proto::{Code, Offset, PartitionId, ProducerId};

use super::positions::Position;
use super::{ConsumedRecord, ProducerEpoch};
use crate::ClientError;

/// The most memory that the records of one batch may take: a compressed batch has at most 16 MiB.
const MAX_RECORDS_BYTES: usize = 256 << 20;

/// Appends the records of the batches in `bytes` that lie within `position` to `out`, and moves the position behind each
/// batch that was read.
///
/// The first batch of a fetch may start below the offset that was asked for: what comes before is skipped. Markers of
/// the log itself are skipped as well. Of a batch with an error nothing is appended; what came before it stays.
pub(super) fn decode(
    partition: PartitionId,
    bytes: Bytes,
    position: &mut Position,
    out: &mut Vec<ConsumedRecord>,
) -> Result<(), ClientError> {
    let mut batches = Batches::new(bytes);
    while !position.is_done()
        && let Some(batch) = batches.next()
    {
        let asked = position.next;
        let corrupt = |error| corrupt(partition, asked, &error);
        let batch = batch.and_then(Batch::parse).map_err(corrupt)?;
        decode_batch(partition, &batch, position, out)?;
    }
    Ok(())
}

/// What the headers of batches say: whether they say the truth, [`decode`] finds out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// One past the last offset.
    pub(super) end: Offset,
    /// Records.
    pub(super) records: usize,
}

impl Extent {
    /// That of the batches in `bytes`.
    pub(super) fn of(bytes: &Bytes) -> Self {
        let headers = Batches::new(bytes.clone()).map_while(|batch| BatchHeader::read(&batch.ok()?).ok());
        let one = |header: BatchHeader| {
            let end = header.base_offset.checked_add(header.offset_count().into())?.try_into().ok()?;
            Some(Self { end: Offset(end), records: header.record_count.try_into().ok()? })
        };
        headers.filter_map(one).fold(Self::default(), Self::and)
    }

    /// That of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self { end: self.end.max(other.end), records: self.records.saturating_add(other.records) }
    }
}

fn decode_batch(
    partition: PartitionId,
    batch: &Batch,
    position: &mut Position,
    out: &mut Vec<ConsumedRecord>,
) -> Result<(), ClientError> {
    let base = base_offset(partition, batch)?;
    if !batch.header().is_control() {
        let before = out.len();
        read_into(partition, base, batch, position, out).map_err(|error| {
            out.truncate(before);
            corrupt(partition, position.next, &error)
        })?;
    }
    position.next = position.next.max(Offset(base + u64::from(batch.offset_count())));
    Ok(())
}

fn corrupt(partition: PartitionId, asked: Offset, error: &BatchError) -> ClientError {
    let message = format!("partition {partition}, batch at or before offset {asked}: {error}");
    ClientError::new(Code::CorruptBatch, message)
}

fn read_into(
    partition: PartitionId,
    base: u64,
    batch: &Batch,
    position: &Position,
    out: &mut Vec<ConsumedRecord>,
) -> Result<(), BatchError> {
    let producer = producer_of(batch.header());
    for record in batch.records(MAX_RECORDS_BYTES)? {
        let record = record?;
        let offset = Offset(base + record.offset_delta as u64);
        if offset >= position.next && position.end.is_none_or(|end| offset < end) {
            out.push(consumed(partition, offset, producer, record));
        }
    }
    Ok(())
}

fn producer_of(header: &BatchHeader) -> Option<ProducerEpoch> {
    let named = ProducerEpoch { id: ProducerId(header.producer_id), epoch: header.producer_epoch };
    header.has_producer().then_some(named)
}

fn base_offset(partition: PartitionId, batch: &Batch) -> Result<u64, ClientError> {
    let base = batch.header().base_offset;
    let in_range = base.checked_add(i64::from(batch.offset_count())).is_some();
    u64::try_from(base).ok().filter(|_| in_range).ok_or_else(|| {
        ClientError::new(Code::CorruptBatch, format!("partition {partition}: a batch with base offset {base}"))
    })
}

fn consumed(partition: PartitionId, offset: Offset, producer: Option<ProducerEpoch>, record: Record) -> ConsumedRecord {
    let headers = record.headers.iter().map(|header| (header.key_text().into_owned(), header.value));
    ConsumedRecord {
        partition,
        offset,
        timestamp_ms: record.timestamp_ms,
        headers: headers.collect(),
        key: record.key,
        value: record.value,
        producer,
    }
}

#[cfg(test)]
mod tests {
    use stratalog_mutation::{Decoder, Pieces};
    use stratalog_proto::batch::{BatchBuilder, Compression, without};

    use super::*;

    /// The first offset that is asked for and the end (two u32), and batches, whose checksums are mended.
    const FETCHED: Decoder =
        Decoder { name: "fetched", samples: fetched, run: read_fetched, words: &[], memory_bytes: 24 << 20 };

    fn fetched() -> Vec<Vec<u8>> {
        let asked = |next: u32, end: u32, batches: &[Bytes]| {
            [&next.to_le_bytes()[..], &end.to_le_bytes(), &batches.concat()].concat()
        };
        vec![asked(11, 0, &[batch_at(10, 2), batch_at(12, 3)]), asked(0, 4, &[batch_at(1, 5)])]
    }

    fn with_right_checksums(bytes: &[u8]) -> Bytes {
        let one = |batch: Bytes| match Batch::parse_trusted(batch.clone()) {
            Ok(batch) => batch.with_producer(ProducerId(1), 0, 0),
            Err(_) => batch,
        };
        let all = Batches::new(Bytes::copy_from_slice(bytes)).map_while(Result::ok).map(one);
        all.collect::<Vec<_>>().concat().into()
    }

    fn read_fetched(bytes: &[u8]) -> bool {
        let mut pieces = Pieces(bytes);
        let (next, end) = (Offset(pieces.number().into()), Offset(pieces.number().into()));
        let mut position = Position { next, end: (end.0 > 0).then_some(end) };
        let (bytes, mut records) = (Bytes::copy_from_slice(pieces.rest()), Vec::new());
        let _ = (Extent::of(&bytes), decode(PartitionId(0), bytes.clone(), &mut position.clone(), &mut records));
        records.clear();
        let is_whole = decode(PartitionId(0), with_right_checksums(&bytes), &mut position, &mut records).is_ok();
        assert!(records.is_sorted_by(|one, other| one.offset < other.offset), "L2: offsets ascend");
        let within = |record: &ConsumedRecord| next <= record.offset && record.offset < position.next;
        assert!(records.iter().all(within), "what was not asked for is skipped");
        is_whole && !records.is_empty()
    }

    #[test]
    fn x1_fetched_batches_that_lie() {
        FETCHED.check();
    }

    fn batch_at(base: u64, count: u64) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        (base..base + count).for_each(|n| builder.push(0, None, Some(n.to_string().as_bytes()), &[]));
        let (header, body) = Batch::parse(builder.finish()).unwrap().patched(Offset(base), 1);
        [header, body].concat().into()
    }

    fn offsets(batch: Bytes, position: &mut Position) -> Vec<u64> {
        let mut out = Vec::new();
        decode(PartitionId(0), batch, position, &mut out).unwrap();
        out.iter().map(|record| record.offset.0).collect()
    }

    #[test]
    fn records_below_the_asked_offset_are_skipped() {
        let mut position = Position { next: Offset(12), end: None };
        assert_eq!(offsets(batch_at(10, 4), &mut position), [12, 13]);
        assert_eq!(position.next, Offset(14));
    }

    #[test]
    fn records_at_or_above_the_end_are_skipped() {
        let mut position = Position { next: Offset(10), end: Some(Offset(12)) };
        assert_eq!(offsets(batch_at(10, 4), &mut position), [10, 11]);
        assert!(position.is_done());
    }

    #[test]
    fn a_batch_wholly_below_the_position_does_not_move_it_back() {
        let mut position = Position { next: Offset(50), end: None };
        assert!(offsets(batch_at(10, 4), &mut position).is_empty());
        assert_eq!(position.next, Offset(50));
    }

    #[test]
    fn a_position_moves_over_erased_records() {
        let whole = Batch::parse(batch_at(10, 4)).unwrap();
        let erased = |kept: Option<u32>| without(&whole, |delta| Some(delta) != kept, 1 << 20);
        let mut position = Position { next: Offset(10), end: None };
        assert_eq!(offsets(erased(Some(1)), &mut position), [11]);
        assert_eq!(position.next, Offset(14));
        let mut position = Position { next: Offset(10), end: None };
        let nothing = Bytes::from([erased(None), batch_at(14, 1)].concat());
        assert_eq!(Extent::of(&nothing), Extent { end: Offset(15), records: 1 });
        assert_eq!(offsets(nothing, &mut position), [14]);
    }

    #[test]
    fn several_batches_of_one_element_are_read_up_to_the_end() {
        let several = || Bytes::from([batch_at(10, 2), batch_at(12, 3), batch_at(15, 1)].concat());
        let mut position = Position { next: Offset(11), end: None };
        assert_eq!(offsets(several(), &mut position), [11, 12, 13, 14, 15]);
        assert_eq!(position.next, Offset(16));
        let mut position = Position { next: Offset(11), end: Some(Offset(13)) };
        assert_eq!(offsets(several(), &mut position), [11, 12]);
        assert!(position.is_done());
    }

    #[test]
    fn an_extent_is_that_of_the_batches_that_are_whole() {
        let several = Bytes::from([batch_at(10, 2), batch_at(12, 3)].concat());
        let extent = |end, records| Extent { end: Offset(end), records };
        assert_eq!(Extent::of(&several), extent(15, 5));
        assert_eq!(Extent::of(&several.slice(..several.len() - 1)), extent(12, 2));
        assert_eq!(Extent::of(&Bytes::new()), extent(0, 0));
    }

    #[test]
    fn batches_before_a_damaged_one_of_the_same_element_are_kept() {
        let mut bytes = [batch_at(0, 2), batch_at(2, 2)].concat();
        *bytes.last_mut().unwrap() ^= 1;
        let cut_short = Bytes::from([batch_at(0, 2), batch_at(2, 2)].concat()).slice(..batch_at(0, 2).len() + 70);
        for bytes in [bytes.into(), cut_short] {
            let (mut position, mut out) = (Position { next: Offset(0), end: None }, Vec::new());
            let error = decode(PartitionId(0), bytes, &mut position, &mut out).unwrap_err();
            assert!(error.message().contains("at or before offset 2"), "{error}");
            assert_eq!((out.len(), position.next), (2, Offset(2)));
        }
    }

    #[test]
    fn a_record_names_the_epoch_of_the_producer_that_wrote_it() {
        let written = |epoch| Batch::parse_trusted(batch_at(10, 2)).unwrap().with_producer(ProducerId(7), epoch, 0);
        let (mut position, mut out) = (Position { next: Offset(10), end: None }, Vec::new());
        decode(PartitionId(0), [batch_at(8, 2), written(3)].concat().into(), &mut position, &mut out).unwrap();
        let named = Some(ProducerEpoch { id: ProducerId(7), epoch: 3 });
        assert_eq!(out.iter().map(|record| record.producer).collect::<Vec<_>>(), [named, named]);
        let mut position = Position { next: Offset(8), end: Some(Offset(10)) };
        out.clear();
        decode(PartitionId(0), batch_at(8, 2), &mut position, &mut out).unwrap();
        assert_eq!(out.iter().map(|record| record.producer).collect::<Vec<_>>(), [None, None]);
    }

    #[test]
    fn a_damaged_batch_is_an_error() {
        let mut bytes = batch_at(0, 2).to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let mut position = Position { next: Offset(0), end: None };
        let error = decode(PartitionId(3), bytes.into(), &mut position, &mut Vec::new()).unwrap_err();
        assert_eq!(error.code(), Code::CorruptBatch);
        assert!(error.message().contains("partition 3"), "{error}");
    }
}
