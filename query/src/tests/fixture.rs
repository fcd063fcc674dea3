//! A catalog over rows that tests choose: in memory as tail, or in real column segments with text indexes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use stratalog_index::{ANALYZER_VERSION, TextIndexWriter};
use stratalog_proto::config::{ColumnSpec, ColumnType, TopicConfig};
use stratalog_proto::{
    Code, Error, Offset, PartitionId, RaftIndex, SegmentId, ShardId, TenantId, TimeBucket, Token, TopicId, v1,
};
use stratalog_storage::col::{ColSpec, write_segment};
use stratalog_storage::{Io, RealDisk, SegmentHandle, SegmentKind, SegmentMeta};

use super::nodes::{Nodes, Spread};
use super::rows::{Row, batch};
use crate::{
    Answer, Catalog, Changes, Engine, EngineOptions, GroupInfo, GroupMemberInfo, PartitionInfo, RawRecords,
    SearchRequest, ShardSnapshot, SqlRequest, TailChunk, TopicChange, TopicInfo, TopicSnapshot, merge_schemas,
};

/// Where a run of rows is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tail,
    Sealed,
    /// Sealed by another version of the analyzer: its text index says nothing to this one.
    OldAnalyzer,
}

struct FakeTopic {
    info: Arc<TopicInfo>,
    segments: Vec<Arc<SegmentHandle>>,
    tail: Vec<Arc<TailChunk>>,
    log_starts: BTreeMap<PartitionId, Offset>,
    fence: u64,
    /// Whether it can be read.
    held: bool,
}

/// Topics that tests fill.
pub(super) struct FakeCatalog {
    dir: tempfile::TempDir,
    io: Arc<dyn Io>,
    topics: Mutex<Vec<FakeTopic>>,
    pub(super) snapshots: AtomicUsize,
    pub(super) tokens: Mutex<Vec<Token>>,
}

