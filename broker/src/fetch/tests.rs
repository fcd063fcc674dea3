//! Planning and reading over a real lane; an instrumented disk tells what was read and what is held.

use stratalog_proto::TenantId;
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_proto::config::TopicConfig;

use super::*;
use crate::metered_disk::MeteredDisk;
use crate::shard::testing::{ID, append_in_one_entry, host, start_on};

const BATCH_BYTES: usize = 64 << 10;

/// One record, not compressed, with a value of [`BATCH_BYTES`].
fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(0, None, Some(&[7; BATCH_BYTES]), &[]);
    builder.finish()
}

/// A shard whose log is read from the disk, and a topic in it.
async fn hosted(
    disk: &MeteredDisk,
    dir: &tempfile::TempDir,
    partitions: u32,
) -> (TopicInfo, BTreeMap<ShardId, Arc<Shard>>) {
    let shard = start_on(Arc::new(disk.clone()), dir, 0).await;
    let topic = TopicInfo {
        id: host(&shard, partitions).await,
        tenant: TenantId(0),
        name: "t".to_owned(),
        partitions,
        config: TopicConfig::default(),
        shards: vec![ID; partitions as usize],
    };
    (topic, BTreeMap::from([(ID, shard)]))
}

fn request(partitions: &[u32], max_bytes: usize) -> FetchRequest {
    let partitions = partitions.iter().map(|partition| (PartitionId(*partition), Offset(0))).collect();
    FetchRequest { topic: "t".to_owned(), partitions, max_bytes, max_wait: Duration::ZERO }
}

fn counts(fetched: &[FetchedPartition]) -> Vec<usize> {
    fetched.iter().map(|partition| partition.result.as_ref().unwrap().len()).collect()
}

#[test]
fn partitions_share_the_bytes_of_an_answer() {
    assert_eq!(allot(&[vec![10, 10, 10], vec![10], vec![]], 30), [2, 1, 0]);
    assert_eq!(allot(&[vec![100], vec![5]], 20), [1, 0]);
    assert_eq!(allot(&[vec![5], vec![100], vec![5]], 20), [1, 0, 1]);
    assert_eq!(allot(&[], 20), Vec::<usize>::new());
}

#[tokio::test]
async fn an_entry_of_many_partitions_is_read_once() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let (topic, shards) = hosted(&disk, &dir, 4).await;
    for _ in 0..2 {
        append_in_one_entry(&shards[&ID], topic.id, (0..4).map(|partition| (partition, batch()))).await;
    }
    disk.take_read_bytes();
    let all = fetch(&topic, &shards, &request(&[3, 1, 0, 2], 1 << 20)).await.unwrap();
    assert_eq!(counts(&all), [2; 4]);
    assert!(disk.take_read_bytes() < 9 * BATCH_BYTES, "two entries of four batches, each once");
    let offsets = |batch: &FetchedBatch| i64::from_be_bytes(batch.header[..8].try_into().unwrap());
    assert!(all.iter().all(|p| p.result.as_ref().unwrap().iter().map(offsets).eq([0, 1])));
    drop(all);

    let one = fetch(&topic, &shards, &request(&[2], 1)).await.unwrap();
    assert_eq!(counts(&one), [1]);
    assert_eq!(disk.held_bytes(), 0, "the answer does not hold the entry that its batch is a part of");
    shards[&ID].stop().await;
}

#[tokio::test]
async fn plans_together_stay_near_the_bytes_of_the_answer() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let (topic, shards) = hosted(&disk, &dir, 3).await;
    for _ in 0..2 {
        append_in_one_entry(&shards[&ID], topic.id, [0, 0, 0, 0, 1, 1].map(|partition| (partition, batch()))).await;
    }
    let planned = |batches: usize| {
        let partitions = request(&[0, 1, 2], 0).partitions;
        let plans = plan(&topic, &shards, &partitions, batches * (BATCH_BYTES + 100));
        plans.iter().map(|plan| plan.slots.as_ref().unwrap().len()).collect::<Vec<_>>()
    };
    assert_eq!(planned(1), [1, 1, 0], "one of each that has one");
    assert_eq!(planned(6), [3, 3, 0], "nobody takes the share of another");
    assert_eq!(planned(10), [6, 4, 0], "what one leaves goes to the others");
    assert_eq!(planned(100), [8, 4, 0]);
    shards[&ID].stop().await;
}

#[tokio::test]
async fn a_partition_named_twice_is_refused() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MeteredDisk::default());
    let (topic, shards) = hosted(&disk, &dir, 3).await;
    let refused = fetch(&topic, &shards, &request(&[0, 2, 0], 1)).await.unwrap_err();
    assert_eq!(refused.code, Code::InvalidRequest);
    shards[&ID].stop().await;
}
