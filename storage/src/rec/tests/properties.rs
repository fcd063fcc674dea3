//! Against a model: a list of batches.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever was appended: the order of the log comes back, from any index on, and the deep check is content.
    #[test]
    fn batches_come_back_in_the_order_of_the_log(history in histories(), after in 90..200_u64) {
        let (_, meta, reader) = written(&history);
        prop_assert_eq!(&reader.verify().unwrap(), &meta);
        let found: Vec<RecBatchRef> = reader.ordered(RaftIndex(after)).unwrap().collect::<Result<_, _>>().unwrap();
        let expected: Vec<RecBatchRef> = history.log.iter().filter(|batch| batch.index.0 > after).map(as_read).collect();
        prop_assert_eq!(found, expected);
    }

    /// A fetch from any offset: whole batches, the first with that offset, no more than asked for unless it is one, and
    /// fewer only by less than a span.
    #[test]
    fn l2_a_fetch_from_any_offset_is_whole_batches(history in histories(), picks in vec((any::<u32>(), 0..80_000_usize), 1..20)) {
        let (_, _, reader) = written(&history);
        let partitions = history.partitions();
        for (pick, max_bytes) in picks {
            let (topic, partition) = partitions[pick as usize % partitions.len()];
            let batches = history.of_partition((topic, partition));
            let (first, next) = (batches[0].base_offset.0, next_of(batches[batches.len() - 1]).0);
            let from = Offset(first + u64::from(pick) % (next - first));
            let slice = reader.read(topic, partition, from, max_bytes).unwrap().unwrap();
            let answer: Vec<_> = batches.iter().filter(|batch| (slice.first..slice.next).contains(&batch.base_offset)).collect();
            prop_assert!(slice.first <= from && from < next_of(answer[0]));
            prop_assert_eq!(slice.next, next_of(answer[answer.len() - 1]));
            prop_assert_eq!(&slice.bytes, &answer.iter().map(|batch| patched(batch)).collect::<Vec<_>>().concat());
            prop_assert!(slice.bytes.len() <= max_bytes || answer.len() == 1);
            let follows = batches.iter().find(|batch| batch.base_offset == slice.next).map(|batch| batch.batch.len());
            prop_assert!(follows.is_none_or(|len| slice.bytes.len() + len.max(32 << 10) > max_bytes));
        }
    }

    /// A search by time gives the first batch from an offset on that claims the time.
    #[test]
    fn a_search_by_time_finds_the_first_batch(history in histories(), times in vec((any::<u32>(), -1..52_i64), 1..20)) {
        let (_, _, reader) = written(&history);
        let partitions = history.partitions();
        for (pick, timestamp_ms) in times {
            let (topic, partition) = partitions[pick as usize % partitions.len()];
            let batches = history.of_partition((topic, partition));
            let from = Offset(batches[0].base_offset.0 + u64::from(pick >> 8) % 30);
            let expected = batches.iter().find(|batch| next_of(batch) > from && max_timestamp(batch) >= timestamp_ms);
            let expected = expected
                .map(|batch| RecSlice { bytes: patched(batch), first: batch.base_offset, next: next_of(batch) });
            prop_assert_eq!(reader.offset_at_time(topic, partition, from, timestamp_ms).unwrap(), expected);
        }
    }

    /// A repack is the file that would have been written of the batches that are kept, byte for byte.
    #[test]
    fn a_repack_is_a_pure_function_of_what_is_kept(history in histories(), kept in any::<u16>()) {
        let (disk, whole, reader) = written(&history);
        let number = |partition: &(TopicId, PartitionId)| history.partitions().iter().position(|other| other == partition);
        let keep: Vec<_> =
            history.partitions().into_iter().filter(|key| kept >> number(key).unwrap() & 1 == 1).collect();
        let repacked = repack(&disk, Path::new(DIR), &reader, id(1), &keep, &ErasedOffsets::default()).unwrap();
        let part = History { log: history.log.iter().filter(|b| keep.contains(&(b.topic, b.partition))).cloned().collect() };
        if keep.is_empty() {
            prop_assert_eq!(repacked, None);
            prop_assert_eq!(disk.list(Path::new(DIR)).unwrap(), [rec_file_name(whole.id)]);
        } else {
            let repacked_file = file_of(&disk, id(1));
            let direct = write_rec(&disk, Path::new(DIR), &RecSpec { id: id(1), ..spec() }, &part.sorted()).unwrap();
            prop_assert_eq!(repacked, Some(direct));
            prop_assert_eq!(repacked_file, file_of(&disk, id(1)));
        }
    }
}

fn as_read(batch: &RecBatch) -> RecBatchRef {
    RecBatchRef {
        topic: batch.topic,
        partition: batch.partition,
        base_offset: batch.base_offset,
        index: batch.index,
        at: batch.at,
        entry_time_ns: batch.entry_time_ns,
        batch: patched(batch),
    }
}
