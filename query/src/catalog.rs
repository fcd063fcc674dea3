//! What a query is told about the world: topics, and one consistent snapshot of a topic's rows. The broker implements
//! [`Catalog`]; queries hold nothing else of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use stratalog_index::{LeafMatcher, Words};
use stratalog_proto::config::TopicConfig;
use stratalog_proto::{Error, Offset, PartitionId, RaftIndex, ShardId, TenantId, Token, TopicId};
use stratalog_storage::{SegmentHandle, SegmentMeta};

/// The topics and their rows.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// The version of the catalogue; part of each answer's fence.
    fn version(&self) -> u64;

    /// Every topic, in the order of names.
    fn topics(&self) -> Vec<Arc<TopicInfo>>;

    /// Has everything that the cluster acknowledged before this call show; whether anything may be new.
    async fn catch_up(&self) -> bool {
        false
    }

    /// The partitions of a topic, ascending.
    fn partitions(&self, topic: &TopicInfo) -> Vec<PartitionInfo>;

    /// The live column segments of a topic.
    fn segments(&self, topic: &TopicInfo) -> Vec<(ShardId, Arc<SegmentMeta>)>;

    /// A prefix of every partition of the topic in `shards`, fixed from now on (Q1). Waits until it includes every token
    /// of one of them that hosts the topic.
    ///
    /// # Errors
    /// [`stratalog_proto::Code::QueryDeadline`] when a token is not visible at `deadline`;
    /// [`stratalog_proto::Code::NotLeader`] for a shard that another node leads; what the shard reports else.
    async fn snapshot_of(
        &self,
        topic: &TopicInfo,
        shards: &[ShardId],
        tokens: &[Token],
        deadline: Instant,
    ) -> Result<TopicSnapshot, Error>;

    /// As [`Catalog::snapshot_of`], of all shards of the topic.
    ///
    /// # Errors
    /// Those of [`Catalog::snapshot_of`].
    async fn snapshot(&self, topic: &TopicInfo, tokens: &[Token], deadline: Instant) -> Result<TopicSnapshot, Error> {
        self.snapshot_of(topic, &topic.distinct_shards(), tokens, deadline).await
    }

    /// The shards that this node has a replica of, ascending.
    fn shards(&self) -> Vec<ShardInfo> {
        Vec::new()
    }

    /// The settings of the node, by name; none that is secret.
    fn settings(&self) -> Vec<SettingInfo> {
        Vec::new()
    }

    /// What happened on the node and is worth to know, the newest first; a bounded number.
    fn events(&self) -> Vec<EventInfo> {
        Vec::new()
    }

    /// Jobs in the background that are under way, and the last that ended.
    fn jobs(&self) -> Vec<JobInfo> {
        Vec::new()
    }

    /// Consumer groups of the shards that this node leads, with what they have to do with partitions.
    fn groups(&self) -> Vec<GroupInfo> {
        Vec::new()
    }

    /// Connections of clients that stay open from request to request, the oldest first.
    fn connections(&self) -> Vec<ConnectionInfo> {
        Vec::new()
    }
}

/// A shard, as `system.shards` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its number.
    pub shard: ShardId,
    /// Whether this node leads it.
    pub leader: bool,
    /// The last entry applied.
    pub applied: RaftIndex,
    /// The last entry whose rows queries see.
    pub visible: RaftIndex,
    /// Everything up to here is in replay segments.
    pub replay_frontier: RaftIndex,
    /// Bytes of its log that are kept.
    pub log_bytes: u64,
    /// Its replay segments.
    pub replay_segments: u64,
    /// Its column segments.
    pub segments: u64,
    /// Rows that are in no column segment yet.
    pub tail_rows: u64,
    /// Memory of these rows, in bytes.
    pub tail_bytes: u64,
    /// Idempotent producers that it knows.
    pub producers: u64,
}

/// A setting of the node, as `system.settings` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingInfo {
    /// Its key, as in the file.
    pub name: String,
    /// Its value, as in the file.
    pub value: String,
}

/// Something that happened, as `system.events` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventInfo {
    /// When, in nanoseconds since the epoch.
    pub time_ns: i64,
    /// `error`, `warn` or `info`.
    pub level: String,
    /// The room that says it.
    pub source: String,
    /// What happened.
    pub message: String,
}

/// A job in the background, as `system.jobs` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// What the statement that began it answered, or a name of its own.
    pub id: String,
    /// `erase`, `merge`.
    pub kind: String,
    /// The topic's name, or its id if it is gone.
    pub topic: String,
    /// Where it runs.
    pub shard: ShardId,
    /// `waiting`, `running`, `done`, `failed`.
    pub state: String,
    /// What it does: of an erasure the condition.
    pub what: String,
    /// How far it is, in words.
    pub progress: String,
    /// Why it failed, if it did; it is tried again.
    pub error: Option<String>,
}

