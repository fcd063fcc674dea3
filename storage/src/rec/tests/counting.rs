//! How often a reader goes to the disk, and for how much.

use super::*;
use crate::container::{BLOCK_BYTES, counted};

#[test]
fn opening_is_one_view_and_a_fetch_is_one_more() {
    let history = large_sample();
    let (disk, meta, _) = written(&history);
    let counting = counted(Arc::new(disk));
    let reader = RecReader::open(Arc::new(counting.clone()), &path_of(meta.id)).unwrap();
    assert_eq!(counting.take(), (1, BLOCK_BYTES));
    let read = |from, max_bytes| reader.read(topic(0), PartitionId(1), from, max_bytes).unwrap().unwrap();

    let first = read(Offset(first_offset(0, 1)), 100_000);
    let (views, bytes) = counting.take();
    assert_eq!(views, 1);
    assert!(bytes.is_multiple_of(BLOCK_BYTES), "the first touch reads whole blocks, to verify them");
    read(first.next, 100_000);
    assert_eq!(counting.take().0, 1);

    let again = read(Offset(first_offset(0, 1)), 100_000);
    assert_eq!(counting.take(), (1, again.bytes.len() as u64), "whoever reads on gets what is read");
    let next = read(first.next, 100_000);
    assert_eq!(counting.take(), (1, next.bytes.len() as u64), "whoever reads on gets what is read");
    read(Offset(first_offset(0, 1) + 50), 1);
    let (views, bytes) = counting.take();
    assert!(views == 1 && bytes < 200_000, "one batch costs its span: {bytes}");
}

#[test]
fn a_search_by_time_reads_one_span() {
    let mut entries: Vec<Vec<Sent>> = Vec::new();
    for n in 0..200 {
        entries.push(vec![Sent { topic: 0, partition: 0, timestamps: vec![n], value_bytes: 2_000 }]);
    }
    let (disk, meta, _) = written(&History::of(&entries));
    let counting = counted(Arc::new(disk));
    let reader = RecReader::open(Arc::new(counting.clone()), &path_of(meta.id)).unwrap();
    reader.verify().unwrap();
    counting.take();
    let found = reader.offset_at_time(topic(0), PartitionId(0), Offset(0), 150).unwrap().unwrap();
    assert_eq!(found.first, Offset(150));
    let (views, bytes) = counting.take();
    assert!(views == 1 && bytes < 40_000, "{views} views of {bytes} bytes");
    assert_eq!(reader.offset_at_time(topic(0), PartitionId(0), Offset(0), 200).unwrap(), None);
    assert_eq!(counting.take().0, 0);
}

#[test]
fn the_order_of_the_log_reads_every_byte_about_once() {
    let (disk, meta, _) = written(&large_sample());
    let counting = counted(Arc::new(disk));
    let reader = Arc::new(RecReader::open(Arc::new(counting.clone()), &path_of(meta.id)).unwrap());
    reader.verify().unwrap();
    counting.take();
    assert_eq!(reader.ordered(RaftIndex(0)).unwrap().count(), 120);
    let (views, bytes) = counting.take();
    assert!(bytes < meta.bytes * 3 / 2 && views < 20, "{views} views of {bytes} bytes, of {}", meta.bytes);
    assert_eq!(reader.ordered(RaftIndex(0)).unwrap().take(2).count(), 2);
    let (_, bytes) = counting.take();
    assert!(bytes < 200_000, "who takes a little reads a little: {bytes}");
}
