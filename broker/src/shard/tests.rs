//! A running shard over a real lane: what the materializer and `_raw` read back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::{Append, Command};
use stratalog_proto::{
    Code, Error, Offset, PartitionId, ProducerId, RaftIndex, ReplicaId, ShardId, TopicId, TopicPartition, internal,
};
use stratalog_storage::{Lane, LaneOptions, RealDisk, Votes};
use tempfile::TempDir;

use super::{Admission, Shard, ShardOptions};
use crate::outcome::CommandResult;
use crate::raft::GroupLog;

const ID: ShardId = ShardId(1);

/// `cache_bytes` 0: everything that is durable is read from the disk.
async fn start(dir: &TempDir, cache_bytes: usize) -> Arc<Shard> {
    let disk = Arc::new(RealDisk);
    let options = LaneOptions { file_bytes: 4 << 20, ..LaneOptions::default() };
    let (lane, recovery) = Lane::open(disk.clone(), dir.path(), options).unwrap();
    let votes = Arc::new(Votes::open(disk.clone(), &dir.path().join("votes")).unwrap());
    let keep = Arc::new(()) as Arc<dyn Send + Sync>;
    let mut logs = GroupLog::recover(&[ID], ReplicaId(1), &lane, &votes, &recovery.frames, cache_bytes, &keep).unwrap();
    let second = Duration::from_secs(1);
    let options = ShardOptions {
        id: ID,
        io: disk,
        segments_dir: dir.path().join("segments"),
        admission: Arc::new(Admission::new(1 << 20, 10 * second, 30 * second)),
        recovery_timeout: 30 * second,
    };
    Shard::start(options, logs.remove(&ID).unwrap()).await.unwrap()
}

async fn host(shard: &Shard) -> TopicPartition {
    let topic = TopicId::new();
    let config = Some(TopicConfig::default().to_internal());
    let put = internal::PutTopic { topic: topic.to_bytes(), partitions: vec![0], config };
    shard.propose(Command::PutTopic(put)).await.unwrap();
    TopicPartition { topic, partition: PartitionId(0) }
}

fn batch(values: &[&str], sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::Zstd).producer(ProducerId(1), 0, sequence);
    values.iter().for_each(|value| builder.push(0, None, Some(value.as_bytes()), &[]));
    builder.finish()
}

async fn append(shard: &Shard, tp: TopicPartition, batch: Bytes) -> Result<(RaftIndex, CommandResult), Error> {
    let append = Append { topic: tp.topic, partition: tp.partition, batch };
    shard.append(append, std::future::ready(Ok(()))).await
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
        let applied = shard.batches_after(after, max_bytes).unwrap();
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
    assert_eq!(shard.append(refused, gate).await.unwrap_err().code, Code::Overloaded);
    let (_, result) = append(&shard, tp, batch(&["a"], 0)).await.unwrap();
    assert_eq!(result, CommandResult::Appended { base_offset: Offset(0), duplicate: false });
    let too_large = append(&shard, tp, Bytes::from(vec![0; 5 << 20])).await;
    assert_eq!(too_large.unwrap_err().code, Code::MessageTooLarge);
    shard.stop().await;
    assert_eq!(append(&shard, tp, batch(&["b"], 1)).await.unwrap_err().code, Code::Unavailable);
}