/// A consumer group and a partition that it has read or is to read, as `system.groups` shows them. A group without
/// partitions is there once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its id.
    pub group: String,
    /// Where it is kept.
    pub shard: ShardId,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`.
    pub state: String,
    /// The topic's name and the partition's number.
    pub partition: Option<(String, PartitionId)>,
    /// The next offset to read, as it was committed last.
    pub committed: Option<Offset>,
    /// Who reads the partition.
    pub member: Option<GroupMemberInfo>,
}

/// A member of a consumer group, as `system.groups` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMemberInfo {
    /// Its id.
    pub id: String,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it is.
    pub host: String,
}

/// A client's connection, as `system.connections` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Which listener it came to: `kafka`.
    pub listener: String,
    /// Address and port of the client.
    pub client: String,
    /// What the client calls itself; may be empty.
    pub client_id: String,
    /// The library that the client says it is; may be empty.
    pub software: String,
    /// The version of that; may be empty.
    pub software_version: String,
    /// When it began, in nanoseconds since the epoch.
    pub since_ns: i64,
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes of the requests that came.
    pub bytes_in: u64,
    /// Bytes of their answers.
    pub bytes_out: u64,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// What everything but a user calls it.
    pub id: TopicId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What users call it.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// Its settings.
    pub config: TopicConfig,
    /// The shard of each partition, by partition number.
    pub shards: Vec<ShardId>,
}

impl TopicInfo {
    /// Every shard that hosts a partition of the topic, once, ascending.
    pub fn distinct_shards(&self) -> Vec<ShardId> {
        let shards: BTreeSet<ShardId> = self.shards.iter().copied().collect();
        shards.into_iter().collect()
    }
}

/// A partition, as `system.partitions` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: PartitionId,
    /// Where it lives.
    pub shard: ShardId,
    /// The first offset that can be read.
    pub log_start: Offset,
    /// One past the last offset that can be read.
    pub high_watermark: Offset,
    /// Bytes of record batches at or above log start.
    pub bytes: u64,
}

/// The rows of a topic at one moment: segments and tail of every shard that hosts a partition of it.
#[derive(Clone, Debug)]
pub struct TopicSnapshot {
    /// The topic.
    pub topic: Arc<TopicInfo>,
    /// [`merge_schemas`](crate::merge_schemas) over all segments and chunks below.
    pub schema: SchemaRef,
    /// The catalogue's version.
    pub version: u64,
    /// Every shard that hosts a partition of the topic and was asked for, each once.
    pub shards: Vec<ShardSnapshot>,
}

/// The rows of a topic in one shard: every row at or below the fence, and at or above log start, is in exactly one segment
/// or chunk (S1).
#[derive(Clone)]
pub struct ShardSnapshot {
    /// The shard.
    pub shard: ShardId,
    /// Every record at or below this index is here.
    pub fence: RaftIndex,
    /// Entries applied and not yet visible.
    pub lag: u64,
    /// Live column segments. Holding a handle keeps its file.
    pub segments: Vec<Arc<SegmentHandle>>,
    /// Rows that are not yet in a segment, ascending by index.
    pub tail: Vec<Arc<TailChunk>>,
    /// Where partitions begin, those that have rows below in `segments` or `tail`: the records of those rows are deleted,
    /// and no query sees them.
    pub log_starts: Arc<BTreeMap<PartitionId, Offset>>,
    /// Where what is seen ends, if not every row is: rows at or behind the end of their partition, or of a partition without
    /// an end, are not looked at.
    pub ends: Option<Arc<BTreeMap<PartitionId, Offset>>>,
    /// Where `_raw` is read from.
    pub raw: Arc<dyn RawRecords>,
}

impl fmt::Debug for ShardSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardSnapshot")
            .field("shard", &self.shard)
            .field("fence", &self.fence)
            .field("segments", &self.segments.len())
            .field("tail", &self.tail.len())
            .finish_non_exhaustive()
    }
}

/// Rows of a topic in one shard that are committed and not yet sealed. Closed: it never grows.
#[derive(Clone, Debug)]
pub struct TailChunk {
    /// The lowest Raft index of its rows.
    pub first_index: RaftIndex,
    /// The highest Raft index of its rows.
    pub last_index: RaftIndex,
    /// At most [`TailChunk::MAX_ROWS`] rows, in a schema of its own: system columns, then user columns by name.
    pub rows: RecordBatch,
    /// Memory held, in bytes, with what [`index_words`](Self::index_words) adds.
    pub bytes: usize,
    /// Of all columns of text, once somebody has taken the time.
    words: OnceLock<Words>,
}

impl TailChunk {
    /// The most rows of a chunk, as of a granule: the unit of work of a scan.
    pub const MAX_ROWS: usize = 8_192;

    /// `rows` are at most [`MAX_ROWS`](Self::MAX_ROWS), of entries between the two indexes, both included.
    pub fn new(first_index: RaftIndex, last_index: RaftIndex, rows: RecordBatch) -> Self {
        let bytes = rows.get_array_memory_size() + Words::bytes_for(text_bytes(&rows));
        Self { first_index, last_index, rows, bytes, words: OnceLock::new() }
    }

    /// Notes which words the rows have, so that a search for others passes them by. Costs a walk through all text; the rows
    /// are there for queries before and meanwhile.
    pub fn index_words(&self) {
        let texts = texts(&self.rows).flat_map(|column| column.iter().flatten());
        self.words.get_or_init(|| Words::of(texts, text_bytes(&self.rows)));
    }

    /// Whether [`index_words`](Self::index_words) was called.
    pub fn has_words(&self) -> bool {
        self.words.get().is_some()
    }

    /// Whether it is known that no text of any column matches.
    pub(crate) fn excludes(&self, matcher: &LeafMatcher) -> bool {
        self.words.get().is_some_and(|words| !words.may_match(matcher))
    }
}

fn texts(rows: &RecordBatch) -> impl Iterator<Item = &StringArray> {
    rows.columns().iter().filter_map(|column| column.as_string_opt::<i32>())
}

fn text_bytes(rows: &RecordBatch) -> usize {
    texts(rows).map(|column| column.value_data().len()).sum()
}

/// Record values as they were produced, read from the log.
pub trait RawRecords: Send + Sync {
    /// The value of each record, in the order of `rows`; `None` where it has no value or is no longer in the log.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// What the log reports: an IO error, or bytes that fail their checksum.
    fn raw(&self, rows: &[(PartitionId, Offset)]) -> Result<Vec<Option<Bytes>>, Error>;
}
