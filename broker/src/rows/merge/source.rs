//! The rows of one output, read from the inputs while the segment is written.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use stratalog_proto::{Error, SegmentId};
use stratalog_query::widen;
use stratalog_storage::col::{ColError, ColumnSource, GRANULE_ROWS};

use super::input::Input;
use super::order::Place;
use super::pace::Pace;

/// A granule of an input.
type At = (u32, u32);

/// The rows of one output. Of each column that is read it holds a granule of each input at most, and the one that it gives.
pub(super) struct MergedRows<'a> {
    id: SegmentId,
    inputs: &'a [Input],
    schema: SchemaRef,
    /// Where each column of `schema` is in each input.
    columns: Vec<Vec<Option<usize>>>,
    places: Vec<Place>,
    pace: &'a Pace,
    /// By column.
    held: HashMap<usize, HashMap<At, ArrayRef>>,
}

impl<'a> MergedRows<'a> {
    pub(super) fn new(
        id: SegmentId,
        inputs: &'a [Input],
        schema: SchemaRef,
        places: Vec<Place>,
        pace: &'a Pace,
    ) -> Self {
        let schemas: Vec<SchemaRef> = inputs.iter().map(Input::schema).collect();
        let of_inputs = |name: &String| schemas.iter().map(|schema| schema.index_of(name).ok()).collect();
        let columns = schema.fields().iter().map(|field| of_inputs(field.name())).collect();
        Self { id, inputs, schema, columns, places, pace, held: HashMap::new() }
    }

    pub(super) fn granules(&self) -> usize {
        self.places.len().div_ceil(GRANULE_ROWS as usize)
    }

    /// Column `col` of a granule; what is held of other columns stays.
    ///
    /// # Errors
    /// What reading reports, and why values cannot be brought together.
    pub(super) fn read(&mut self, col: usize, granule: usize) -> Result<ArrayRef, Error> {
        let first = granule * GRANULE_ROWS as usize;
        let end = self.places.len().min(first + GRANULE_ROWS as usize);
        let mut held = self.held.remove(&col).filter(|_| granule > 0).unwrap_or_default();
        let mut numbers: Vec<Option<At>> = vec![None; self.inputs.len()];
        let (mut sources, mut rows) = (Vec::new(), Vec::with_capacity(end - first));
        let mut source_of = vec![0; self.inputs.len()];
        for place in &self.places[first..end] {
            let input = place.input as usize;
            let at = (place.input, place.row / GRANULE_ROWS);
            if numbers[input] != Some(at) {
                let array = match held.get(&at) {
                    Some(array) => array.clone(),
                    None => self.input_column(col, at)?,
                };
                held.insert(at, array.clone());
                (numbers[input], source_of[input]) = (Some(at), sources.len());
                sources.push(array);
            }
            rows.push((source_of[input], (place.row % GRANULE_ROWS) as usize));
        }
        let column = gather(&sources, &rows).map_err(|error| self.refused(error.to_string()))?;
        // Rows of an input ascend: of each only the last granule is needed again.
        held.retain(|at, _| numbers[at.0 as usize] == Some(*at));
        self.held.insert(col, held);
        Ok(column)
    }

    fn input_column(&self, col: usize, (input, granule): At) -> Result<ArrayRef, Error> {
        let (from, granule) = (&self.inputs[input as usize], granule as usize);
        let target = self.schema.field(col).data_type();
        let array = match self.columns[col][input as usize] {
            Some(at) => from.read(at, granule, self.pace)?,
            None => new_null_array(target, from.granule_rows(granule).len()),
        };
        widen(array, target).map_err(|error| self.refused(error.to_string()).into())
    }

    fn refused(&self, what: String) -> ColError {
        ColError::Refused { id: self.id, what }
    }
}

impl ColumnSource for &mut MergedRows<'_> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn rows(&self) -> usize {
        self.places.len()
    }

    fn granule(&mut self, col: usize, granule: usize) -> Result<ArrayRef, ColError> {
        self.held.retain(|known, _| *known == col);
        self.read(col, granule).map_err(|error| self.refused(error.to_string()))
    }
}

/// The rows at these places of the sources: (source, row) each.
fn gather(sources: &[ArrayRef], rows: &[(usize, usize)]) -> Result<ArrayRef, arrow::error::ArrowError> {
    if let [(source, first), .., (last_source, last)] = rows
        && sources.len() == 1
        && source == last_source
        && last - first + 1 == rows.len()
    {
        return Ok(sources[0].slice(*first, rows.len()));
    }
    let arrays: Vec<&dyn Array> = sources.iter().map(|array| &**array).collect();
    interleave(&arrays, rows)
}