/// A catalog and an engine over it.
pub(super) struct Fixture {
    /// What statements changed.
    pub(super) changes: Arc<FakeChanges>,
    pub(super) catalog: Arc<FakeCatalog>,
    pub(super) engine: Arc<Engine>,
    /// The other nodes.
    pub(super) nodes: Arc<Nodes>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with_options(EngineOptions { threads: 2, ..EngineOptions::default() })
    }

    /// Rows in segments and rows of the tail are of two shards: node 1, which is asked, leads none of them or the one of the
    /// tail, and other nodes have the rest.
    pub(super) fn spread(over: Spread) -> Self {
        Self::spread_with(over, EngineOptions { threads: 2, ..EngineOptions::default() })
    }

    pub(super) fn with_options(options: EngineOptions) -> Self {
        // Every test, with its rows at other nodes: what is counted and what is planned is different in some.
        match std::env::var("QUERY_TESTS_SPREAD").as_deref() {
            Ok("two") => Self::spread_with(Spread::Two, options),
            Ok("three") => Self::spread_with(Spread::Three, options),
            _ => Self::spread_with(Spread::Alone, options),
        }
    }

    pub(super) fn spread_with(over: Spread, options: EngineOptions) -> Self {
        let catalog = Arc::new(FakeCatalog {
            dir: tempfile::tempdir().unwrap(),
            io: Arc::new(RealDisk),
            topics: Mutex::default(),
            snapshots: AtomicUsize::new(0),
            tokens: Mutex::default(),
        });
        let changes = Arc::new(FakeChanges::default());
        let (nodes, engine) = Nodes::start(over, &catalog, &changes, &options);
        Self { engine, catalog, changes, nodes }
    }

    pub(super) fn topic(&self, name: &str) {
        let info = TopicInfo {
            id: TopicId::new(),
            tenant: TenantId(0),
            name: name.to_owned(),
            partitions: 4,
            config: TopicConfig::default(),
            shards: vec![ShardId(0), ShardId(1), ShardId(0), ShardId(1)],
        };
        let topic = FakeTopic {
            info: Arc::new(info),
            segments: Vec::new(),
            tail: Vec::new(),
            log_starts: BTreeMap::new(),
            fence: 100,
            held: false,
        };
        self.catalog.topics.lock().push(topic);
    }

    /// The id of a topic.
    pub(super) fn topic_id(&self, name: &str) -> TopicId {
        let topics = self.catalog.topics.lock();
        topics.iter().find(|known| known.info.name == name).unwrap().info.id
    }

    /// Declares a column of integers that every record has to have.
    pub(super) fn declare(&self, topic: &str, column: &str) {
        let mut topics = self.catalog.topics.lock();
        let topic = topics.iter_mut().find(|known| known.info.name == topic).unwrap();
        let column = ColumnSpec { name: column.to_owned(), column_type: ColumnType::Bigint, required: true };
        Arc::make_mut(&mut topic.info).config.columns.push(column);
    }

    /// Adds rows as one segment, or as chunks of at most 8,192 rows.
    pub(super) fn add(&self, topic: &str, place: Place, rows: &[Row]) {
        let mut topics = self.catalog.topics.lock();
        let topic = topics.iter_mut().find(|known| known.info.name == topic).unwrap();
        if place == Place::Tail {
            topic.tail.extend(rows.chunks(TailChunk::MAX_ROWS).map(chunk));
            return;
        }
        let analyzer_version = if place == Place::Sealed { ANALYZER_VERSION } else { ANALYZER_VERSION + 1 };
        let segment = seal(&self.catalog.io, self.catalog.dir.path(), &topic.info, rows, analyzer_version);
        topic.segments.push(Arc::new(segment));
    }

    /// Deletes the records of a partition below an offset; their rows stay where they are.
    pub(super) fn delete_records(&self, topic: &str, partition: u32, before: u64) {
        let mut topics = self.catalog.topics.lock();
        let topic = topics.iter_mut().find(|known| known.info.name == topic).unwrap();
        topic.log_starts.insert(PartitionId(partition), Offset(before));
    }

    pub(super) async fn start(&self, sql: &str) -> Result<Answer, Error> {
        self.engine.sql(SqlRequest { sql: sql.to_owned(), ..SqlRequest::default() }).await
    }

    pub(super) async fn sql(&self, sql: &str) -> Result<(Vec<RecordBatch>, v1::QueryStats), Error> {
        let mut answer = self.start(sql).await?;
        let batches = answer.collect().await?;
        Ok((batches, answer.stats()))
    }

    /// How a query ends that has to fail, before it begins or while it runs.
    pub(super) async fn failure(&self, request: SqlRequest) -> Error {
        match self.engine.sql(request).await {
            Ok(mut answer) => answer.collect().await.unwrap_err(),
            Err(error) => error,
        }
    }

    /// The answer as a table, or the error.
    pub(super) async fn show(&self, sql: &str) -> String {
        let answer = async {
            let mut answer = self.start(sql).await?;
            let schema = answer.schema();
            let mut batches = answer.collect().await?;
            batches.insert(0, RecordBatch::new_empty(schema));
            Ok::<_, Error>(pretty_format_batches(&batches).unwrap().to_string())
        };
        answer.await.unwrap_or_else(|error| format!("{}: {}", error.code, error.message))
    }

    /// `(partition, offset)` of the rows that a WHERE clause leaves, ascending, and what the query read.
    pub(super) async fn positions(&self, topic: &str, filter: &str) -> (Vec<(u32, u64)>, v1::QueryStats) {
        let sql = format!("SELECT _partition, _offset FROM {topic} WHERE {filter}");
        let (batches, stats) = self.sql(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let mut positions: Vec<_> = batches.iter().flat_map(positions).collect();
        positions.sort_unstable();
        (positions, stats)
    }

    pub(super) async fn search(&self, request: SearchRequest) -> Result<(RecordBatch, v1::QueryStats), Error> {
        let mut answer = self.engine.search(request).await?;
        let schema = answer.schema();
        let batches = answer.collect().await?;
        Ok((arrow::compute::concat_batches(&schema, &batches).unwrap(), answer.stats()))
    }
}

impl FakeCatalog {
    /// The file of the only segment.
    pub(super) fn segment_file(&self) -> PathBuf {
        self.topics.lock()[0].segments[0].path().to_owned()
    }

    /// The segments of the only topic.
    pub(super) fn segments(&self) -> Vec<Arc<SegmentHandle>> {
        self.topics.lock()[0].segments.clone()
    }

    /// Drops the segments of the only topic, as retention does.
    pub(super) fn drop_segments(&self) {
        self.topics.lock()[0].segments.drain(..).for_each(|segment| segment.condemn());
    }

    /// Has nobody read a topic any more, as one with damage.
    pub(super) fn hold_back(&self, topic: &str) {
        self.topics.lock().iter_mut().filter(|known| known.info.name == topic).for_each(|known| known.held = true);
    }

