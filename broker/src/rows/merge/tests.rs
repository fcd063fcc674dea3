//! Merges over a log in memory: the same rows in fewer files.

mod apart;
mod bounds;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use proptest::prelude::*;
use roaring::RoaringTreemap;
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, JobId, Offset, PartitionId, RaftIndex, TopicId, internal};
use stratalog_query::{Catalog, TopicInfo, widen};
use stratalog_storage::{SegmentKind, SegmentMeta};

use super::{Edit, Merged};
use crate::rows::parse::parse;
use crate::rows::testing::{FixedTopics, MemLog, NOW_NS, SealFate, batch_of, rows_over, topic};
use crate::rows::{Rows, RowsOptions};
use crate::shard::AppliedBatch;

const HOUR: i64 = 3_600_000_000_000;

/// Partition and offset.
type Place = (i32, i64);
/// The user columns of a row that have a value, as text.
type Row = Vec<(String, String)>;

/// A shard with one topic, of which nothing is sealed or merged unless it is asked for.
struct Setup {
    dir: tempfile::TempDir,
    log: Arc<MemLog>,
    logs: Arc<TopicInfo>,
    rows: Arc<Rows>,
}

impl Setup {
    async fn new(partitions: u32) -> Self {
        let config = TopicConfig { time_field: Some("ts".to_owned()), ..TopicConfig::default() };
        let dir = tempfile::tempdir().unwrap();
        let (log, logs) = (MemLog::new(dir.path()), topic("logs", partitions, config));
        log.create(&logs);
        let rows = start(&log, &logs).await;
        Self { dir, log, logs, rows }
    }

    /// The same with so much memory for the values that a merge holds.
    async fn with_held_bytes(self, merge_held_bytes: usize) -> Self {
        self.rows.stop().await;
        let options = RowsOptions { merge_held_bytes, ..options() };
        let topics = Arc::new(FixedTopics(vec![self.logs.clone()]));
        let rows = rows_over([self.log.clone()], topics, options).await;
        Self { rows, ..self }
    }

    /// Seals these values as one segment for each bucket.
    async fn seal(&self, partition: u32, values: &[String]) {
        self.log.produce(&self.logs, partition, &values.iter().map(String::as_str).collect::<Vec<_>>());
        self.rows.seal_now(&self.logs).await.unwrap();
    }

    fn segments(&self) -> Vec<Arc<SegmentMeta>> {
        self.rows.segments(&self.logs).into_iter().map(|(_, meta)| meta).collect()
    }

    fn files(&self) -> usize {
        files(self.dir.path())
    }

    fn delete_records(&self, partition: u32, before: u64) {
        let before = vec![internal::PartitionCount { partition, value: before }];
        let delete = internal::DeleteRecords { topic: self.logs.id.to_bytes(), before };
        self.log.apply(&[Command::DeleteRecords(delete)])[0].as_ref().unwrap();
    }

    fn begin_erasure(&self) {
        let (job, topic) = (JobId::new().to_bytes(), self.logs.id.to_bytes());
        self.log.apply(&[Command::Erase(internal::Erase {
            job,
            topic,
            predicate: "true".to_owned(),
            columns: Vec::new(),
        })]);
    }

    async fn rewrite(
        &self,
        inputs: &[Arc<SegmentMeta>],
        edit: Edit,
    ) -> Result<super::edit::Rewritten, stratalog_proto::Error> {
        let shard = self.rows.shards_of(&self.logs).next().unwrap();
        self.rows.merger.rewrite(&shard, self.logs.id, inputs, edit).await
    }

    /// Each row by partition and offset: its user columns as text, nulls left out.
    async fn rows(&self) -> BTreeMap<Place, Row> {
        let deadline = Instant::now() + Duration::from_secs(10);
        self.rows.caught_up(deadline).await.unwrap();
        let snapshot = self.rows.snapshot(&self.logs, &[], deadline).await.unwrap();
        let mut found = BTreeMap::new();
        let shard = &snapshot.shards[0];
        let sealed = shard.segments.iter().flat_map(|segment| whole(&segment.reader().unwrap()));
        for batch in sealed.chain(shard.tail.iter().map(|chunk| chunk.rows.clone())) {
            for (place, row) in shown(&batch, &snapshot.schema) {
                let hidden =
                    shard.log_starts.get(&PartitionId(place.0 as u32)).is_some_and(|start| (place.1 as u64) < start.0);
                assert!(hidden || found.insert(place, row).is_none(), "S1: {place:?} is there twice");
            }
        }
        found
    }

