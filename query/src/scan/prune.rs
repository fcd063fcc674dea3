//! What need not be read: filters against what is known of segments and granules without their rows.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, TimestampNanosecondArray, UInt64Array, new_null_array,
};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{conjunction, split_conjunction};
use datafusion::physical_expr_common::physical_expr::{snapshot_generation, snapshot_physical_expr};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use parking_lot::Mutex;
use stratalog_storage::SegmentMeta;

use super::filter::Filters;
use super::monotone::is_monotone;
use super::segment::OpenSegment;
use crate::schema::{names, widened};

/// The filters of a scan as a pruning predicate, rebuilt when a dynamic filter has become narrower.
#[derive(Debug)]
pub(super) struct Pruner {
    schema: SchemaRef,
    filter: Option<Arc<dyn PhysicalExpr>>,
    built: Mutex<Option<Built>>,
}

#[derive(Clone, Debug)]
struct Built {
    generation: u64,
    /// `None`: it can exclude nothing.
    predicate: Option<Arc<PruningPredicate>>,
}

impl Pruner {
    pub(super) fn new(filters: &Filters) -> Self {
        let conjuncts: Vec<_> = filters.conjuncts.iter().map(|conjunct| conjunct.expr.clone()).collect();
        let filter = (!conjuncts.is_empty()).then(|| conjunction(conjuncts));
        Self { schema: filters.schema.clone(), filter, built: Mutex::new(None) }
    }

    /// Changes when dynamic filters do: what was kept at an older generation may be excluded now.
    pub(super) fn generation(&self) -> u64 {
        self.filter.as_ref().map_or(0, snapshot_generation)
    }

    /// Which containers may have rows that fulfil the filters.
    pub(super) fn keep(&self, statistics: &dyn PruningStatistics) -> Vec<bool> {
        let all = || vec![true; statistics.num_containers()];
        let Some(predicate) = self.predicate() else { return all() };
        predicate.prune(statistics).unwrap_or_else(|error| {
            // An expression that fails on bounds may still be fine on rows, and will report itself there.
            tracing::debug!(%error, "cannot prune");
            all()
        })
    }

    fn predicate(&self) -> Option<Arc<PruningPredicate>> {
        let filter = self.filter.as_ref()?;
        let generation = self.generation();
        let mut built = self.built.lock();
        match &*built {
            Some(known) if known.generation == generation => known.predicate.clone(),
            _ => {
                let predicate = build(filter, &self.schema);
                *built = Some(Built { generation, predicate: predicate.clone() });
                predicate
            }
        }
    }
}

/// A predicate of the conjuncts that may be asked of bounds instead of rows. A dynamic filter is taken apart as it is
/// now: what a top-k or a join put into it is as good or bad for pruning as what the user wrote.
fn build(filter: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> Option<Arc<PruningPredicate>> {
    let filter = snapshot_physical_expr(filter.clone()).ok()?;
    let sound = split_conjunction(&filter).into_iter().filter(|conjunct| is_monotone(conjunct, schema)).cloned();
    PruningPredicateBuilder::new().with_file_schema(schema.clone()).build(conjunction(sound))
}

/// Segments as the manifest describes them.
pub(super) struct SegmentStatistics<'a>(pub(super) Vec<&'a SegmentMeta>);

impl SegmentStatistics<'_> {
    fn times(&self, time: impl Fn(&SegmentMeta) -> i64) -> ArrayRef {
        let times = self.0.iter().map(|meta| time(meta));
        Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC"))
    }

    fn partitions(&self, edge: impl Fn(&SegmentMeta) -> Option<u32>) -> ArrayRef {
        let partitions = self.0.iter().map(|meta| i32::try_from(edge(meta)?).ok());
        Arc::new(partitions.collect::<Int32Array>())
    }

    fn offsets(&self, edge: impl Fn(&SegmentMeta) -> Option<u64>) -> ArrayRef {
        let offsets = self.0.iter().map(|meta| i64::try_from(edge(meta)?).ok());
        Arc::new(offsets.collect::<Int64Array>())
    }
}

