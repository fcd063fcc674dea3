//! A running shard over a real lane, for tests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::{Append, Command};
use stratalog_proto::{Error, PartitionId, RaftIndex, ReplicaId, ShardId, TopicId, TopicPartition, internal};
use stratalog_storage::{Io, Lane, LaneOptions, Votes};
use tempfile::TempDir;

use super::{Admission, Shard, ShardOptions};
use crate::outcome::CommandResult;
use crate::raft::GroupLog;

pub(crate) const ID: ShardId = ShardId(1);

/// `cache_bytes` 0: everything that is durable is read from the disk.
pub(crate) async fn start_on(disk: Arc<dyn Io>, dir: &TempDir, cache_bytes: usize) -> Arc<Shard> {
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

/// Hosts a new topic with partitions `0..partitions`.
pub(crate) async fn host(shard: &Shard, partitions: u32) -> TopicId {
    let topic = TopicId::new();
    let config = Some(TopicConfig::default().to_internal());
    let put = internal::PutTopic { topic: topic.to_bytes(), partitions: (0..partitions).collect(), config };
    shard.propose(Command::PutTopic(put)).await.unwrap();
    topic
}

pub(crate) async fn append(
    shard: &Shard,
    tp: TopicPartition,
    batch: Bytes,
) -> Result<(RaftIndex, CommandResult), Error> {
    let append = Append { topic: tp.topic, partition: tp.partition, batch };
    shard.append(append, std::future::ready(Ok(()))).await
}

/// Appends batches in one entry. Only on a runtime of one thread: all of them wait before the shard's task runs.
pub(crate) async fn append_in_one_entry(
    shard: &Shard,
    topic: TopicId,
    batches: impl IntoIterator<Item = (u32, Bytes)>,
) -> RaftIndex {
    let appends = batches
        .into_iter()
        .map(|(partition, batch)| append(shard, TopicPartition { topic, partition: PartitionId(partition) }, batch));
    let appended = futures::future::try_join_all(appends).await.unwrap();
    let index = appended[0].0;
    assert!(appended.iter().all(|(other, _)| *other == index), "the batches are in one entry");
    index
}