    async fn check(&self) {
        assert!(self.rows.coverage(&self.logs)[0].1.holds(), "S1: {:?}", self.rows.coverage(&self.logs));
    }
}

async fn start(log: &Arc<MemLog>, logs: &Arc<TopicInfo>) -> Arc<Rows> {
    rows_over([log.clone()], Arc::new(FixedTopics(vec![logs.clone()])), options()).await
}

fn options() -> RowsOptions {
    let hour = Duration::from_secs(3_600);
    RowsOptions { seal_age: hour, retention_interval: hour, merge_rate_bytes: 0, ..RowsOptions::default() }
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().filter(|entry| entry.as_ref().unwrap().path().extension().is_some()).count()
}

fn whole(reader: &stratalog_storage::col::ColReader) -> Vec<RecordBatch> {
    let granule = |granule| {
        let columns = (0..reader.schema().fields().len()).map(|col| reader.read(col, granule).unwrap()).collect();
        RecordBatch::try_new(reader.schema().clone(), columns).unwrap()
    };
    (0..reader.granules()).map(granule).collect()
}

/// The rows as a query shows them.
fn shown(batch: &RecordBatch, table: &arrow::datatypes::Schema) -> Vec<(Place, Row)> {
    let text = |name: &str| -> StringArray {
        let column = batch.column_by_name(name).unwrap().clone();
        let target = table.field_with_name(name).map_or(DataType::Utf8, |field| field.data_type().clone());
        cast(&widen(column, &target).unwrap(), &DataType::Utf8).unwrap().as_string::<i32>().clone()
    };
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    let columns: Vec<(String, StringArray)> = names
        .into_iter()
        .filter(|name| !name.starts_with('_') || name == "_time" || name == "_dead")
        .map(|name| (name.clone(), text(&name)))
        .collect();
    let places = crate::rows::testing::places(batch);
    let row = |at: usize| {
        let cells = columns.iter().filter(|(_, column)| column.is_valid(at));
        cells.map(|(name, column)| (name.clone(), column.value(at).to_owned())).collect()
    };
    places.into_iter().enumerate().map(|(at, place)| (place, row(at))).collect()
}

