//! A running shard over a real lane: what the materializer and `_raw` read back.

use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_proto::entry::Append;
use stratalog_proto::{Code, Error, Offset, PartitionId, ProducerId, RaftIndex, TopicPartition};
use stratalog_storage::RealDisk;
use tempfile::TempDir;

use super::testing::{self, ALL, append, append_in_one_entry, start_on};
use super::{BatchSlot, Shard};
use crate::metered_disk::MeteredDisk;
use crate::outcome::CommandResult;

/// `cache_bytes` 0: everything that is durable is read from the disk.
async fn start(dir: &TempDir, cache_bytes: usize) -> Arc<Shard> {
    start_on(Arc::new(RealDisk), dir, cache_bytes).await
}

async fn host(shard: &Shard) -> TopicPartition {
    TopicPartition { topic: testing::host(shard, 1).await, partition: PartitionId(0) }
}

fn batch(values: &[&str], sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::Zstd).producer(ProducerId(1), 0, sequence);
    values.iter().for_each(|value| builder.push(0, None, Some(value.as_bytes()), &[]));
    builder.finish()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applied_batches_are_read_back_without_duplicates_and_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let shard = start(&dir, 0).await;
    let tp = host(&shard).await;
    let (first, second) = (batch(&["a", "b"], 0), batch(&["c"], 2));
    let (first_index, _) = append(&shard, tp, first.clone()).await.unwrap();
    let (_, again) = append(&shard, tp, first.clone()).await.unwrap();
    assert_eq!(again, CommandResult::Appended { base_offset: Offset(0), duplicate: true });
    assert_eq!(append(&shard, tp, batch(&["x"], 9)).await.unwrap_err().code, Code::OutOfOrderSequence);
    let (second_index, _) = append(&shard, tp, second.clone()).await.unwrap();

    let read = |after: RaftIndex, max_bytes: usize| {
        let applied = shard.batches_after(after, ALL, max_bytes);
        let batches: Vec<_> = applied.batches.into_iter().map(|b| (b.index, b.base_offset.0, b.batch)).collect();
        (batches, applied.through)
    };
    let all = [(first_index, 0, first), (second_index, 2, second)];
    assert_eq!(read(RaftIndex(0), usize::MAX), (all.to_vec(), second_index));
    assert_eq!(read(RaftIndex(0), 1), (all[..1].to_vec(), first_index), "at least one, then no more than asked");
    assert_eq!(read(first_index, 1), (all[1..].to_vec(), second_index));
    assert_eq!(read(second_index, 1), (vec![], second_index));
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_by_their_offsets_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let shard = start(&dir, 1 << 20).await;
    let tp = host(&shard).await;
    append(&shard, tp, batch(&["a", "b"], 0)).await.unwrap();
    append(&shard, tp, batch(&["c"], 2)).await.unwrap();
    let rows = [3, 1, 2, 0, 1].map(|offset| (tp.partition, Offset(offset)));
    let values = [None, Some("b"), Some("c"), Some("a"), Some("b")].map(|value| value.map(Bytes::from));
    assert_eq!(shard.values(tp.topic, &rows).unwrap(), values);
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l3_the_applied_index_is_there_before_the_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let shard = start(&dir, 1 << 20).await;
    let tp = host(&shard).await;
    for sequence in 0..50 {
        let (index, _) = append(&shard, tp, batch(&["v"], sequence)).await.unwrap();
        assert!(shard.applied() >= index);
        let high_watermark = shard.read(|state| state.partition(tp.topic, tp.partition).unwrap().high_watermark());
        assert_eq!(high_watermark, Offset(sequence as u64 + 1));
    }
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_gate_refuses_and_the_next_batch_passes() {
    let dir = tempfile::tempdir().unwrap();
    let shard = start(&dir, 1 << 20).await;
    let tp = host(&shard).await;
    let refused = Append { topic: tp.topic, partition: tp.partition, batch: batch(&["a"], 0) };
    let gate = std::future::ready(Err(Error::new(Code::Overloaded, "rows are behind")));
    let reign = shard.watch_role().borrow().reign();
    assert_eq!(shard.append(refused, reign, gate).await.unwrap_err().code, Code::Overloaded);
    let (_, result) = append(&shard, tp, batch(&["a"], 0)).await.unwrap();
    assert_eq!(result, CommandResult::Appended { base_offset: Offset(0), duplicate: false });
    let too_large = append(&shard, tp, Bytes::from(vec![0; 5 << 20])).await;
    assert_eq!(too_large.unwrap_err().code, Code::MessageTooLarge);
    shard.stop().await;
    assert_eq!(append(&shard, tp, batch(&["b"], 1)).await.unwrap_err().code, Code::Unavailable);
}

