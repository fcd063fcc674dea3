//! What a rewrite changes of the rows, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use roaring::RoaringTreemap;
use stratalog_proto::{Offset, PartitionId};
use stratalog_storage::SegmentMeta;

/// Offsets by partition.
pub(in crate::rows) type Offsets = BTreeMap<PartitionId, RoaringTreemap>;

/// What a rewrite changes of the rows of its inputs. Whatever it says, rows below log start are left out.
#[derive(Clone, Debug, Default)]
pub(in crate::rows) struct Edit {
    /// Rows to leave out because they are erased; offsets of which no input has a row are passed over.
    pub(in crate::rows) erase: Offsets,
    /// Rows for the place of those with the same partition and offset: each stands for exactly one row of the inputs. They
    /// have all system columns.
    pub(in crate::rows) replace: Vec<RecordBatch>,
}

/// What a rewrite did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::rows) struct Rewritten {
    /// What took the place of the inputs; nothing if all rows were left out.
    pub(in crate::rows) segments: Vec<Arc<SegmentMeta>>,
    /// Rows that were left out below log start.
    pub(in crate::rows) trimmed: u64,
    /// Rows that were left out because they are erased.
    pub(in crate::rows) erased: u64,
    /// Rows that others took the place of.
    pub(in crate::rows) replaced: u64,
}

/// What merges of a topic did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Segments that were replaced.
    pub replaced: u64,
    /// Segments that took their place.
    pub made: u64,
    /// Rows in those.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Segments that go with no other, or cannot be read: they stay as they are.
    pub left_apart: u64,
}

impl Merged {
    pub(super) fn of(inputs: usize, rewritten: &Rewritten) -> Self {
        let sum = |of: fn(&SegmentMeta) -> u64| rewritten.segments.iter().map(|meta| of(meta)).sum();
        let made = rewritten.segments.len() as u64;
        let (rows, bytes) = (sum(|meta| meta.rows), sum(|meta| meta.bytes));
        Self { replaced: inputs as u64, made, rows, bytes, left_apart: 0 }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.replaced += other.replaced;
        self.made += other.made;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.left_apart += other.left_apart;
    }
}

/// What becomes of a row of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Trimmed,
    Erased,
    Replaced,
}

/// Decides on the rows of the inputs.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) log_starts: BTreeMap<PartitionId, Offset>,
    pub(super) erase: Offsets,
    pub(super) replace: Offsets,
}

impl Filter {
    pub(super) fn fate(&self, partition: PartitionId, offset: Offset) -> Fate {
        let is_in = |offsets: &Offsets| offsets.get(&partition).is_some_and(|of| of.contains(offset.0));
        if self.log_starts.get(&partition).is_some_and(|start| offset < *start) {
            Fate::Trimmed
        } else if is_in(&self.erase) {
            Fate::Erased
        } else if is_in(&self.replace) {
            Fate::Replaced
        } else {
            Fate::Stays
        }
    }

    /// Rows that stand for others.
    pub(super) fn replacements(&self) -> u64 {
        self.replace.values().map(RoaringTreemap::len).sum()
    }

    pub(super) fn stands_for_another(&self, partition: PartitionId, offset: Offset) -> bool {
        self.replace.get(&partition).is_some_and(|of| of.contains(offset.0))
    }
}