/// A value `hours` and `ns` after a time well inside the range that is read as nanoseconds.
fn value(hours: i64, ns: i64, rest: &str) -> String {
    format!(r#"{{"ts":{}{rest}}}"#, 480_000 * HOUR + hours * HOUR + ns)
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn q2_merged_segments_hold_the_same_rows_in_their_order() {
    let setup = Setup::new(2).await;
    setup.seal(0, &[value(0, 5, r#","n":1,"s":"one""#), value(0, 1, r#","n":2"#), "garbage".to_owned()]).await;
    setup.seal(1, &[value(0, 3, r#","n":0.5,"only":true"#), value(1, 0, r#","s":"later""#)]).await;
    setup.seal(0, &[value(0, 5, r#","n":"text""#), value(0, 9, "")]).await;
    let before = setup.rows().await;
    let (count, buckets) = (setup.segments().len(), 3);
    assert!(count > buckets);
    assert!(setup.rows.merge_now(&setup.logs).await.unwrap().replaced > 0);
    assert_eq!(setup.segments().len(), buckets, "one for each bucket, that of the dead record too");
    assert_eq!(setup.rows().await, before);
    eventually("the inputs are unlinked", || setup.files() == buckets).await;
    for segment in setup.rows.snapshot(&setup.logs, &[], Instant::now()).await.unwrap().shards[0].segments.iter() {
        let reader = segment.reader().unwrap();
        segment.verify().unwrap();
        let times: Vec<i64> = whole(&reader).iter().flat_map(crate::rows::merge::tests::times).collect();
        assert!(times.is_sorted());
    }
    assert_eq!(setup.rows.merge_now(&setup.logs).await.unwrap(), Merged::default(), "there is nothing left to merge");
    setup.check().await;
    setup.rows.stop().await;
}

fn times(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<arrow::datatypes::TimestampNanosecondType>().values().to_vec()
}

#[tokio::test]
async fn a_text_index_of_merged_rows_finds_what_those_of_the_inputs_did() {
    let setup = Setup::new(1).await;
    for word in ["apple", "pear", "apple"] {
        setup.seal(0, &[value(0, 0, &format!(r#","s":"an {word}""#)), value(0, 1, r#","s":"nothing""#)]).await;
    }
    setup.rows.merge_now(&setup.logs).await.unwrap();
    let snapshot = setup.rows.snapshot(&setup.logs, &[], Instant::now()).await.unwrap();
    let [segment] = &snapshot.shards[0].segments[..] else { panic!("one segment") };
    assert!(segment.meta.analyzer_version > 0 && segment.reader().unwrap().text().is_some());
    setup.rows.stop().await;
}

#[tokio::test]
async fn mixed_segments_are_split_into_their_buckets() {
    let setup = Setup::new(1).await;
    for round in 0..2 {
        let values: Vec<String> = (0..40).map(|hour| value(hour, round, "")).collect();
        setup.seal(0, &values).await;
    }
    let before = setup.rows().await;
    assert_eq!(setup.segments().iter().filter(|meta| meta.kind == SegmentKind::Mixed).count(), 2);
    setup.rows.merge_now(&setup.logs).await.unwrap();
    let segments = setup.segments();
    assert!(segments.iter().all(|meta| meta.kind == SegmentKind::Column && meta.rows == 2));
    assert_eq!((segments.len(), setup.rows().await), (40, before));
    setup.check().await;
    setup.rows.stop().await;
}

#[tokio::test]
async fn rows_below_log_start_leave_with_a_merge_and_are_counted() {
    let setup = Setup::new(1).await;
    let values: Vec<String> = (0..10).map(|n| value(0, n, "")).collect();
    setup.seal(0, &values).await;
    setup.delete_records(0, 6);
    assert_eq!(setup.rows().await.len(), 4);
    assert_eq!(setup.rows.merge_now(&setup.logs).await.unwrap().made, 1);
    assert_eq!(setup.segments().iter().map(|meta| meta.rows).sum::<u64>(), 4);
    assert_eq!((setup.rows.stats().counts.trimmed, setup.rows().await.len()), (6, 4));
    setup.check().await;
    setup.rows.stop().await;
}

#[tokio::test]
async fn erased_rows_leave_and_are_counted() {
    let setup = Setup::new(2).await;
    setup.seal(0, &[value(0, 0, ""), value(0, 1, ""), value(0, 2, "")]).await;
    setup.seal(1, &[value(0, 0, "")]).await;
    let segments = setup.segments();
    let edit = |partition, offsets: &[u64]| Edit {
        erase: BTreeMap::from([(PartitionId(partition), offsets.iter().copied().collect::<RoaringTreemap>())]),
        ..Edit::default()
    };
    let refused = setup.rewrite(&segments, edit(0, &[1])).await.unwrap_err();
    assert_eq!(refused.code, Code::Conflict, "nobody asked for it");
    eventually("its files are removed", || setup.files() == 2).await;
    setup.begin_erasure();
    for segment in &segments {
        let rewritten = setup.rewrite(std::slice::from_ref(segment), edit(0, &[1, 7])).await.unwrap();
        assert_eq!(rewritten.erased, u64::from(segment.range(PartitionId(0)).is_some()));
    }
    assert_eq!(setup.rows().await.into_keys().collect::<Vec<_>>(), [(0, 0), (0, 2), (1, 0)]);
    let gone = setup
        .rewrite(
            &setup.segments(),
            Edit { erase: edit(0, &[0, 2]).erase.into_iter().chain(edit(1, &[0]).erase).collect(), ..Edit::default() },
        )
        .await
        .unwrap();
    assert_eq!((gone.erased, gone.segments.len(), setup.segments().len()), (3, 0, 0));
    assert_eq!(setup.rows.stats().counts.erased, 4);
    setup.check().await;
    eventually("the files are unlinked", || setup.files() == 0).await;
    setup.rows.stop().await;
}

/// Rows of these values as the offsets `from` and above of partition 0.
fn rows_of(logs: &TopicInfo, from: u64, values: &[String]) -> RecordBatch {
    let batch = AppliedBatch {
        index: RaftIndex(1),
        topic: TopicId::new(),
        partition: PartitionId(0),
        base_offset: Offset(from),
        entry_time_ns: NOW_NS,
        batch: batch_of(&values.iter().map(String::as_str).collect::<Vec<_>>()),
    };
    let chunks: Vec<RecordBatch> = parse(&logs.config, [&batch]).chunks.into_iter().map(|chunk| chunk.rows).collect();
    concat_batches(chunks[0].schema_ref(), &chunks).unwrap()
}

#[tokio::test]
async fn rows_that_stand_for_others_take_their_place_in_another_bucket_too() {
    let setup = Setup::new(1).await;
    setup.seal(0, &["bad".to_owned(), value(0, 1, r#","n":1"#), "worse".to_owned(), "bad".to_owned()]).await;
    assert_eq!(setup.segments().iter().map(|meta| meta.dead_rows).sum::<u64>(), 3);
    let mended = rows_of(&setup.logs, 2, &[value(7, 0, r#","n":9007199254740993"#), value(0, 0, r#","n":0.5"#)]);
    let rewritten = setup.rewrite(&setup.segments(), Edit { replace: vec![mended.clone()], ..Edit::default() }).await;
    assert_eq!(rewritten.unwrap().replaced, 2);
    let segments = setup.segments();
    assert_eq!(
        segments.iter().map(|meta| (meta.rows, meta.dead_rows)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (4, 1)
    );
    assert!(segments.iter().all(|meta| meta.kind == SegmentKind::Column));
    let rows = setup.rows().await;
    let n = |offset| rows[&(0, offset)].iter().find(|(name, _)| name == "n").map(|(_, n)| n.clone());
    assert_eq!([n(1), n(2), n(3)], [Some("1"), Some("9007199254740993"), Some("0.5")].map(|n| n.map(str::to_owned)));
    let stranger = rows_of(&setup.logs, 50, &[value(0, 0, "")]);
    let refused = setup.rewrite(&setup.segments(), Edit { replace: vec![stranger], ..Edit::default() }).await;
    assert_eq!(refused.unwrap_err().code, Code::Conflict);
    setup.check().await;
    setup.rows.stop().await;
}

#[tokio::test]
async fn q2_integers_that_a_float_cannot_hold_keep_segments_apart() {
    let setup = Setup::new(1).await;
    setup.seal(0, &[value(0, 0, r#","n":9007199254740993"#)]).await;
    setup.seal(0, &[value(0, 1, r#","n":0.5"#)]).await;
    let before = setup.rows().await;
    setup.rows.merge_now(&setup.logs).await.unwrap();
    assert_eq!((setup.segments().len(), setup.rows().await), (2, before));
    setup.rows.stop().await;
}

#[tokio::test]
async fn s2_a_merge_of_what_was_dropped_meanwhile_is_refused() {
    let setup = Setup::new(1).await;
    setup.seal(0, &[value(0, 0, "")]).await;
    let stale = setup.segments();
    let gone = internal::Drop { topic: setup.logs.id.to_bytes(), segments: vec![stale[0].id.to_bytes()] };
    setup.log.apply(&[Command::Drop(gone)]);
    assert_eq!(setup.rewrite(&stale, Edit::default()).await.unwrap_err().code, Code::Conflict);
    setup.rows.stop().await;
}

#[tokio::test]
async fn files_of_a_merge_whose_outcome_is_unknown_go_behind_a_barrier_unless_it_applied() {
    let setup = Setup::new(1).await;
    for fate in [SealFate::AnswerLost, SealFate::Lost] {
        setup.seal(0, &[value(0, 0, ""), value(0, 1, "")]).await;
        setup.seal(0, &[value(0, 2, "")]).await;
        let before = setup.rows().await;
        *setup.log.fate.lock() = fate;
        let merged = setup.rows.merge_now(&setup.logs).await;
        assert_eq!(merged.is_ok(), fate == SealFate::AnswerLost, "{fate:?}");
        assert_eq!(setup.rows().await, before, "{fate:?}");
        setup.check().await;
        let live = setup.segments().len();
        eventually("only live files are left", || setup.files() == live).await;
    }
    assert_eq!(setup.rows().await.len(), 6);
    setup.rows.stop().await;
}

#[tokio::test]
async fn dropped_files_that_are_read_are_no_garbage() {
    let setup = Setup::new(1).await;
    setup.seal(0, &[value(0, 0, "")]).await;
    let held = setup.rows.snapshot(&setup.logs, &[], Instant::now()).await.unwrap();
    let gone = internal::Drop { topic: setup.logs.id.to_bytes(), segments: vec![setup.segments()[0].id.to_bytes()] };
    setup.log.apply(&[Command::Drop(gone)]);
    std::fs::write(setup.dir.path().join("0.col.tmp"), b"never finished").unwrap();
    let shard = setup.rows.shards_of(&setup.logs).next().unwrap().clone();
    eventually("the drop is heard of", || shard.files.lingering() == 1).await;
    crate::rows::garbage::collect(&shard).await.unwrap();
    assert_eq!(setup.files(), 1, "only what was never finished went");
    assert_eq!(held.shards[0].segments[0].reader().unwrap().rows(), 1);
    drop(held);
    eventually("the file is unlinked", || setup.files() == 0 && shard.files.lingering() == 0).await;
    setup.rows.stop().await;
}

#[derive(Clone, Debug)]
enum Step {
    Seal { partition: u32, rows: Vec<(i64, Option<i64>)> },
    Merge,
    DeleteRecords { partition: u32, before: u64 },
    Erase { partition: u32, offset: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let row = (0..40_i64, prop::option::of(-5..5_i64));
    prop_oneof![
        4 => (0..2_u32, prop::collection::vec(row, 1..50)).prop_map(|(partition, rows)| Step::Seal { partition, rows }),
        2 => Just(Step::Merge),
        1 => (0..2_u32, 0..60_u64).prop_map(|(partition, before)| Step::DeleteRecords { partition, before }),
        1 => (0..2_u32, 0..60_u64).prop_map(|(partition, offset)| Step::Erase { partition, offset }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// S1 and Q2: whatever is merged, trimmed and erased, the rows are those that a model has.
    #[test]
    fn s1_rows_are_those_of_a_model_after_any_merges(steps in prop::collection::vec(step(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let setup = Setup::new(2).await;
            let mut model: BTreeMap<(i32, i64), Option<String>> = BTreeMap::new();
            let mut ends = [0_i64; 2];
            let mut starts = [0_i64; 2];
            setup.begin_erasure();
            for step in steps {
                match step {
                    Step::Seal { partition, rows } => {
                        let text = |n: &Option<i64>| n.map_or(String::new(), |n| format!(r#","n":{n}"#));
                        let values: Vec<_> = rows.iter().map(|(hour, n)| value(*hour, *hour, &text(n))).collect();
                        setup.seal(partition, &values).await;
                        for (_, n) in rows {
                            let end = &mut ends[partition as usize];
                            model.insert((partition as i32, *end), n.map(|n| n.to_string()));
                            *end += 1;
                        }
                    }
                    Step::Merge => _ = setup.rows.merge_now(&setup.logs).await.unwrap(),
                    Step::DeleteRecords { partition, before } => {
                        setup.delete_records(partition, before);
                        let at = partition as usize;
                        starts[at] = starts[at].max((before as i64).min(ends[at]));
                        model.retain(|(of, offset), _| *of as usize != at || *offset >= starts[at]);
                    }
                    Step::Erase { partition, offset } => {
                        let erase = BTreeMap::from([(PartitionId(partition), RoaringTreemap::from_iter([offset]))]);
                        for segment in setup.segments() {
                            setup.rewrite(&[segment], Edit { erase: erase.clone(), ..Edit::default() }).await.unwrap();
                        }
                        model.remove(&(partition as i32, offset as i64));
                    }
                }
                let n = |row: Row| row.into_iter().find(|(name, _)| name == "n").map(|(_, n)| n);
                let found: BTreeMap<_, _> = setup.rows().await.into_iter().map(|(at, row)| (at, n(row))).collect();
                assert_eq!(found, model);
                setup.check().await;
            }
            setup.rows.stop().await;
        });
    }
}
