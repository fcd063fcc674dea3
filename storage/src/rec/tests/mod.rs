//! Files as a whole: what goes in comes out as a consumer gets it, what is damaged is found, and what cannot be a segment
//! is refused.

mod counting;
mod damage;
mod erased;
mod faults;
mod fixture;
mod handles;
mod metas;
mod properties;
mod refusals;
mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::batch::{Batch, BatchHeader};
use stratalog_proto::{Code, Offset, PartitionId, RaftIndex, SegmentId, ShardId, TopicId};

use super::*;
use crate::io::Io;
use crate::io::sim::SimDisk;
use samples::*;

const DIR: &str = "/segments";

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

fn path_of(id: SegmentId) -> PathBuf {
    Path::new(DIR).join(rec_file_name(id))
}

fn write(disk: &SimDisk, history: &History) -> RecMeta {
    write_rec(disk, Path::new(DIR), &spec(), &history.sorted()).unwrap()
}

fn open(disk: &SimDisk, id: SegmentId) -> Result<Arc<RecReader>, RecError> {
    RecReader::open(Arc::new(disk.clone()), &path_of(id)).map(Arc::new)
}

/// A history as a segment.
fn written(history: &History) -> (SimDisk, RecMeta, Arc<RecReader>) {
    let disk = disk();
    let meta = write(&disk, history);
    let reader = open(&disk, meta.id).unwrap();
    (disk, meta, reader)
}

fn file_of(disk: &SimDisk, id: SegmentId) -> Vec<u8> {
    disk.edit(&path_of(id), |bytes| bytes.clone())
}

#[test]
fn meta_says_what_the_file_holds() {
    let history = large_sample();
    let (disk, meta, reader) = written(&history);
    let file = file_of(&disk, meta.id);
    assert_eq!((meta.bytes, meta.blake3), (file.len() as u64, *blake3::hash(&file).as_bytes()));
    assert_eq!((meta.id, meta.after, meta.through), (id(0), RaftIndex(100), RaftIndex(1_000)));
    assert_eq!(reader.verify().unwrap(), meta);
    assert_eq!((reader.shard(), reader.batches()), (ShardId(7), 120));
    assert!(!meta.is_packed());
    for (topic, partition) in history.partitions() {
        let batches = history.of_partition((topic, partition));
        let expected = RecRange {
            partition,
            first: batches[0].base_offset,
            next: next_of(batches[batches.len() - 1]),
            bytes: batches.iter().map(|batch| batch.batch.len() as u64).sum(),
            max_timestamp_ms: 5,
        };
        assert_eq!(meta.range(topic, partition), Some(&expected));
    }
    assert_eq!(meta.range(topic(0), PartitionId(2)), None);
    assert_eq!(meta.range(topic(1), PartitionId(0)), None);
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), [rec_file_name(meta.id)]);
}

#[test]
fn leader_epochs_begin_where_they_began() {
    let history = sample();
    let (_, _, reader) = written(&history);
    for (topic, partition) in history.partitions() {
        let mut expected: Vec<RecEpoch> = Vec::new();
        for batch in history.of_partition((topic, partition)) {
            if expected.last().is_none_or(|last| last.epoch < batch.leader_epoch) {
                expected.push(RecEpoch { epoch: batch.leader_epoch, first: batch.base_offset });
            }
        }
        assert_eq!(reader.epochs(topic, partition), expected);
    }
    assert!(reader.epochs(topic(0), PartitionId(9)).is_empty());
}

#[test]
fn a_consumer_that_reads_on_gets_every_batch_once() {
    let history = large_sample();
    let (_, _, reader) = written(&history);
    for max_bytes in [0, 1, 10_000, 100_000, 1 << 20, usize::MAX] {
        for (topic, partition) in history.partitions() {
            let batches = history.of_partition((topic, partition));
            let (mut from, mut found) = (batches[0].base_offset, Vec::new());
            while let Some(slice) = reader.read(topic, partition, from, max_bytes).unwrap() {
                assert_eq!(slice.first, from);
                from = slice.next;
                found.extend_from_slice(&slice.bytes);
            }
            assert_eq!(from, next_of(batches[batches.len() - 1]));
            assert_eq!(found, batches.iter().map(|batch| patched(batch)).collect::<Vec<_>>().concat());
        }
    }
}

#[test]
fn offsets_that_the_segment_does_not_hold_are_not_found() {
    let history = sample();
    let (_, meta, reader) = written(&history);
    for (topic, range) in meta.ranges() {
        for offset in [range.first.0.wrapping_sub(1), range.next.0, u64::MAX] {
            assert_eq!(reader.read(topic, range.partition, Offset(offset), 1 << 20).unwrap(), None);
        }
    }
    assert_eq!(reader.read(topic(0), PartitionId(9), Offset(0), 1).unwrap(), None);
    assert_eq!(reader.offset_at_time(topic(9), PartitionId(0), Offset(0), 0).unwrap(), None);
}

#[test]
fn many_threads_read_one_reader() {
    let history = large_sample();
    let (_, _, reader) = written(&history);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let log: Vec<Bytes> = reader.ordered(RaftIndex(0)).unwrap().map(|batch| batch.unwrap().batch).collect();
                assert_eq!(log, history.log.iter().map(patched).collect::<Vec<_>>());
            });
        }
    });
}

#[test]
fn a_packed_segment_of_thousands_of_partitions_is_small_and_opens() {
    let sent = |n: u32| Sent { topic: (n % 200) as u8, partition: n / 200, timestamps: vec![1], value_bytes: 20 };
    let history = History::of(&(0..40).map(|e| (0..100).map(|n| sent(e * 100 + n)).collect()).collect::<Vec<_>>());
    let (_, meta, reader) = written(&history);
    let weight: u64 = meta.ranges().map(|(_, range)| range.bytes).sum();
    assert!(meta.is_packed() && meta.ranges().count() == 4_000);
    assert!(meta.bytes < weight + 4_000 * 70, "{} bytes for {weight} of batches", meta.bytes);
    assert_eq!(reader.verify().unwrap(), meta);
}
