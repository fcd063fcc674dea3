//! Offsets by time and by epoch, of a partition that is rolled, trimmed, or neither.

use bytes::Bytes;
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_proto::entry::Command;
use stratalog_proto::internal;
use stratalog_storage::RealDisk;

use super::*;
use crate::replay::testing::{release, roll};
use crate::shard::testing::{append, host, info, start_on};

/// Timestamps in milliseconds, batch by batch; they need not ascend.
const BATCHES: [&[i64]; 7] = [&[10, 12], &[11], &[40, 20, 30], &[25, 5], &[50], &[50, 51, 49], &[70]];

fn batch(timestamps: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    timestamps.iter().for_each(|ms| builder.push(*ms, None, Some(b"v"), &[]));
    builder.finish()
}

struct Partition {
    shard: Arc<Shard>,
    topic: TopicInfo,
    _dir: tempfile::TempDir,
}

impl Partition {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shard = start_on(Arc::new(RealDisk), &dir, 0).await;
        let topic = info(host(&shard, 1).await, 1);
        Self { shard, topic, _dir: dir }
    }

    async fn append(&self, timestamps: &[i64]) {
        let tp = TopicPartition { topic: self.topic.id, partition: PartitionId(0) };
        append(&self.shard, tp, batch(timestamps)).await.unwrap();
    }

    async fn at(&self, at: OffsetAt) -> u64 {
        find_offset(&self.topic, &self.shard, PartitionId(0), at).await.unwrap().offset.0
    }

    /// Checks where the largest timestamp is.
    async fn check_largest(&self, timestamps: &[i64]) {
        let largest = timestamps.iter().max().unwrap();
        let first = timestamps.iter().position(|ms| ms == largest).unwrap();
        assert_eq!(self.at(OffsetAt::LargestTime).await, first as u64);
    }

    /// Checks each time against a look at every record.
    async fn check(&self, timestamps: &[i64]) {
        for ms in 0..80 {
            let first = timestamps.iter().position(|timestamp| *timestamp >= ms).unwrap_or(timestamps.len());
            assert_eq!(self.at(OffsetAt::Time(ms * 1_000_000)).await, first as u64, "{ms} ms");
            assert_eq!(
                self.at(OffsetAt::Time(ms * 1_000_000 - 999_999)).await,
                first as u64,
                "just after {} ms",
                ms - 1
            );
        }
    }
}

#[test]
fn times_round_up_to_the_milliseconds_of_records() {
    assert_eq!([0, 1, 999_999, 1_000_000, -1].map(first_ms), [0, 1, 1, 1, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_record_of_a_time_is_found_in_segments_and_in_the_log() {
    let partition = Partition::start().await;
    let mut timestamps = Vec::new();
    for (n, batch) in BATCHES.into_iter().enumerate() {
        partition.append(batch).await;
        timestamps.extend_from_slice(batch);
        if n % 2 == 1 {
            roll(&partition.shard).await;
        }
        if n == 3 {
            release(&partition.shard).await;
        }
        partition.check(&timestamps).await;
        partition.check_largest(&timestamps).await;
    }
    assert_eq!(partition.at(OffsetAt::Earliest).await, 0);
    assert_eq!(partition.at(OffsetAt::Latest).await, timestamps.len() as u64);
    partition.shard.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_timestamp_is_that_of_a_record_that_is_still_there() {
    let partition = Partition::start().await;
    assert_eq!(partition.at(OffsetAt::LargestTime).await, 0, "there is none");
    partition.append(&[10, 70, 5, 30, 20, 30]).await;
    let before = vec![internal::PartitionCount { partition: 0, value: 2 }];
    let delete = internal::DeleteRecords { topic: partition.topic.id.to_bytes(), before };
    partition.shard.propose(Command::DeleteRecords(delete)).await.unwrap();
    assert_eq!(partition.at(OffsetAt::LargestTime).await, 3);
    roll(&partition.shard).await;
    release(&partition.shard).await;
    assert_eq!(partition.at(OffsetAt::LargestTime).await, 3, "in a segment");
    partition.shard.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_ends_where_the_next_begins_or_at_the_high_watermark() {
    let partition = Partition::start().await;
    let end = |asked| end_of_epoch(&partition.topic, &partition.shard, PartitionId(0), Term(asked));
    let of_now = partition.shard.watch_role().borrow().epoch;
    assert_eq!(end(of_now.0).await.unwrap(), (of_now, Offset(0)), "nothing was appended yet");
    assert_eq!(end(0).await.unwrap(), (Term(0), Offset(0)));
    for rolled in [false, true] {
        partition.append(&[1, 2]).await;
        if rolled {
            roll(&partition.shard).await;
        }
    }
    let epoch = partition
        .shard
        .read(|state| state.partition(partition.topic.id, PartitionId(0)).unwrap().epoch_of(Offset(0)).unwrap());
    assert_eq!(end(epoch.0).await.unwrap(), (epoch, Offset(4)));
    assert_eq!(end(epoch.0 + 5).await.unwrap(), (epoch, Offset(4)));
    let older = Term(epoch.0 - 1);
    assert_eq!(end(older.0).await.unwrap(), (older, Offset(0)), "it ends where what is left begins");
    partition.shard.stop().await;
}
