//! Segments without some of their records.

use proptest::collection::vec;
use proptest::prelude::*;
use stratalog_proto::batch::{HEADER_BYTES, without};
use stratalog_proto::{ProducerId, internal};

use super::*;

/// The offsets of a history that these numbers pick.
fn picked(history: &History, picks: &[(u32, u32)]) -> ErasedOffsets {
    let pick = |(batch, record): &(u32, u32)| {
        let batch = &history.log[*batch as usize % history.log.len()];
        let offsets = next_of(batch).0 - batch.base_offset.0;
        (batch.topic, batch.partition, Offset(batch.base_offset.0 + u64::from(*record) % offsets))
    };
    picks.iter().map(pick).collect()
}

/// A batch as a consumer gets it once these are erased.
fn left_of(batch: &RecBatch, erased: &ErasedOffsets) -> Bytes {
    let whole = Batch::parse(patched(batch)).unwrap();
    let at = |delta| Offset(batch.base_offset.0 + u64::from(delta));
    without(&whole, |delta| erased.contains(batch.topic, batch.partition, at(delta)), 1 << 30)
}

fn erase(disk: &SimDisk, from: &RecReader, to: u8, erased: &ErasedOffsets) -> RecMeta {
    let keep: Vec<_> = from
        .topics()
        .iter()
        .flat_map(|of| of.ranges.iter().map(|r| (of.topic, r.partition)).collect::<Vec<_>>())
        .collect();
    repack(disk, Path::new(DIR), from, id(to), &keep, erased).unwrap().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// L2: offsets, places and times stay what they were, and each batch is what the codec makes of it.
    #[test]
    fn l2_all_that_is_not_erased_stays_where_it_was(history in histories(), picks in vec(any::<(u32, u32)>(), 1..40)) {
        let (disk, whole, reader) = written(&history);
        let erased = picked(&history, &picks);
        let meta = erase(&disk, &reader, 1, &erased);
        let left = open(&disk, id(1)).unwrap();
        prop_assert_eq!(&left.verify().unwrap(), &meta);
        prop_assert_eq!(meta.max_entry_time_ns, whole.max_entry_time_ns);
        for (topic, range) in whole.ranges() {
            let now = meta.range(topic, range.partition).unwrap();
            prop_assert_eq!((now.first, now.next), (range.first, range.next));
            prop_assert_eq!(left.epochs(topic, range.partition), reader.epochs(topic, range.partition));
        }
        let found: Vec<RecBatchRef> = left.ordered(RaftIndex(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let before: Vec<RecBatchRef> = reader.ordered(RaftIndex(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let expected = before.into_iter().zip(&history.log);
        let expected: Vec<_> = expected.map(|(found, batch)| RecBatchRef { batch: left_of(batch, &erased), ..found }).collect();
        prop_assert_eq!(found, expected);
        for batch in &history.log {
            let slice = left.read(batch.topic, batch.partition, batch.base_offset, 0).unwrap().unwrap();
            prop_assert_eq!((slice.first, slice.next), (batch.base_offset, next_of(batch)));
        }
    }

    /// A replica that erases the same has the same file; so has one that erases it in two steps.
    #[test]
    fn a1_erasing_is_a_pure_function(history in histories(), picks in vec(any::<(u32, u32)>(), 2..20)) {
        let (disk, _, reader) = written(&history);
        let file = |to: u8, from: &RecReader, erased: &ErasedOffsets| {
            erase(&disk, from, to, erased);
            file_of(&disk, id(to))
        };
        let once = file(9, &reader, &picked(&history, &picks));
        file(1, &reader, &picked(&history, &picks[1..]));
        let between = open(&disk, id(1)).unwrap();
        disk.remove(&path_of(id(9))).unwrap();
        prop_assert_eq!(file(9, &between, &picked(&history, &picks[..1])), once);
    }

    #[test]
    fn offsets_survive_replication(picks in vec((0..3_u8, 0..3_u32, any::<u64>()), 1..50)) {
        let erased: ErasedOffsets =
            picks.iter().map(|(of, partition, at)| (topic(*of), PartitionId(*partition), Offset(*at))).collect();
        prop_assert_eq!(ErasedOffsets::from_proto(&erased.to_proto()).unwrap(), erased);
    }

    #[test]
    fn x1_offsets_of_garbage_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let raw = internal::ErasedOffsets { topic: topic(0).to_bytes(), partition: 0, offsets: bytes.into() };
        let _ = ErasedOffsets::from_proto(&[raw]);
    }
}

#[test]
fn the_bytes_of_an_erased_record_are_in_no_block() {
    let (disk, _, reader) = written(&sample());
    let values = |file: &[u8], value: &[u8]| file.windows(value.len()).filter(|window| *window == value).count();
    let gone = reader.read(topic(0), PartitionId(0), Offset(first_offset(0, 0)), 0).unwrap().unwrap();
    let gone = Batch::parse(gone.bytes).unwrap().records(1 << 20).unwrap().next().unwrap().unwrap().value.unwrap();
    assert_eq!(values(&file_of(&disk, id(0)), &gone), 1);
    let erased = [(topic(0), PartitionId(0), Offset(first_offset(0, 0)))].into_iter().collect();
    let meta = erase(&disk, &reader, 1, &erased);
    assert_eq!(values(&file_of(&disk, id(1)), &gone), 0);
    assert!(erased.lie_in(&meta));
}

#[test]
fn a_batch_that_does_not_decompress_is_emptied_as_a_whole() {
    let mut history = sample();
    let broken = history.log.iter_mut().find(|batch| (batch.topic, batch.partition.0) == (topic(0), 1)).unwrap();
    // Says that it is compressed by gzip, which it is not.
    let mut bytes = broken.batch.to_vec();
    bytes[22] |= 1;
    broken.batch = Batch::parse_trusted(bytes.into()).unwrap().with_producer(ProducerId(1), 1, 0);
    let (at, offsets) = (broken.base_offset, next_of(broken).0 - broken.base_offset.0);
    let (disk, _, reader) = written(&history);
    erase(&disk, &reader, 1, &[(topic(0), PartitionId(1), at)].into_iter().collect());
    let slice = open(&disk, id(1)).unwrap().read(topic(0), PartitionId(1), at, 0).unwrap().unwrap();
    let left = Batch::parse(slice.bytes).unwrap();
    assert_eq!((left.bytes().len(), left.record_count()), (HEADER_BYTES, 0));
    assert_eq!(u64::from(left.offset_count()), offsets);
}

#[test]
fn offsets_that_contradict_themselves_are_refused() {
    let erased: ErasedOffsets =
        [(topic(0), PartitionId(0), Offset(5)), (topic(0), PartitionId(1), Offset(7))].into_iter().collect();
    let changes: [fn(&mut Vec<internal::ErasedOffsets>); 5] = [
        |raw| raw.swap(0, 1),
        |raw| raw[1] = raw[0].clone(),
        |raw| raw[0].topic = Bytes::new(),
        |raw| raw[0].offsets = raw[0].offsets.slice(1..),
        |raw| raw[1].offsets = vec![0; 17 << 20].into(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut raw = erased.to_proto();
        change(&mut raw);
        assert_eq!(ErasedOffsets::from_proto(&raw).unwrap_err().code, Code::CorruptData, "change {number}");
    }
    let empty = internal::ErasedOffsets { offsets: vec![0; 8].into(), ..erased.to_proto()[0].clone() };
    assert!(ErasedOffsets::from_proto(&[empty]).is_err());
}

#[test]
fn offsets_are_left_out_from_the_end_until_they_fit_a_command() {
    let at = |partition: u32, offset: u64| (topic(0), PartitionId(partition), Offset(offset));
    let dense = (0..300_000).map(|offset| at(0, offset));
    let sparse = (0..1_000).map(|number| at(1, number << 17)).chain((0..50).map(|number| at(2, number << 33)));
    let all: ErasedOffsets = dense.chain(sparse).collect();
    let encoded = |erased: &ErasedOffsets| erased.to_proto().iter().map(prost::Message::encoded_len).sum::<usize>();
    for max_bytes in [1 << 20, 45_000, 30_000, 10_000, 500, 100] {
        let mut some = all.clone();
        let is_whole = some.truncate(max_bytes);
        assert_eq!(is_whole, some == all);
        assert_eq!(is_whole, max_bytes == 1 << 20);
        assert!(encoded(&some) <= max_bytes, "{max_bytes}");
        assert!(is_whole || encoded(&some) * 2 > max_bytes || max_bytes < 1_000, "{max_bytes}: {}", encoded(&some));
        let lowest = some.iter().flat_map(|((_, partition), set)| set.iter().map(move |offset| (partition, offset)));
        let same = all.iter().flat_map(|((_, partition), set)| set.iter().map(move |offset| (partition, offset)));
        assert!(lowest.eq(same.take(some.len() as usize)), "the lowest stay");
    }
    let mut one = all.clone();
    assert!(!one.truncate(0));
    assert_eq!(one.len(), 1);
}
