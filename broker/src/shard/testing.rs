//! A running shard over a real lane, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::{Append, Command};
use stratalog_proto::{
    Error, PartitionId, RaftIndex, ReplicaId, SegmentId, ShardId, TenantId, TopicId, TopicPartition, internal,
};
use stratalog_query::TopicInfo;
use stratalog_storage::{Io, Lane, LaneOptions, RecMeta, RecRange, RecTopicMeta, StateFiles, Votes};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Admission, BatchSlot, Shard, ShardOptions, Wanted};
use crate::metrics::Stages;
use crate::outcome::CommandResult;
use crate::raft::{Known, Logs, LogsOptions, NoPeers};
use crate::replay::RecStore;

pub(crate) const ID: ShardId = ShardId(1);

/// Of every topic.
pub(crate) const ALL: Wanted<'static> = Wanted::AllBut(&BTreeSet::new());

/// `cache_bytes` 0: everything that is durable is read from the disk.
pub(crate) async fn start_on(disk: Arc<dyn Io>, dir: &TempDir, cache_bytes: usize) -> Arc<Shard> {
    let options = LaneOptions { file_bytes: 4 << 20, ..LaneOptions::default() };
    let (lane, recovery) = Lane::open(disk.clone(), dir.path(), options).unwrap();
    let votes = Arc::new(Votes::open(disk.clone(), &dir.path().join("votes")).unwrap());
    let keep = Arc::new(()) as Arc<dyn Send + Sync>;
    let states = Arc::new(StateFiles::open(disk.clone(), &dir.path().join("state"), ID).unwrap());
    let known = [Known { replica: ReplicaId(1), states: states.clone() }];
    let logs = LogsOptions { lane, votes, cache_bytes, keep: keep.clone() };
    let logs = Logs::recover(logs, &known, &BTreeMap::new(), &recovery).unwrap();
    let segments_dir = dir.path().join("segments");
    disk.create_dir_all(&segments_dir).unwrap();
    let second = Duration::from_secs(1);
    let options = ShardOptions {
        id: ID,
        recs: Arc::new(RecStore::new(disk.clone(), &segments_dir, ID, keep)),
        io: disk,
        segments_dir,
        states,
        peers: Arc::new(NoPeers),
        stages: Stages::default(),
        admission: Arc::new(Admission::new(1 << 20, 10 * second, 30 * second)),
        form: true,
        recovery_timeout: 30 * second,
    };
    Shard::start(options, logs.get(ID).unwrap()).await.unwrap()
}

/// Hosts a new topic with partitions `0..partitions`.
pub(crate) async fn host(shard: &Shard, partitions: u32) -> TopicId {
    let topic = TopicId::new();
    let config = Some(TopicConfig::default().to_internal());
    let put = internal::PutTopic { topic: topic.to_bytes(), partitions: (0..partitions).collect(), config };
    shard.propose(Command::PutTopic(put)).await.unwrap();
    topic
}

/// What the directory says of a topic of this shard.
pub(crate) fn info(topic: TopicId, partitions: u32) -> TopicInfo {
    TopicInfo {
        id: topic,
        tenant: TenantId(0),
        name: "t".to_owned(),
        partitions,
        config: TopicConfig::default(),
        shards: vec![ID; partitions as usize],
    }
}

/// Appends a batch in the present reign.
pub(crate) async fn append(
    shard: &Shard,
    tp: TopicPartition,
    batch: Bytes,
) -> Result<(RaftIndex, CommandResult), Error> {
    let append = Append { topic: tp.topic, partition: tp.partition, batch };
    let reign = shard.watch_role().borrow().reign();
    shard.append(append, reign, std::future::ready(Ok(()))).await
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

/// The replay segment of these batches, which are in the order of its file; that file's bytes and hash are made up.
pub(crate) fn rec_of(
    number: u128,
    after: u64,
    through: u64,
    batches: &[(TopicId, PartitionId, BatchSlot)],
) -> internal::RecMeta {
    let mut topics: Vec<RecTopicMeta> = Vec::new();
    for of_partition in batches.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (topic, partition, first) = of_partition[0];
        let range = RecRange {
            partition,
            first: first.base_offset,
            next: of_partition[of_partition.len() - 1].2.next_offset(),
            bytes: of_partition.iter().map(|(_, _, slot)| u64::from(slot.len)).sum(),
            max_timestamp_ms: of_partition.iter().map(|(_, _, slot)| slot.max_timestamp_ms).max().unwrap(),
        };
        match topics.last_mut().filter(|last| last.topic == topic) {
            Some(last) => last.ranges.push(range),
            None => topics.push(RecTopicMeta { topic, ranges: vec![range] }),
        }
    }
    let id = SegmentId(Uuid::from_u128(number));
    let (after, through) = (RaftIndex(after), RaftIndex(through));
    let bytes = 200 + batches.iter().map(|(_, _, slot)| u64::from(slot.len)).sum::<u64>();
    (&RecMeta { id, after, through, bytes, blake3: [number as u8; 32], topics, max_entry_time_ns: 0 }).into()
}
