//! Fetches from replay segments and from the log behind them.

use super::*;
use crate::replay::testing::{release, roll};
use crate::shard::testing::append;

/// A batch of so many records, the first of them `first`.
fn numbered(first: u64, records: u64, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for n in first..first + records {
        builder.push(n as i64, Some(&n.to_be_bytes()), Some(&vec![n as u8; bytes]), &[]);
    }
    builder.finish()
}

/// Appends batches of one to three records to a partition, until it has offset `end`.
async fn fill(node: &Hosted, partition: u32, end: u64, bytes: usize) {
    let tp = node.tp(partition);
    let high_watermark =
        || node.shard().read(|state| state.partition(tp.topic, tp.partition).unwrap().high_watermark().0);
    while high_watermark() < end {
        let first = high_watermark();
        append(node.shard(), tp, numbered(first, 1 + first % 3, bytes)).await.unwrap();
    }
}

/// The keys of the records from `from` on, one fetch after the other; each of them checked against its offset.
async fn read_on(node: &Hosted, partition: u32, from: u64, max_bytes: usize) -> Vec<u64> {
    let (mut next, mut seen) = (from, Vec::new());
    loop {
        let partitions = vec![(PartitionId(partition), Offset(next))];
        let fetched = node.fetch(&FetchRequest { partitions, ..request(&[], max_bytes) }).await.remove(0);
        let found = batches(&fetched);
        if found.is_empty() {
            assert_eq!(Offset(next), fetched.high_watermark, "there is more, and the answer is empty");
            return seen;
        }
        for batch in found {
            for record in batch.records(1 << 20).unwrap() {
                let record = record.unwrap();
                let offset = batch.header().base_offset as u64 + record.offset_delta as u64;
                assert_eq!(record.key.as_deref(), Some(&offset.to_be_bytes()[..]));
                seen.extend((offset >= from).then_some(offset));
            }
            next = batch.header().base_offset as u64 + u64::from(batch.record_count());
        }
    }
}

#[tokio::test]
async fn l2_replay_segments_and_log_are_read_without_hole_or_repeat() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let node = Hosted::on(&disk, &dir, 2).await;
    for end in [40, 41, 90] {
        fill(&node, 0, end, 50).await;
        fill(&node, 1, end / 2, 50).await;
        roll(node.shard()).await;
        release(node.shard()).await;
    }
    fill(&node, 0, 120, 50).await;
    let ends =
        [0, 1].map(|n| node.shard().read(|s| s.partition(node.topic.id, PartitionId(n)).unwrap().high_watermark().0));
    for (partition, from, max_bytes) in
        [(0, 0, 1), (0, 7, 1_000), (0, 39, 3_000), (1, 0, 400), (0, 100, 1), (0, 0, 1 << 20)]
    {
        let expected: Vec<u64> = (from..ends[partition as usize]).collect();
        assert_eq!(read_on(&node, partition, from, max_bytes).await, expected, "{partition} {from} {max_bytes}");
    }
    let all = node.fetch(&request(&[0], 1 << 20)).await.remove(0);
    let pieces = all.result.as_ref().unwrap();
    assert!(pieces[..3].iter().all(|piece| piece.head.is_empty()), "one slice of each segment");
    assert!(pieces[3..].iter().all(|piece| piece.batches().count() == 1), "and each batch of the log");
    node.shard().stop().await;
}