    /// Forgets what is known of the only segment's file.
    pub(super) fn reopen(&self) {
        let segment = &mut self.topics.lock()[0].segments[0];
        *segment = Arc::new(SegmentHandle::new(self.io.clone(), self.dir.path(), segment.shard, segment.meta.clone()));
    }
}

/// Not a measurement: the loop ends as soon as the queries have, and fails only if they never do.
pub(super) async fn ended(fixture: &Fixture) {
    for _ in 0..3_000 {
        if fixture.engine.tasks() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a query still runs");
}

/// `(partition, offset)` of each row.
pub(super) fn positions(batch: &RecordBatch) -> Vec<(u32, u64)> {
    let partitions = batch.column_by_name("_partition").unwrap().as_primitive::<arrow::datatypes::Int32Type>();
    let offsets = batch.column_by_name("_offset").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
    partitions.values().iter().zip(offsets.values()).map(|(p, o)| (*p as u32, *o as u64)).collect()
}

fn chunk(rows: &[Row]) -> Arc<TailChunk> {
    let chunk = TailChunk::new(RaftIndex(1), RaftIndex(2), batch(rows));
    // The one as well as the other, as it comes.
    if chunk.rows.num_rows().is_multiple_of(2) {
        chunk.index_words();
    }
    Arc::new(chunk)
}

fn seal(io: &Arc<dyn Io>, dir: &Path, topic: &TopicInfo, rows: &[Row], analyzer_version: u32) -> SegmentHandle {
    let rows = batch(rows);
    let spec = ColSpec {
        id: SegmentId::new(),
        shard: ShardId(0),
        topic: topic.id,
        kind: SegmentKind::Column,
        bucket: TimeBucket { start_ns: i64::MIN, end_ns: i64::MAX },
        analyzer_version,
    };
    let meta = write_segment(&**io, dir, &spec, &rows, Some(&text_index(&rows))).unwrap();
    SegmentHandle::new(io.clone(), dir, ShardId(0), Arc::new(meta))
}

fn text_index(rows: &RecordBatch) -> Vec<u8> {
    let schema = rows.schema();
    let is_text =
        |field: &&Arc<arrow::datatypes::Field>| *field.data_type() == DataType::Utf8 && !field.name().starts_with('_');
    let names: Vec<String> = schema.fields().iter().filter(is_text).map(|field| field.name().clone()).collect();
    let columns: Vec<_> = names.iter().map(|name| rows.column_by_name(name).unwrap().as_string::<i32>()).collect();
    let mut writer = TextIndexWriter::new(&names, 64 << 20).unwrap();
    for row in 0..rows.num_rows() {
        let texts = columns.iter().enumerate().filter(|(_, column)| column.is_valid(row));
        writer.add_row(&mut texts.map(|(field, column)| (field, column.value(row)))).unwrap();
    }
    writer.finish().unwrap()
}

/// Notes what statements change, and changes nothing.
#[derive(Default)]
pub(super) struct FakeChanges(pub(super) Mutex<Vec<String>>, std::sync::atomic::AtomicBool);

impl FakeChanges {
    /// From now on no change is ever confirmed.
    pub(super) fn hold(&self) {
        self.1.store(true, Ordering::Relaxed);
    }

    async fn confirmed(&self) {
        if self.1.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }
}

#[async_trait]
impl Changes for FakeChanges {
    async fn create_topic(&self, name: &str, partitions: u32, config: TopicConfig) -> Result<(), Error> {
        self.confirmed().await;
        if name == "logs" {
            return Err(Error::new(Code::TopicExists, "there is a topic `logs`"));
        }
        let columns: Vec<_> =
            config.columns.iter().map(|column| (&column.name, column.column_type.name(), column.required)).collect();
        let (format, retention, time) = (config.format.name(), config.retention_ns, config.time_field.as_deref());
        self.0.lock().push(format!("create {name} {partitions} {format} {retention:?} {time:?} {columns:?}"));
        Ok(())
    }

    async fn alter_topic(&self, name: &str, change: TopicChange) -> Result<(), Error> {
        let columns: Vec<_> = change.columns.iter().map(|column| &column.name).collect();
        let grown = change.partitions.map(|partitions| format!(" to {partitions} partitions")).unwrap_or_default();
        self.0.lock().push(format!("alter {name} {:?} {columns:?}{grown}", change.settings));
        Ok(())
    }

    async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        self.confirmed().await;
        self.0.lock().push(format!("drop {name}"));
        Ok(())
    }

    async fn delete_rows(&self, topic: &str, predicate: &str) -> Result<String, Error> {
        self.confirmed().await;
        self.0.lock().push(format!("delete from {topic}: {predicate}"));
        Ok("job-1".to_owned())
    }
}