/// One record of so many bytes, not compressed.
fn large_batch(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(0, None, Some(&vec![7; bytes]), &[]);
    builder.finish()
}

#[tokio::test]
async fn an_entry_is_read_once_and_a_small_part_does_not_hold_it() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let shard = start_on(Arc::new(disk.clone()), &dir, 0).await;
    let topic = testing::host(&shard, 4).await;
    let batch = large_batch(64 << 10);
    append_in_one_entry(&shard, topic, (0..4).map(|partition| (partition, batch.clone()))).await;
    let mut slots: Vec<BatchSlot> = shard.read(|state| {
        let hosted = state.topic(topic).unwrap().partitions();
        hosted.flat_map(|(_, partition)| partition.batches().copied().collect::<Vec<_>>()).collect()
    });
    slots.sort_unstable_by_key(|slot| (slot.index, slot.at));

    disk.take_read_bytes();
    let all = shard.batches(&slots);
    assert!(all.iter().all(|found| *found.as_ref().unwrap().bytes() == batch));
    assert!((4 * batch.len()..5 * batch.len()).contains(&disk.take_read_bytes()), "read once");
    assert!(disk.held_bytes() < 5 * batch.len(), "and held once");
    drop(all);
    assert_eq!(disk.held_bytes(), 0);

    let one = shard.batch(&slots[2]).unwrap();
    assert_eq!(*one.bytes(), batch);
    assert_eq!(disk.held_bytes(), 0, "copied out of its entry");
    shard.stop().await;
}

#[tokio::test]
async fn a_pull_counts_the_whole_entries_that_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let shard = start(&dir, 0).await;
    let topic = testing::host(&shard, 1).await;
    let large = {
        let mut builder = BatchBuilder::new(Compression::None).producer(ProducerId(2), 0, 0);
        builder.push(0, None, Some(&[7; 64 << 10]), &[]);
        builder.finish()
    };
    let first = append_in_one_entry(&shard, topic, [(0, large.clone())]).await;
    // Of this entry, most of it a retry, only the small batch is accepted.
    let second = append_in_one_entry(&shard, topic, [(0, large), (0, batch(&["a"], 0))]).await;
    append_in_one_entry(&shard, topic, [(0, batch(&["b"], 1))]).await;
    let applied = shard.batches_after(first, ALL, 1 << 10);
    assert_eq!((applied.through, applied.batches.len()), (second, 1));
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_waits_at_its_gate_holds_up_no_other_one() {
    let dir = tempfile::tempdir().unwrap();
    let shard = start(&dir, 1 << 20).await;
    let (throttled, other) = (host(&shard).await, testing::host(&shard, 256).await);
    let (at_gate, arrived) = tokio::sync::oneshot::channel();
    let waiting = tokio::spawn({
        let (shard, batch) = (shard.clone(), batch(&["a"], 0));
        let append = Append { topic: throttled.topic, partition: throttled.partition, batch };
        let gate = async {
            at_gate.send(()).unwrap();
            std::future::pending().await
        };
        let reign = shard.watch_role().borrow().reign();
        async move { shard.append(append, reign, gate).await }
    });
    arrived.await.unwrap();
    for partition in (0..256).map(PartitionId) {
        append(&shard, TopicPartition { topic: other, partition }, batch(&["b"], 0)).await.unwrap();
    }
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    append(&shard, throttled, batch(&["a"], 0)).await.expect("who went away has left the line");
    shard.stop().await;
}
