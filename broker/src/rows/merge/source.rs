//! The rows of one output, read from the inputs while the segment is written.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::{concat, interleave};
use arrow::datatypes::{Schema, SchemaRef};
use stratalog_proto::{Code, Error};
use stratalog_query::widen;
use stratalog_storage::col::{ColError, ColumnSource, GRANULE_ROWS, system};

use super::input::Input;
use super::order::Place;
use super::room::{Room, bytes_at};
use crate::pace::Pace;

/// A granule of an input.
type At = (u32, u32);

/// Granules of one column.
type Held = HashMap<At, ArrayRef>;

/// The rows of one output. It holds values of one column at a time: granules of the inputs, of which a granule of the output
/// needs two of each at most, and what it gives.
pub(super) struct MergedRows<'a> {
    inputs: &'a [Input],
    schema: SchemaRef,
    /// Where each column of `schema` is in each input.
    columns: Vec<Vec<Option<usize>>>,
    places: Vec<Place>,
    pace: &'a Pace,
    room: &'a Room,
    /// Whether the inputs may as well stay apart if there is too little room.
    is_bounded: bool,
    /// Of which column something is held.
    held_of: usize,
    held: Held,
}

impl<'a> MergedRows<'a> {
    pub(super) fn new(
        inputs: &'a [Input],
        schema: SchemaRef,
        places: Vec<Place>,
        pace: &'a Pace,
        room: &'a Room,
        is_bounded: bool,
    ) -> Self {
        let schemas: Vec<SchemaRef> = inputs.iter().map(Input::schema).collect();
        // A schema looks a name up by going through all of them, and there may be thousands.
        let named = |schema: &'_ SchemaRef| -> HashMap<String, usize> {
            schema.fields().iter().enumerate().map(|(at, field)| (field.name().clone(), at)).collect()
        };
        let named: Vec<HashMap<String, usize>> = schemas.iter().map(named).collect();
        let of_inputs = |name: &String| named.iter().map(|columns| columns.get(name).copied()).collect();
        let columns = schema.fields().iter().map(|field| of_inputs(field.name())).collect();
        Self { inputs, schema, columns, places, pace, room, is_bounded, held_of: 0, held: Held::new() }
    }

    /// Leaves out the user columns that have no value in any of the rows, so that the name of a field goes with the last
    /// record that had it.
    ///
    /// # Errors
    /// As [`MergedRows::read`].
    pub(super) fn drop_empty_columns(&mut self) -> Result<(), Error> {
        let mut rows = vec![0; self.inputs.len()];
        self.places.iter().for_each(|place| rows[place.input as usize] += 1);
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (at, field) in self.schema.clone().fields().iter().enumerate() {
            if system::is_system(field.name()) || self.has_value(at, &rows)? {
                fields.push(field.clone());
                columns.push(std::mem::take(&mut self.columns[at]));
            }
        }
        (self.schema, self.columns) = (Arc::new(Schema::new(fields)), columns);
        self.held.clear();
        Ok(())
    }

    /// Whether a column has a value in a row, `rows` of each input being left. It is read only if what the inputs say of
    /// their nulls does not answer it.
    fn has_value(&mut self, col: usize, rows: &[usize]) -> Result<bool, Error> {
        let sources = self.inputs.iter().zip(&self.columns[col]).zip(rows).filter(|(_, left)| **left > 0);
        let valued = sources.filter_map(|((input, at), left)| {
            let values = input.rows() - input.null_count((*at)?);
            Some((values, input.rows() - left))
        });
        let valued: Vec<(usize, usize)> = valued.filter(|(values, _)| *values > 0).collect();
        if valued.is_empty() || valued.iter().any(|(values, gone)| values > gone) {
            return Ok(!valued.is_empty());
        }
        for granule in 0..self.granules() {
            let column = self.read(col, granule)?;
            if column.null_count() < column.len() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn granules(&self) -> usize {
        self.places.len().div_ceil(GRANULE_ROWS as usize)
    }

    /// Column `col` of a granule.
    ///
    /// # Errors
    /// What reading reports; [`Code::InvalidRequest`] for values that cannot be brought together, or take too much memory.
    pub(super) fn read(&mut self, col: usize, granule: usize) -> Result<ArrayRef, Error> {
        let first = granule * GRANULE_ROWS as usize;
        let end = self.places.len().min(first + GRANULE_ROWS as usize);
        let mut held = std::mem::take(&mut self.held);
        if self.held_of != col || granule == 0 {
            held.clear();
        }
        let mut given = Gathering::new(self.inputs.len());
        for place in &self.places[first..end] {
            let at = (place.input, place.row / GRANULE_ROWS);
            let source = match given.source(at) {
                Some(source) => source,
                None => {
                    let array = self.granule_of(col, at, &mut held, &mut given)?;
                    given.add(at, array)
                }
            };
            given.rows.push((source, (place.row % GRANULE_ROWS) as usize));
        }
        self.room.hold(bytes_of(held.values()) + given.bytes(), self.is_bounded)?;
        // Rows of an input ascend: of each only the last granule is needed again.
        held.retain(|at, _| given.source(*at).is_some());
        (self.held_of, self.held) = (col, held);
        given.finish()
    }

    /// A granule of an input, which is held from now on.
    fn granule_of(&self, col: usize, at: At, held: &mut Held, given: &mut Gathering) -> Result<ArrayRef, Error> {
        if let Some(known) = held.get(&at) {
            return Ok(known.clone());
        }
        if self.room.is_full(bytes_of(held.values())) {
            // Where few rows are left of many granules, those that were passed make room.
            held.retain(|at, _| given.source(*at).is_some());
            given.flush()?;
        }
        let array = self.input_column(col, at)?;
        held.insert(at, array.clone());
        self.room.hold(bytes_of(held.values()) + given.bytes(), self.is_bounded)?;
        Ok(array)
    }

    fn input_column(&self, col: usize, (input, granule): At) -> Result<ArrayRef, Error> {
        let (from, granule) = (&self.inputs[input as usize], granule as usize);
        let target = self.schema.field(col).data_type();
        let array = match self.columns[col][input as usize] {
            Some(at) => from.read(at, granule, self.pace)?,
            None => new_null_array(target, from.granule_rows(granule).len()),
        };
        widen(array, target).map_err(unmergeable)
    }
}

fn unmergeable(error: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidRequest, format!("their values cannot be brought together: {error}"))
}