/// The record at a position says its position.
struct FakeLog;

impl RawRecords for FakeLog {
    fn raw(&self, rows: &[(PartitionId, Offset)]) -> Result<Vec<Option<Bytes>>, Error> {
        Ok(rows.iter().map(|(partition, offset)| Some(Bytes::from(format!("raw {partition}/{offset}")))).collect())
    }
}

#[async_trait]
impl Catalog for FakeCatalog {
    fn version(&self) -> u64 {
        7
    }

    fn topics(&self) -> Vec<Arc<TopicInfo>> {
        self.topics.lock().iter().map(|topic| topic.info.clone()).collect()
    }

    fn partitions(&self, topic: &TopicInfo) -> Vec<PartitionInfo> {
        let info = |(partition, shard): (usize, &ShardId)| PartitionInfo {
            partition: PartitionId(partition as u32),
            shard: *shard,
            log_start: Offset(0),
            high_watermark: Offset(10),
            bytes: 1_000,
        };
        topic.shards.iter().enumerate().map(info).collect()
    }

    fn segments(&self, topic: &TopicInfo) -> Vec<(ShardId, Arc<SegmentMeta>)> {
        let topics = self.topics.lock();
        let topic = topics.iter().find(|known| known.info.id == topic.id).unwrap();
        topic.segments.iter().map(|segment| (segment.shard, segment.meta.clone())).collect()
    }

    fn groups(&self) -> Vec<GroupInfo> {
        let member =
            GroupMemberInfo { id: "reader-1".to_owned(), client_id: "reader".to_owned(), host: "10.0.0.7".to_owned() };
        let reads = GroupInfo {
            group: "readers".to_owned(),
            shard: ShardId(0),
            state: "Stable".to_owned(),
            partition: Some(("logs".to_owned(), PartitionId(0))),
            committed: Some(Offset(4)),
            member: Some(member),
        };
        let of_nobody = GroupInfo { member: None, ..reads.clone() };
        let never = GroupInfo { partition: Some(("logs".to_owned(), PartitionId(9))), ..of_nobody.clone() };
        let idle = GroupInfo { group: "idle".to_owned(), partition: None, committed: None, ..of_nobody };
        vec![idle, reads, never]
    }

    async fn snapshot_of(
        &self,
        topic: &TopicInfo,
        shards: &[ShardId],
        tokens: &[Token],
        _: Instant,
    ) -> Result<TopicSnapshot, Error> {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
        self.tokens.lock().extend(tokens);
        let topics = self.topics.lock();
        let topic = topics.iter().find(|known| known.info.id == topic.id).unwrap();
        if topic.held {
            return Err(Error::new(Code::CorruptData, "a segment of the topic is damaged"));
        }
        let schemas: Vec<SchemaRef> = topic
            .segments
            .iter()
            .filter(|_| shards.contains(&ShardId(0)))
            .map(|segment| Ok(segment.reader()?.schema().clone()))
            .chain(topic.tail.iter().filter(|_| shards.contains(&ShardId(1))).map(|chunk| Ok(chunk.rows.schema())))
            .collect::<Result<_, Error>>()?;
        let shard = |shard: u32, segments: &[Arc<SegmentHandle>], tail: &[Arc<TailChunk>]| ShardSnapshot {
            shard: ShardId(shard),
            fence: RaftIndex(topic.fence),
            lag: 0,
            segments: segments.to_vec(),
            tail: tail.to_vec(),
            log_starts: Arc::new(topic.log_starts.clone()),
            ends: None,
            raw: Arc::new(FakeLog),
        };
        Ok(TopicSnapshot {
            topic: topic.info.clone(),
            schema: merge_schemas(schemas.iter().map(|schema| &**schema)),
            version: 7,
            shards: [shard(0, &topic.segments, &[]), shard(1, &[], &topic.tail)]
                .into_iter()
                .filter(|shard| shards.contains(&shard.shard))
                .collect(),
        })
    }
}
