//! Partitions that are whole, and what is said of those that are not.

use std::path::{Path, PathBuf};

use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_storage::RealDisk;

use super::*;
use crate::replay::testing::{release, roll};
use crate::shard::testing::{append, host, info, start_on};

const RECORDS: u64 = 3;

async fn fill(shard: &Shard, tp: TopicPartition, batches: u64, value_bytes: usize) {
    for n in 0..batches {
        let mut builder = BatchBuilder::new(Compression::None);
        (0..RECORDS).for_each(|_| builder.push(n as i64, None, Some(&vec![n as u8; value_bytes]), &[]));
        append(shard, tp, builder.finish()).await.unwrap();
    }
}

async fn started(dir: &tempfile::TempDir, partitions: u32) -> (Arc<Shard>, TopicInfo) {
    let shard = start_on(Arc::new(RealDisk), dir, 0).await;
    let topic = info(host(&shard, partitions).await, partitions);
    (shard, topic)
}

fn tp(topic: &TopicInfo, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic.id, partition: PartitionId(partition) }
}

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

fn replay_segment(dir: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(dir.join("segments")).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "rec")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_partition_is_counted_wherever_its_batches_are() {
    let dir = tempfile::tempdir().unwrap();
    let (shard, topic) = started(&dir, 2).await;
    fill(&shard, tp(&topic, 0), 20, 10).await;
    fill(&shard, tp(&topic, 1), 1, 10).await;
    roll(&shard).await;
    release(&shard).await;
    fill(&shard, tp(&topic, 0), 5, 10).await;
    let found = verify(&topic, &shard, PartitionId(0)).await.unwrap();
    assert_eq!((found.batches, found.records, found.damaged), (25, 75, 0));
    assert_eq!((found.log_start, found.high_watermark), (Offset(0), Offset(75)));
    assert!(found.bytes > 75 * 10 && found.damage.is_empty());
    assert_eq!(verify(&topic, &shard, PartitionId(1)).await.unwrap().batches, 1);
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_a_flipped_bit_in_a_replay_segment_is_told_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (shard, topic) = started(&dir, 1).await;
    fill(&shard, tp(&topic, 0), 200, 2_000).await;
    roll(&shard).await;
    let path = replay_segment(dir.path());
    flip(&path, std::fs::metadata(&path).unwrap().len() / 2);
    let found = verify(&topic, &shard, PartitionId(0)).await.unwrap();
    assert!(found.damaged > 0 && found.damaged < 300, "one block of 64 KiB, and what it takes to read on: {found:?}");
    assert_eq!(found.records + found.damaged, 600, "what is not damaged is whole");
    assert!(found.damage.iter().all(|damage| damage.what.contains(".rec")), "{:?}", found.damage);
    assert_eq!(found.damage.iter().map(|damage| damage.next.0 - damage.first.0).sum::<u64>(), found.damaged);
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_a_replay_segment_that_is_gone_is_told_with_its_offsets_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (shard, topic) = started(&dir, 1).await;
    fill(&shard, tp(&topic, 0), 3, 10).await;
    roll(&shard).await;
    fill(&shard, tp(&topic, 0), 2, 10).await;
    let path = replay_segment(dir.path());
    std::fs::remove_file(&path).unwrap();
    let found = verify(&topic, &shard, PartitionId(0)).await.unwrap();
    assert_eq!((found.records, found.damaged), (6, 9));
    let [damage] = &found.damage[..] else { panic!("{found:?}") };
    assert_eq!((damage.first, damage.next), (Offset(0), Offset(9)));
    assert!(damage.what.contains(&path.display().to_string()), "{damage:?}");
    shard.stop().await;
}
