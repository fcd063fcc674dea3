//! One user column of a chunk under construction. Each cell has a type of its own; the column's type is chosen when
//! the chunk is finished, so that a conflict in the last row costs the rows before it nothing and no value is lost.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampNanosecondArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use stratalog_query::{LARGEST_PLAIN, widen as widen_array};

use super::time::rfc3339;

/// The type of one cell. The numbers are bits of a set.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Bool = 1,
    Int = 2,
    Float = 4,
    Text = 8,
    /// The text of a number that neither an i64 nor a float may hold.
    Digits = 16,
    /// Nanoseconds since the epoch.
    Time = 32,
}

impl Kind {
    fn is_text(self) -> bool {
        matches!(self, Kind::Text | Kind::Digits)
    }
}

/// `bits` is the value; of a text, its start in the column's text (high half) and its length (low half).
#[derive(Clone, Copy)]
struct Cell {
    bits: u64,
    row: u32,
    kind: Kind,
}

/// Bytes that a cell takes, its text apart.
pub(super) const CELL_BYTES: usize = size_of::<Cell>();

/// The value of one cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    /// The text of a number that an i64 cannot hold, nor a float unless it happens to be exact.
    Digits(&'a str),
    /// Nanoseconds since the epoch: only of a column that is declared as a timestamp.
    Time(i64),
}

impl Value<'_> {
    /// Bytes of its text, if it has one.
    pub(super) fn text_bytes(&self) -> usize {
        match self {
            Value::Text(text) | Value::Digits(text) => text.len(),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Time(_) => 0,
        }
    }
}

/// The cells of a column, ascending by row; a row without a cell is null.
#[derive(Default)]
pub(super) struct Column {
    cells: Vec<Cell>,
    text: String,
}

impl Column {
    /// Sets the value of `row`, which is the last row or a new one. The last value of a row wins.
    pub(super) fn put(&mut self, row: u32, value: Value<'_>) {
        match value {
            Value::Bool(value) => self.put_bits(row, Kind::Bool, u64::from(value)),
            Value::Int(value) => self.put_bits(row, Kind::Int, value as u64),
            Value::Float(value) => self.put_bits(row, Kind::Float, value.to_bits()),
            Value::Time(value) => self.put_bits(row, Kind::Time, value as u64),
            Value::Text(value) => self.put_string(row, Kind::Text, value),
            Value::Digits(value) => self.put_string(row, Kind::Digits, value),
        }
    }

    fn put_string(&mut self, row: u32, kind: Kind, value: &str) {
        self.remove(row);
        let start = u32::try_from(self.text.len()).expect("a chunk closes long before 4 GiB");
        let len = u32::try_from(value.len()).expect("a record is smaller than 4 GiB");
        self.text.push_str(value);
        self.cells.push(Cell { bits: u64::from(start) << 32 | u64::from(len), row, kind });
    }

    fn put_bits(&mut self, row: u32, kind: Kind, bits: u64) {
        self.remove(row);
        self.cells.push(Cell { bits, row, kind });
    }

