//! Functions that make much of little, such as `repeat`. DataFusion takes the memory for that without asking the budget of the query,
//! and nobody can end one of them before it is done. So what a call would make is counted before it is made (X1).

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};

use crate::guarded::{Guard, has_rows};

/// What one call may make for all rows that it is given together, in bytes.
const MOST_BYTES: u64 = 64 << 20;
/// Of an element of an array, at least.
const ELEMENT_BYTES: u64 = 8;
const NS_PER_US: u128 = 1_000;
const DAY_NS: i64 = 86_400_000_000_000;

/// The functions, and by what their answers grow.
pub(crate) const GROWING: [(&str, Growth); 8] = [
    ("repeat", Growth::Repeats),
    ("array_repeat", Growth::Repeats),
    ("lpad", Growth::Reaches(1)),
    ("rpad", Growth::Reaches(1)),
    ("array_resize", Growth::Reaches(ELEMENT_BYTES)),
    ("range", Growth::Counts),
    ("generate_series", Growth::Counts),
    ("replace", Growth::Replaces),
];

/// What the size of an answer follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Growth {
    /// The first argument as often as the second says.
    Repeats,
    /// As many elements of so many bytes as the second argument says.
    Reaches(u64),
    /// An element for each step from the first argument to the second.
    Counts,
    /// The third argument wherever the second is in the first.
    Replaces,
}

/// Refuses to make too much.
impl Guard for Growth {
    fn invoke(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = if has_rows(&args) { args.number_rows } else { 1 };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let bytes = self.bytes(&arrays)?;
        if bytes > MOST_BYTES {
            let name = function.name();
            let what = format!("{name} would make {bytes} bytes at once, and may make {MOST_BYTES}");
            return Err(DataFusionError::ResourcesExhausted(what));
        }
        function.invoke_with_args(args)
    }
}

impl Growth {
    /// What an answer takes, about.
    fn bytes(self, args: &[ArrayRef]) -> Result<u64> {
        Ok(match (self, args) {
            (Self::Repeats, [what, times, ..]) => {
                let (sizes, times) = (sizes(what)?, numbers(times)?);
                let row = |(row, size): (usize, u64)| size.saturating_mul(number(&times, row));
                sizes.into_iter().enumerate().map(row).fold(0, u64::saturating_add)
            }
            (Self::Reaches(bytes), [_, length, ..]) => {
                let length = numbers(length)?;
                let row = |row| bytes.saturating_mul(number(&length, row));
                (0..length.len()).map(row).fold(0, u64::saturating_add)
            }
            (Self::Counts, args) => counted(args)?.saturating_mul(ELEMENT_BYTES),
            (Self::Replaces, [text, from, to]) => replaced(text, from, to)?,
            // The function itself says what it lacks.
            _ => 0,
        })
    }
}

/// Bytes of each row.
fn sizes(array: &ArrayRef) -> Result<Vec<u64>> {
    if array.data_type().is_string() {
        let texts = cast(array, &DataType::LargeUtf8)?;
        return Ok(texts.as_string::<i64>().iter().map(|text| text.map_or(0, str::len) as u64).collect());
    }
    let each = array.get_array_memory_size() / array.len().max(1);
    Ok(vec![(each as u64).max(ELEMENT_BYTES); array.len()])
}

fn numbers(array: &ArrayRef) -> Result<Int64Array> {
    Ok(cast(array, &DataType::Int64)?.as_primitive().clone())
}

/// 0 for a null, and for what is negative.
fn number(numbers: &Int64Array, row: usize) -> u64 {
    if numbers.is_null(row) { 0 } else { u64::try_from(numbers.value(row)).unwrap_or(0) }
}

/// How many elements series have, of all rows together.
fn counted(args: &[ArrayRef]) -> Result<u64> {
    let (start, stop, step) = match args {
        [stop] => (None, stop, None),
        [start, stop] => (Some(start), stop, None),
        [start, stop, step, ..] => (Some(start), stop, Some(step)),
        [] => return Ok(0),
    };
    let is_time = matches!(stop.data_type(), DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    let scale = if is_time { NS_PER_US } else { 1 };
    let (start, stop) = (start.map(points).transpose()?, points(stop)?);
    let step = step.map(steps).transpose()?;
    let value = |of: &Int64Array, row: usize, other: i64| if of.is_null(row) { other } else { of.value(row) };
    let row = |row: usize| {
        let stop = value(&stop, row, 0);
        let start = start.as_ref().map_or(0, |start| value(start, row, stop));
        let step = step.as_ref().map_or(1, |step| value(step, row, 1)).unsigned_abs().max(1);
        let elements = u128::from(stop.abs_diff(start)) * scale / u128::from(step) + 1;
        u64::try_from(elements).unwrap_or(u64::MAX)
    };
    Ok((0..stop.len()).map(row).fold(0, u64::saturating_add))
}

/// Where series begin and end: numbers, or microseconds, of which steps have a thousand parts.
fn points(array: &ArrayRef) -> Result<Int64Array> {
    match array.data_type() {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            let exact = CastOptions { safe: false, ..CastOptions::default() };
            let times = cast_with_options(array, &DataType::Timestamp(TimeUnit::Microsecond, None), &exact)?;
            Ok(times.as_primitive::<TimestampMicrosecondType>().reinterpret_cast())
        }
        _ => numbers(array),
    }
}

/// How long steps are: numbers, or nanoseconds, and then never longer than they are.
fn steps(array: &ArrayRef) -> Result<Int64Array> {
    if !matches!(array.data_type(), DataType::Interval(IntervalUnit::MonthDayNano)) {
        return numbers(array);
    }
    let steps = array.as_primitive::<IntervalMonthDayNanoType>();
    let length = |step: arrow::datatypes::IntervalMonthDayNano| {
        let days = i64::from(step.months).saturating_mul(28).saturating_add(i64::from(step.days));
        days.saturating_mul(DAY_NS).saturating_add(step.nanoseconds)
    };
    Ok(steps.iter().map(|step| step.map(length)).collect())
}

fn replaced(text: &ArrayRef, from: &ArrayRef, to: &ArrayRef) -> Result<u64> {
    let [text, from, to] = [text, from, to].map(|array| cast(array, &DataType::LargeUtf8));
    let (text, from, to) = (text?, from?, to?);
    let rows = text.as_string::<i64>().iter().zip(from.as_string::<i64>()).zip(to.as_string::<i64>());
    let row = |((text, from), to): ((Option<&str>, Option<&str>), Option<&str>)| {
        let (Some(text), Some(from), Some(to)) = (text, from, to) else { return 0 };
        let most = (text.len() as u64 + 1).saturating_mul(to.len() as u64);
        // Few answers grow so much that it has to be known how often.
        if most <= MOST_BYTES / 8_192 {
            return text.len() as u64 + most;
        }
        let times = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() };
        (text.len() as u64).saturating_add((times as u64).saturating_mul(to.len() as u64))
    };
    Ok(rows.map(row).fold(0, u64::saturating_add))
}
