//! What a query is told about the world: topics, and one consistent snapshot of a topic's rows. The broker implements
//! [`Catalog`]; queries hold nothing else of it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
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

    /// The partitions of a topic, ascending.
    fn partitions(&self, topic: &TopicInfo) -> Vec<PartitionInfo>;

    /// The live column segments of a topic.
    fn segments(&self, topic: &TopicInfo) -> Vec<(ShardId, Arc<SegmentMeta>)>;

    /// A prefix of every partition of the topic, fixed from now on (Q1). Waits until it includes every token whose
    /// shard hosts the topic.
    ///
    /// # Errors
    /// [`stratalog_proto::Code::QueryDeadline`] when a token is not visible at `deadline`; what the shard reports else.
    async fn snapshot(&self, topic: &TopicInfo, tokens: &[Token], deadline: Instant) -> Result<TopicSnapshot, Error>;
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
    /// Every shard that hosts a partition of the topic, each once.
    pub shards: Vec<ShardSnapshot>,
}

/// The rows of a topic in one shard: every row at or below the fence is in exactly one segment or chunk (S1).
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
    /// Memory held, in bytes.
    pub bytes: usize,
}

impl TailChunk {
    /// The most rows of a chunk, as of a granule: the unit of work of a scan.
    pub const MAX_ROWS: usize = 8_192;
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