    /// Removes the cell of `row`, which is the last row.
    pub(super) fn remove(&mut self, row: u32) {
        while let Some(cell) = self.cells.pop_if(|cell| cell.row >= row) {
            if cell.kind.is_text() {
                self.text.truncate((cell.bits >> 32) as usize);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The value of `row`, which is the last one.
    pub(super) fn last(&self, row: u32) -> Option<Value<'_>> {
        self.cells.last().filter(|cell| cell.row == row).map(|cell| self.value(cell))
    }

    fn value(&self, cell: &Cell) -> Value<'_> {
        match cell.kind {
            Kind::Bool => Value::Bool(cell.bits != 0),
            Kind::Int => Value::Int(cell.bits as i64),
            Kind::Float => Value::Float(f64::from_bits(cell.bits)),
            Kind::Time => Value::Time(cell.bits as i64),
            Kind::Text => Value::Text(self.slice(cell)),
            Kind::Digits => Value::Digits(self.slice(cell)),
        }
    }

    fn slice(&self, cell: &Cell) -> &str {
        let start = (cell.bits >> 32) as usize;
        &self.text[start..start + cell.bits as u32 as usize]
    }

    /// The column as an array of `rows`, in the narrowest type that keeps every value: Boolean, Int64, Timestamp, Float64
    /// where each integer among the numbers is exact, else Utf8 with the text of each value.
    pub(super) fn finish(self, rows: usize) -> ArrayRef {
        const BOOL: u8 = Kind::Bool as u8;
        const INT: u8 = Kind::Int as u8;
        const TEXT: u8 = Kind::Text as u8;
        const TIME: u8 = Kind::Time as u8;
        let kinds = self.cells.iter().fold(0, |kinds, cell| kinds | cell.kind as u8);
        let numbers = kinds & (BOOL | TEXT | TIME) == 0;
        match kinds {
            BOOL => self.booleans(rows),
            INT => self.integers(rows),
            TIME => self.times(rows),
            0 | TEXT => self.strings(rows),
            _ if numbers && self.cells.iter().all(|cell| self.exact_float(cell).is_some()) => self.floats(rows),
            _ => self.texts(rows),
        }
    }

    /// The column as an array of text, whatever its values are.
    pub(super) fn finish_text(self, rows: usize) -> ArrayRef {
        let only_text = self.cells.iter().all(|cell| cell.kind == Kind::Text);
        if only_text { self.strings(rows) } else { self.texts(rows) }
    }

    fn nulls(&self, rows: usize) -> Option<NullBuffer> {
        if self.cells.len() == rows {
            return None;
        }
        let mut valid = vec![false; rows];
        self.cells.iter().for_each(|cell| valid[cell.row as usize] = true);
        Some(NullBuffer::from(valid))
    }

    fn scatter<T: Copy + Default>(&self, rows: usize, value: impl Fn(&Cell) -> T) -> Vec<T> {
        if self.cells.len() == rows {
            return self.cells.iter().map(value).collect();
        }
        let mut values = vec![T::default(); rows];
        self.cells.iter().for_each(|cell| values[cell.row as usize] = value(cell));
        values
    }

    fn booleans(&self, rows: usize) -> ArrayRef {
        let values = BooleanBuffer::from(self.scatter(rows, |cell| cell.bits != 0));
        Arc::new(BooleanArray::new(values, self.nulls(rows)))
    }

    fn integers(&self, rows: usize) -> ArrayRef {
        let values = self.scatter(rows, |cell| cell.bits as i64);
        Arc::new(Int64Array::new(ScalarBuffer::from(values), self.nulls(rows)))
    }

    fn times(&self, rows: usize) -> ArrayRef {
        let values = self.scatter(rows, |cell| cell.bits as i64);
        let times = TimestampNanosecondArray::new(ScalarBuffer::from(values), self.nulls(rows));
        Arc::new(times.with_timezone("UTC"))
    }

    fn floats(&self, rows: usize) -> ArrayRef {
        let values = self.scatter(rows, |cell| self.exact_float(cell).unwrap_or_default());
        Arc::new(Float64Array::new(ScalarBuffer::from(values), self.nulls(rows)))
    }

    /// The float that is exactly this number.
    fn exact_float(&self, cell: &Cell) -> Option<f64> {
        match self.value(cell) {
            Value::Float(value) => Some(value),
            Value::Int(value) => exact_float(value),
            // Larger ones would read otherwise once the column is text.
            Value::Digits(digits) => {
                let same = |float: &f64| float.abs() < LARGEST_PLAIN && format!("{float:.0}") == digits;
                digits.parse().ok().filter(same)
            }
            Value::Bool(_) | Value::Text(_) | Value::Time(_) => None,
        }
    }

    /// A column of nothing but text: its bytes are those of the array.
    fn strings(self, rows: usize) -> ArrayRef {
        let nulls = self.nulls(rows);
        let offsets = self.offsets(rows, |cell| cell.bits as u32 as usize);
        let array = StringArray::try_new(offsets, Buffer::from_vec(self.text.into_bytes()), nulls);
        Arc::new(array.expect("the text is valid UTF-8, cut at the ends of values"))
    }

    /// Values of several types, each as its text.
    fn texts(self, rows: usize) -> ArrayRef {
        let floats = self.float_texts();
        let mut next_float = 0;
        let mut text = String::with_capacity(self.text.len() + 8 * self.cells.len());
        let mut lens = Vec::with_capacity(self.cells.len());
        for cell in &self.cells {
            let start = text.len();
            match self.value(cell) {
                Value::Bool(value) => text.push_str(if value { "true" } else { "false" }),
                Value::Int(value) => text.push_str(&value.to_string()),
                Value::Float(_) => {
                    text.push_str(floats.value(next_float));
                    next_float += 1;
                }
                Value::Text(value) | Value::Digits(value) => text.push_str(value),
                Value::Time(value) => text.push_str(&rfc3339(value)),
            }
            lens.push(text.len() - start);
        }
        let mut lens = lens.into_iter();
        let offsets = self.offsets(rows, |_| lens.next().unwrap_or_default());
        let array = StringArray::try_new(offsets, Buffer::from_vec(text.into_bytes()), self.nulls(rows));
        Arc::new(array.expect("the text is valid UTF-8, cut at the ends of values"))
    }

    /// Floats as a later widening of a Float64 column would write them, so that sealing a chunk alone or with others gives
    /// the same text.
    fn float_texts(&self) -> StringArray {
        let floats = self.cells.iter().filter(|cell| cell.kind == Kind::Float).map(|cell| f64::from_bits(cell.bits));
        let floats = Float64Array::from_iter_values(floats);
        let texts = widen_array(Arc::new(floats), &DataType::Utf8).expect("a float has a text");
        StringArray::from(texts.to_data())
    }

    fn offsets(&self, rows: usize, mut len: impl FnMut(&Cell) -> usize) -> OffsetBuffer<i32> {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        let mut end = 0;
        for cell in &self.cells {
            offsets.resize(cell.row as usize + 1, end);
            end = i32::try_from(end as usize + len(cell)).expect("a chunk closes long before 2 GiB");
            offsets.push(end);
        }
        offsets.resize(rows + 1, end);
        OffsetBuffer::new(ScalarBuffer::from(offsets))
    }
}

/// `value` as a float, if that is exactly the same number.
pub(in crate::rows) fn exact_float(value: i64) -> Option<f64> {
    let float = value as f64;
    (float as i128 == i128::from(value)).then_some(float)
}
