//! What holds after each step.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};
use stratalog_proto::TopicId;
use stratalog_query::{Catalog, ShardSnapshot, TopicInfo};
use stratalog_storage::col::{segment_file_name, system};
use stratalog_storage::{Io, SegmentHandle, SegmentMeta};

use super::Run;
use super::model::{Place, Produced};
use super::run::DIR;
use crate::rows::log::RowLog;

impl Run {
    /// Every record that has to be there is there, once, with its value; and every offset is accounted for (S1).
    pub(super) async fn check(&mut self) {
        for topic in self.topics.clone() {
            let shard = self.snapshot(&topic).await;
            let mut rows = Vec::new();
            for segment in &shard.segments {
                let found = of_segment(topic.id, segment);
                assert_eq!(found.len() as u64, segment.meta.rows, "S3: a segment has the rows that its entry says");
                self.model.found(segment.meta.id, found.iter().map(|(place, _)| *place).collect());
                rows.extend(found);
            }
            shard.tail.iter().for_each(|chunk| rows.extend(of_rows(topic.id, &chunk.rows)));
            self.check_rows(&topic, rows);
            self.check_counts(&topic);
        }
    }

    fn check_rows(&mut self, topic: &TopicInfo, rows: Vec<(Place, Produced)>) {
        let mut seen = BTreeSet::new();
        for (place, found) in rows {
            let expected = self.model.record(&place).unwrap_or_else(|| panic!("S1: nobody wrote {place:?}"));
            assert_eq!(found.number, expected.number, "S1: the value at {place:?}");
            assert!(found.number.is_none() || found.time_ns == expected.time_ns, "S1: the time at {place:?}");
            assert!(seen.insert(place), "S1: {place:?} is there twice");
        }
        // Rows below log start may lie in a segment that straddles it: scans leave them out.
        seen.retain(|place| place.2 >= self.model.log_start(place.0, place.1));
        let live = self.model.live(topic.id);
        let missing: Vec<Place> = live.difference(&seen).copied().collect();
        let unexplained = self.model.unexplained(&missing);
        assert!(unexplained.is_none(), "S1: {unexplained:?} is missing");
        let back = seen.difference(&live).next();
        assert!(back.is_none(), "S1: {back:?} is there although it is gone");
    }

    fn check_counts(&self, topic: &TopicInfo) {
        // A tail says nothing of what it holds above a row frontier that a seal of an earlier process has moved.
        if let Some((_, coverage)) = self.rows().coverage(topic).first() {
            assert!(coverage.holds(), "S1: {coverage:?}");
        }
        // In one look: a seal or a merge may come between two.
        let (rows, counts, sealed) = self.log.read(|state| {
            let live = state.manifest().topic(topic.id).expect("the topic is hosted");
            let rows: u64 = live.segments.values().map(|segment| segment.rows).sum();
            let partitions = state.topic(topic.id).into_iter().flat_map(|topic| topic.partitions());
            (rows, live.counts, partitions.map(|(_, partition)| partition.sealed().0).sum::<u64>())
        });
        assert_eq!(rows + counts.total(), sealed, "S1: {rows} rows and {counts:?} are all offsets that are sealed");
        for partition in self.log.partitions(topic.id) {
            let deleted = self.model.log_start(topic.id, partition.partition.0);
            assert!(partition.log_start.0 >= deleted, "log start went back below {deleted}");
            let lowest = self.model.live(topic.id).into_iter().find(|place| place.1 == partition.partition.0);
            assert!(
                lowest.is_none_or(|(_, _, lowest)| partition.log_start.0 <= lowest),
                "S1: log start is above {lowest:?}"
            );
        }
    }

    /// No file is there that the manifest does not name, and each that it names is there (S2).
    pub(super) fn check_files(&self) {
        let named: BTreeSet<String> = self.log.manifest().segment_ids().map(segment_file_name).collect();
        let there: BTreeSet<String> = self.disk.list(Path::new(DIR)).expect("it is listed").into_iter().collect();
        assert_eq!(there, named, "S2: files, and what the manifest names");
    }

    /// Looks at the rows of segments that are new.
    pub(super) async fn learn(&mut self, topic: &TopicInfo) {
        for segment in self.snapshot(topic).await.segments {
            if !self.model.knows(segment.meta.id) {
                let rows = of_segment(topic.id, &segment).into_iter().map(|(place, _)| place).collect();
                self.model.found(segment.meta.id, rows);
            }
        }
    }

    pub(super) fn segments(&self, topic: &TopicInfo) -> Vec<Arc<SegmentMeta>> {
        self.rows().segments(topic).into_iter().map(|(_, meta)| meta).collect()
    }

    async fn snapshot(&self, topic: &TopicInfo) -> ShardSnapshot {
        let soon = Instant::now() + Duration::from_secs(30);
        let taken = self.rows().snapshot(topic, &[], soon).await;
        taken.unwrap_or_else(|error| panic!("a snapshot: {error}")).shards.remove(0)
    }
}

fn of_segment(topic: TopicId, segment: &SegmentHandle) -> Vec<(Place, Produced)> {
    let reader = segment.reader().unwrap_or_else(|error| panic!("a segment of the manifest: {error}"));
    let schema = reader.schema();
    let granule = |granule: usize| {
        let read = |column| reader.read(column, granule).unwrap_or_else(|error| panic!("a granule: {error}"));
        let columns = (0..schema.fields().len()).map(read).collect();
        RecordBatch::try_new(schema.clone(), columns).expect("columns of one granule")
    };
    (0..reader.granules()).flat_map(|number| of_rows(topic, &granule(number))).collect()
}

fn of_rows(topic: TopicId, rows: &RecordBatch) -> Vec<(Place, Produced)> {
    let column = |name| rows.column_by_name(name).unwrap_or_else(|| panic!("there is a column {name}"));
    let partitions = column(system::PARTITION).as_primitive::<Int32Type>();
    let offsets = column(system::OFFSET).as_primitive::<Int64Type>();
    let times = column(system::TIME).as_primitive::<TimestampNanosecondType>();
    let numbers = rows.column_by_name("number").map(|numbers| numbers.as_primitive::<Int64Type>());
    let dead = column(system::DEAD);
    let row = |row: usize| {
        let number = numbers.filter(|numbers| numbers.is_valid(row)).map(|numbers| numbers.value(row));
        assert_eq!(number.is_none(), dead.is_valid(row), "a row is dead, or has its value");
        let place = (topic, partitions.value(row) as u32, offsets.value(row) as u64);
        (place, Produced { number, time_ns: times.value(row) })
    };
    (0..rows.num_rows()).map(row).collect()
}