impl ColumnSource for &mut MergedRows<'_> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn rows(&self) -> usize {
        self.places.len()
    }

    fn granule(&mut self, col: usize, granule: usize) -> Result<ArrayRef, ColError> {
        self.read(col, granule).map_err(ColError::Source)
    }
}

/// A granule of the output while it is put together.
struct Gathering {
    /// The granule that the rows of each input come from now, and its place among the sources.
    current: Vec<Option<(At, usize)>>,
    sources: Vec<ArrayRef>,
    /// Source and row in it of each row.
    rows: Vec<(usize, usize)>,
    /// The rows before those.
    done: Vec<ArrayRef>,
}

impl Gathering {
    fn new(inputs: usize) -> Self {
        Self { current: vec![None; inputs], sources: Vec::new(), rows: Vec::new(), done: Vec::new() }
    }

    fn source(&self, at: At) -> Option<usize> {
        self.current[at.0 as usize].filter(|(current, _)| *current == at).map(|(_, source)| source)
    }

    fn add(&mut self, at: At, source: ArrayRef) -> usize {
        let number = self.sources.len();
        self.current[at.0 as usize] = Some((at, number));
        self.sources.push(source);
        number
    }

    /// Bytes of what will be given of the rows so far.
    fn bytes(&self) -> usize {
        bytes_of(&self.done) + bytes_at(&self.sources, &self.rows)
    }

    /// Lets go of the sources.
    fn flush(&mut self) -> Result<(), Error> {
        if !self.rows.is_empty() {
            self.done.push(gather(&self.sources, &self.rows).map_err(unmergeable)?);
        }
        self.sources.clear();
        self.rows.clear();
        self.current.fill(None);
        Ok(())
    }

    fn finish(mut self) -> Result<ArrayRef, Error> {
        self.flush()?;
        if let [only] = &self.done[..] {
            return Ok(only.clone());
        }
        let parts: Vec<&dyn Array> = self.done.iter().map(|part| &**part).collect();
        concat(&parts).map_err(unmergeable)
    }
}

fn bytes_of<'a>(arrays: impl IntoIterator<Item = &'a ArrayRef>) -> usize {
    arrays.into_iter().map(|array| array.get_array_memory_size()).sum()
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
