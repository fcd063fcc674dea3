//! Planning, reading and waiting over a real lane; an instrumented disk tells what was read and what is held.

use stratalog_proto::TopicPartition;
use stratalog_proto::batch::{Batch, BatchBuilder, Compression};

use super::read::{Budget, allot};
use super::*;
use crate::metered_disk::MeteredDisk;
use crate::shard::testing::{append_in_one_entry, host, info, start_on};

const BATCH_BYTES: usize = 64 << 10;

/// One record, not compressed, with a value of [`BATCH_BYTES`].
fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(0, None, Some(&[7; BATCH_BYTES]), &[]);
    builder.finish()
}

/// A shard whose log is read from the disk, and a topic in it.
struct Hosted {
    topic: TopicInfo,
    shard: Arc<Shard>,
    shards: Shards,
    deadlines: Deadlines,
}

impl Hosted {
    async fn on(disk: &MeteredDisk, dir: &tempfile::TempDir, partitions: u32) -> Self {
        let shard = start_on(Arc::new(disk.clone()), dir, 0).await;
        let topic = info(host(&shard, partitions).await, partitions);
        Self { topic, shards: Shards::new([Arc::clone(&shard)]), shard, deadlines: Deadlines::start() }
    }

    fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    fn tp(&self, partition: u32) -> TopicPartition {
        TopicPartition { topic: self.topic.id, partition: PartitionId(partition) }
    }

    async fn fetch(&self, request: &FetchRequest) -> Vec<FetchedPartition> {
        fetch(&self.topic, &self.shards, &self.deadlines, request).await.unwrap()
    }
}

fn request(partitions: &[u32], max_bytes: usize) -> FetchRequest {
    let partitions = partitions.iter().map(|partition| (PartitionId(*partition), Offset(0))).collect();
    FetchRequest { topic: "t".to_owned(), partitions, max_bytes, max_wait: Duration::ZERO, from: ReadFrom::Leader }
}

/// The batches of a partition's answer, checked.
fn batches(fetched: &FetchedPartition) -> Vec<Batch> {
    let several = fetched.result.as_ref().unwrap().iter();
    several.flat_map(FetchedBatches::batches).map(|batch| Batch::parse(batch.unwrap()).unwrap()).collect()
}

/// Their base offsets.
fn offsets(fetched: &FetchedPartition) -> Vec<i64> {
    batches(fetched).iter().map(|batch| batch.header().base_offset).collect()
}

fn counts(fetched: &[FetchedPartition]) -> Vec<usize> {
    fetched.iter().map(|partition| batches(partition).len()).collect()
}

#[test]
fn partitions_share_the_bytes_of_an_answer() {
    let allot = |lengths: &[Vec<usize>], max_bytes| allot(lengths, Budget::new(max_bytes));
    assert_eq!(allot(&[vec![10, 10, 10], vec![10], vec![]], 30), [2, 1, 0]);
    assert_eq!(allot(&[vec![100], vec![5]], 20), [1, 0]);
    assert_eq!(allot(&[vec![5], vec![100], vec![5]], 20), [1, 0, 1]);
    assert_eq!(allot(&[], 20), Vec::<usize>::new());
}

#[tokio::test]
async fn an_entry_of_many_partitions_is_read_once() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let node = Hosted::on(&disk, &dir, 4).await;
    for _ in 0..2 {
        append_in_one_entry(node.shard(), node.topic.id, (0..4).map(|partition| (partition, batch()))).await;
    }
    disk.take_read_bytes();
    let all = node.fetch(&request(&[3, 1, 0, 2], 1 << 20)).await;
    assert_eq!(counts(&all), [2; 4]);
    assert!(disk.take_read_bytes() < 9 * BATCH_BYTES, "two entries of four batches, each once");
    assert!(all.iter().all(|partition| offsets(partition) == [0, 1]));
    drop(all);

    let one = node.fetch(&request(&[2], 1)).await;
    assert_eq!(counts(&one), [1]);
    assert_eq!(disk.held_bytes(), 0, "the answer does not hold the entry that its batch is a part of");
    node.shard().stop().await;
}

#[tokio::test]
async fn plans_together_stay_near_the_bytes_of_the_answer() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let node = Hosted::on(&disk, &dir, 3).await;
    for _ in 0..2 {
        let batches = [0, 0, 0, 0, 1, 1].map(|partition| (partition, batch()));
        append_in_one_entry(node.shard(), node.topic.id, batches).await;
    }
    let planned = |batches: usize| {
        let partitions = request(&[0, 1, 2], 0).partitions;
        let plans = plan(&node.topic, &node.shards, &partitions, batches * (BATCH_BYTES + 100));
        plans.iter().map(|plan| plan.slots().len()).collect::<Vec<_>>()
    };
    assert_eq!(planned(1), [1, 1, 0], "one of each that has one");
    assert_eq!(planned(6), [3, 3, 0], "nobody takes the share of another");
    assert_eq!(planned(10), [6, 4, 0], "what one leaves goes to the others");
    assert_eq!(planned(100), [8, 4, 0]);
    node.shard().stop().await;
}

#[tokio::test]
async fn a_partition_named_twice_is_refused() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let node = Hosted::on(&disk, &dir, 3).await;
    let refused = fetch(&node.topic, &node.shards, &node.deadlines, &request(&[0, 2, 0], 1)).await.unwrap_err();
    assert_eq!(refused.code, Code::InvalidRequest);
    node.shard().stop().await;
}

mod rolled;
mod waiting;
