//! Which rows of a granule are still in.

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{FilterBuilder, FilterPredicate};
use datafusion::common::Result;

/// A subset of the rows of a granule.
#[derive(Debug)]
pub(super) struct Selection {
    rows: usize,
    count: usize,
    /// None: every row.
    predicate: Option<(BooleanBuffer, FilterPredicate)>,
}

impl Selection {
    /// Every one of `rows` rows.
    pub(super) fn all(rows: usize) -> Self {
        Self { rows, count: rows, predicate: None }
    }

    /// Rows selected.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The values of the selected rows.
    pub(super) fn take(&self, column: &ArrayRef) -> Result<ArrayRef> {
        match &self.predicate {
            None => Ok(column.clone()),
            Some((_, predicate)) => Ok(predicate.filter(column)?),
        }
    }

    /// Numbers of the selected rows, ascending.
    pub(super) fn row_numbers(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match &self.predicate {
            None => Box::new(0..self.rows),
            Some((mask, _)) => Box::new(mask.set_indices()),
        }
    }

    /// Leaves rows outside of `mask` out; it has a bit for every row of the granule.
    pub(super) fn restrict(&mut self, mask: &BooleanBuffer) {
        assert_eq!(mask.len(), self.rows, "Q2: a mask has a bit for every row of its granule");
        let mask = match &self.predicate {
            None => mask.clone(),
            Some((known, _)) => known & mask,
        };
        self.set(mask);
    }

    /// Keeps selected rows for which `truth`, a value for each of them, is true; null is not.
    pub(super) fn retain(&mut self, truth: &BooleanArray) {
        assert_eq!(truth.len(), self.count, "Q2: a filter has a value for every row that it was given");
        let kept = match truth.nulls() {
            None => truth.values().clone(),
            Some(nulls) => truth.values() & nulls.inner(),
        };
        let mask = match &self.predicate {
            None => kept,
            Some((known, _)) => {
                let mut kept = kept.iter();
                BooleanBuffer::collect_bool(self.rows, |row| known.value(row) && kept.next() == Some(true))
            }
        };
        self.set(mask);
    }

    fn set(&mut self, mask: BooleanBuffer) {
        self.count = mask.count_set_bits();
        let all = self.count == self.rows;
        self.predicate = (!all).then(|| {
            let predicate = FilterBuilder::new(&BooleanArray::new(mask.clone(), None)).optimize().build();
            (mask, predicate)
        });
    }

    /// At most the first `count` of the selected rows.
    pub(super) fn truncate(&mut self, count: usize) {
        if count >= self.count {
            return;
        }
        let last = self.row_numbers().nth(count).unwrap_or(self.rows);
        let head = BooleanBuffer::collect_bool(self.rows, |row| row < last);
        self.restrict(&head);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn values(selection: &Selection, column: &ArrayRef) -> Vec<i64> {
        selection.take(column).unwrap().as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn filters_narrow_what_earlier_ones_left() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..6));
        let mut selection = Selection::all(6);
        selection.retain(&BooleanArray::from(vec![Some(true), Some(false), None, Some(true), Some(true), Some(true)]));
        assert_eq!(values(&selection, &column), [0, 3, 4, 5]);
        selection.retain(&BooleanArray::from(vec![false, true, true, true]));
        selection.restrict(&BooleanBuffer::from(vec![true, true, true, true, false, true]));
        assert_eq!(values(&selection, &column), [3, 5]);
        selection.truncate(1);
        assert_eq!(values(&selection, &column), [3]);
        assert_eq!(selection.row_numbers().collect::<Vec<_>>(), [3]);
    }
}