#[tokio::test]
async fn rolled_partitions_together_stay_within_the_bytes_of_the_answer() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let node = Hosted::on(&disk, &dir, 8).await;
    for _ in 0..3 {
        append_in_one_entry(node.shard(), node.topic.id, (0..7).map(|partition| (partition, batch()))).await;
    }
    roll(node.shard()).await;
    append_in_one_entry(node.shard(), node.topic.id, (0..8).map(|partition| (partition, batch()))).await;
    for max_bytes in [1, BATCH_BYTES, 3 * BATCH_BYTES, 20 * BATCH_BYTES] {
        let fetched = node.fetch(&request(&[0, 1, 2, 3, 4, 5, 6, 7], max_bytes)).await;
        let bytes: usize = fetched.iter().flat_map(|p| p.result.as_ref().unwrap()).map(FetchedBatches::bytes).sum();
        assert!(bytes > 0 && bytes <= max_bytes + BATCH_BYTES + 200, "{bytes} of {max_bytes}");
    }
    let all = node.fetch(&request(&[0, 1, 2, 3, 4, 5, 6, 7], 1 << 30)).await;
    assert_eq!(counts(&all), [4, 4, 4, 4, 4, 4, 4, 1]);
    node.shard().stop().await;
}

#[tokio::test]
async fn an_answer_from_a_replay_segment_reads_little_more_than_it_gives() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let node = Hosted::on(&disk, &dir, 1).await;
    fill(&node, 0, 600, 1_000).await;
    roll(node.shard()).await;
    read_on(&node, 0, 500, 1).await;
    disk.take_read_bytes();
    let fetched = node.fetch(&request(&[0], 256 << 10)).await.remove(0);
    let given: usize = fetched.result.as_ref().unwrap().iter().map(FetchedBatches::bytes).sum();
    assert!(given > 128 << 10);
    assert!(disk.take_read_bytes() < given + (256 << 10));
    node.shard().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l2_fetches_while_rolls_apply_see_each_offset_once() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let node = Arc::new(Hosted::on(&disk, &dir, 1).await);
    const END: u64 = 1_500;
    let producer = tokio::spawn({
        let node = node.clone();
        async move { fill(&node, 0, END, 100).await }
    });
    let roller = tokio::spawn({
        let (node, producer_done) = (node.clone(), producer.abort_handle());
        async move {
            while !producer_done.is_finished() {
                roll(node.shard()).await;
                release(node.shard()).await;
                tokio::task::yield_now().await;
            }
        }
    });
    let mut readers = Vec::new();
    for max_bytes in [1, 5_000, 1 << 20] {
        let node = node.clone();
        readers.push(tokio::spawn(async move {
            let mut next = 0;
            while next < END {
                let seen = read_on(&node, 0, next, max_bytes).await;
                assert!(seen.iter().copied().eq(next..next + seen.len() as u64));
                next += seen.len() as u64;
                tokio::task::yield_now().await;
            }
        }));
    }
    producer.await.unwrap();
    roller.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    node.shard().stop().await;
}

#[tokio::test]
async fn l3_a_roll_between_two_looks_neither_mixes_the_order_nor_passes_the_high_watermark() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let node = Hosted::on(&disk, &dir, 1).await;
    fill(&node, 0, 4, 50).await;
    let mut plan = Plan::new(&node.topic, &node.shards, PartitionId(0), Offset(0));
    assert!(plan.extend(&node.topic, 1, 1) > 0);
    fill(&node, 0, 20, 50).await;
    roll(node.shard()).await;
    assert_eq!(plan.extend(&node.topic, 1 << 20, 1 << 20), 0, "batches of the log are planned: segments do not follow");
    let mut late = Plan::new(&node.topic, &node.shards, PartitionId(0), Offset(0));
    fill(&node, 0, 40, 50).await;
    roll(node.shard()).await;
    late.extend(&node.topic, 1 << 20, 1 << 20);
    let answer = read(vec![plan, late], 1 << 20).await.unwrap();
    assert_eq!((counts(&answer.partitions[..1]), offsets(&answer.partitions[0])), (vec![1], vec![0]));
    let whole = batches(&answer.partitions[1]);
    let end = whole.last().map(|batch| batch.header().base_offset as u64 + u64::from(batch.record_count()));
    assert_eq!(end, Some(answer.partitions[1].high_watermark.0));
    assert!(whole.is_sorted_by_key(|batch| batch.header().base_offset));
    node.shard().stop().await;
}
