//! A column segment as rows of a scan: opened once, then read granule by granule.

use std::sync::Arc;

use arrow::array::new_null_array;
use arrow::buffer::BooleanBuffer;
use datafusion::common::Result;
use roaring::RoaringBitmap;
use stratalog_index::Hits;
use stratalog_storage::SegmentHandle;
use stratalog_storage::col::ColReader;

use super::filter::Filters;
use super::granule::{Bounds, Decoded, Stored};
use super::log_start::Seen;
use super::{ScanTable, external, text};
use crate::catalog::{RawRecords, ShardSnapshot};
use crate::widen::widen;

/// A segment with its footer read and its text index asked.
pub(super) struct OpenSegment {
    /// Index of its shard in the snapshot.
    pub(super) shard: usize,
    pub(super) reader: Arc<ColReader>,
    /// For each column of the table, the segment's column of that name.
    pub(super) columns: Vec<Option<usize>>,
    /// For each leaf, what the index says.
    hits: Vec<Option<Hits>>,
    /// Whether it has rows below log start.
    pub(super) has_hidden: bool,
}

impl OpenSegment {
    /// Blocks on the disk.
    ///
    /// # Errors
    /// Those of the medium, and of bytes that fail their checksum.
    pub(super) fn open(
        table: &ScanTable,
        filters: &Filters,
        shard: usize,
        segment: &Arc<SegmentHandle>,
    ) -> Result<Self> {
        let reader = segment.reader().map_err(external)?;
        let stored = |name: &str| reader.schema().index_of(name).ok();
        let columns = table.schema.fields().iter().map(|field| stored(field.name())).collect();
        let hits = text::leaf_hits(table, filters, segment, &reader);
        let has_hidden = Seen::of(&table.snapshot.shards[shard]).hides_rows_of(&segment.meta);
        Ok(Self { shard, reader, columns, hits, has_hidden })
    }

    /// Whether the index says anything.
    pub(super) fn has_hits(&self) -> bool {
        self.hits.iter().any(Option::is_some)
    }

    /// Rows of a granule that a leaf has for sure, and at most; `None` if the index does not say.
    pub(super) fn leaf_counts(&self, leaf: usize, granule: usize) -> Option<(u64, u64)> {
        let hits = self.hits[leaf].as_ref()?;
        let rows = self.reader.granule_rows(granule);
        Some((hits.sure.range_cardinality(rows.clone()), hits.maybe.range_cardinality(rows)))
    }
}

/// One granule of a segment, seen through the columns of a table.
pub(super) struct SegmentRows<'a> {
    pub(super) table: &'a ScanTable,
    pub(super) shard: &'a ShardSnapshot,
    pub(super) segment: &'a OpenSegment,
    pub(super) granule: usize,
}

impl Stored for SegmentRows<'_> {
    fn rows(&self) -> usize {
        self.segment.reader.granule_rows(self.granule).len()
    }

    fn read(&self, column: usize) -> Result<Decoded> {
        let data_type = self.table.schema.field(column).data_type();
        let Some(stored) = self.segment.columns[column] else {
            return Ok(Decoded { array: new_null_array(data_type, self.rows()), bytes: 0 });
        };
        let array = self.segment.reader.read(stored, self.granule).map_err(external)?;
        let bytes = self.segment.reader.stored_bytes(stored, self.granule) as usize;
        Ok(Decoded { array: widen(array, data_type)?, bytes })
    }

    fn bounds(&self, leaf: usize) -> Bounds {
        match &self.segment.hits[leaf] {
            None => Bounds::Unknown,
            Some(hits) => Bounds::Bits { sure: self.bits(&hits.sure), maybe: self.bits(&hits.maybe) },
        }
    }

    fn seen(&self) -> Option<Seen<'_>> {
        self.segment.has_hidden.then(|| Seen::of(self.shard))
    }

    fn log(&self) -> &dyn RawRecords {
        &*self.shard.raw
    }
}

impl SegmentRows<'_> {
    /// The granule's part of a bitmap over the rows of the segment.
    fn bits(&self, rows: &RoaringBitmap) -> BooleanBuffer {
        let range = self.segment.reader.granule_rows(self.granule);
        let mut bits = arrow::array::BooleanBufferBuilder::new(range.len());
        bits.append_n(range.len(), false);
        rows.range(range.clone()).for_each(|row| bits.set_bit((row - range.start) as usize, true));
        bits.finish()
    }
}