impl PruningStatistics for SegmentStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name.as_str() {
            names::TIME => Some(self.times(|meta| meta.min_time_ns)),
            names::PARTITION => Some(self.partitions(|meta| meta.ranges.iter().map(|range| range.partition.0).min())),
            names::OFFSET => Some(self.offsets(|meta| meta.ranges.iter().map(|range| range.first.0).min())),
            _ => None,
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name.as_str() {
            names::TIME => Some(self.times(|meta| meta.max_time_ns)),
            names::INGESTED_AT => Some(self.times(|meta| meta.max_ingested_ns)),
            names::PARTITION => Some(self.partitions(|meta| meta.ranges.iter().map(|range| range.partition.0).max())),
            names::OFFSET => Some(self.offsets(|meta| meta.ranges.iter().map(|range| range.next.0 - 1).max())),
            _ => None,
        }
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let count = |meta: &&SegmentMeta| match column.name.as_str() {
            names::TIME | names::PARTITION | names::OFFSET => Some(0),
            names::DEAD => Some(meta.rows - meta.dead_rows),
            _ => None,
        };
        Some(Arc::new(self.0.iter().map(count).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.0.iter().map(|meta| meta.rows))))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// The granules of an open segment: zone maps, and for leaves what the text index counts in each.
pub(super) struct GranuleStatistics<'a> {
    pub(super) filters: &'a Filters,
    pub(super) segment: &'a OpenSegment,
    /// Whether to ask the text index.
    pub(super) with_text: bool,
}

/// A column of [`Filters::schema`], as a segment has it.
enum Known {
    Leaf(usize),
    /// The segment's column of this number.
    Stored(usize),
    /// Null in every row.
    Missing,
    /// Not in the segment at all: `_raw`.
    Elsewhere,
}

impl GranuleStatistics<'_> {
    fn known(&self, column: &Column) -> Option<(Known, &DataType)> {
        let (at, field) = self.filters.schema.column_with_name(&column.name)?;
        let known = match self.filters.leaf_of(at) {
            Some(leaf) => Known::Leaf(leaf),
            None if column.name == names::RAW => Known::Elsewhere,
            None => self.segment.columns[at].map_or(Known::Missing, Known::Stored),
        };
        Some((known, field.data_type()))
    }

    /// Zone bounds in the table's type. Text does not order as numbers do: a column that became text has no bounds, nor has
    /// one that the table reads by a narrower type than it is stored in.
    fn bounds(
        &self,
        column: &Column,
        bounds: impl Fn(usize) -> ArrayRef,
        leaf: impl Fn(usize, usize) -> bool,
    ) -> Option<ArrayRef> {
        let granules = self.num_containers();
        let (known, data_type) = self.known(column)?;
        match known {
            Known::Leaf(number) => {
                Some(Arc::new(BooleanArray::from_iter((0..granules).map(|granule| Some(leaf(number, granule))))))
            }
            Known::Stored(stored) => {
                let bounds = bounds(stored);
                match (bounds.data_type(), data_type) {
                    (from, to) if from == to => Some(bounds),
                    (DataType::Int64, to @ DataType::Float64) => arrow::compute::cast(&bounds, to).ok(),
                    _ => None,
                }
            }
            Known::Missing => Some(new_null_array(data_type, granules)),
            Known::Elsewhere => None,
        }
    }

    /// Rows of a granule that a leaf has for sure, and at most, if that is asked and known.
    fn leaf_counts(&self, leaf: usize, granule: usize) -> Option<(u64, u64)> {
        self.with_text.then(|| self.segment.leaf_counts(leaf, granule)).flatten()
    }

    fn rows(&self, granule: usize) -> u64 {
        self.segment.reader.granule_rows(granule).len() as u64
    }
}

impl PruningStatistics for GranuleStatistics<'_> {
    /// A leaf is never false in a granule where it is sure of every row.
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        let every = |leaf, granule| self.leaf_counts(leaf, granule).is_some_and(|(sure, _)| sure == self.rows(granule));
        self.bounds(column, |stored| self.segment.reader.zone_min(stored), every)
    }

    /// A leaf is never true in a granule without candidates.
    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        let some = |leaf, granule| self.leaf_counts(leaf, granule).is_none_or(|(_, maybe)| maybe > 0);
        self.bounds(column, |stored| self.segment.reader.zone_max(stored), some)
    }

    fn num_containers(&self) -> usize {
        self.segment.reader.granules()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (known, data_type) = self.known(column)?;
        match known {
            Known::Leaf(_) => Some(Arc::new(UInt64Array::from(vec![0; self.num_containers()]))),
            Known::Stored(stored) => {
                let reader = &self.segment.reader;
                // What has no value in a narrower type is null there.
                let keeps_values = widened(reader.schema().field(stored).data_type(), data_type) == *data_type;
                keeps_values.then(|| reader.null_counts(stored))
            }
            Known::Missing => self.row_counts(),
            Known::Elsewhere => None,
        }
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = (0..self.num_containers()).map(|granule| self.rows(granule));
        Some(Arc::new(UInt64Array::from_iter_values(rows)))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
