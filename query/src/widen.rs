//! Columns of a narrower type, or none, as the table's type.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, StringBuilder, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;

/// `array` as `target`, which [`merge_schemas`](crate::merge_schemas) chose: the value stays, its type gets wider. A time
/// becomes text in the form of RFC 3339. Whoever asks for a narrower type, as a condition does that was written before the
/// column became wider, gets the values of that type back, and null for others.
///
/// # Errors
/// [`ArrowError::CastError`] for a pair of types that no merge gives.
pub fn widen(array: ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    match (array.data_type(), target) {
        (from, to) if from == to => Ok(array),
        (DataType::Null, to) => Ok(new_null_array(to, array.len())),
        (DataType::Float64, DataType::Utf8) => Ok(Arc::new(float_text(&array))),
        (DataType::Float64, DataType::Int64) => Ok(Arc::new(whole(&array))),
        (_, to) => cast(&array, to),
    }
}

/// Floats that are integers.
fn whole(array: &ArrayRef) -> Int64Array {
    let whole = |float: &f64| float.fract() == 0.0 && (-INTEGERS..INTEGERS).contains(float);
    let floats = array.as_primitive::<Float64Type>().iter();
    floats.map(|float| float.filter(whole).map(|float| float as i64)).collect()
}

/// Floats as text, whole ones without a fraction: an integer that went through a float column on its way to a text
/// column reads as one that did not (Q2).
fn float_text(array: &ArrayRef) -> StringArray {
    let floats = array.as_primitive::<Float64Type>();
    let mut text = StringBuilder::with_capacity(floats.len(), floats.len() * 8);
    for float in floats {
        match float {
            None => text.append_null(),
            Some(float) => text.append_value(format_float(float)),
        }
    }
    text.finish()
}

/// 2^63: integers are below.
const INTEGERS: f64 = 9_223_372_036_854_775_808.0;
/// Floats from here on are written with an exponent, smaller whole ones with all of their digits.
pub const LARGEST_PLAIN: f64 = 1e21;

fn format_float(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && !(1e-7..LARGEST_PLAIN).contains(&size) {
        return format!("{float:e}");
    }
    // Rust writes the shortest digits that read back as the same float. Those of a whole one would be other digits than
    // those of the integer that it is, from 2^53 on.
    if float.fract() == 0.0 { format!("{float:.0}") } else { format!("{float}") }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, TimestampNanosecondArray};

    use super::*;

    #[test]
    fn a_narrower_type_gets_its_values_back() {
        let floats: ArrayRef =
            Arc::new(Float64Array::from(vec![3.0, 3.5, 1e300, -9_223_372_036_854_775_808.0, f64::NAN]));
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), None, None, Some(i64::MIN), None]));
        assert_eq!(&widen(floats, &DataType::Int64).unwrap(), &whole);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["57", "unknown", "-9223372036854775808"]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(57), None, Some(i64::MIN)]));
        assert_eq!(&widen(text, &DataType::Int64).unwrap(), &numbers);
    }

    #[test]
    fn a_whole_number_reads_the_same_through_every_type() {
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![Some(-7), None, Some(1 << 52), Some(1 << 60)]));
        let direct = widen(whole.clone(), &DataType::Utf8).unwrap();
        let through = widen(widen(whole, &DataType::Float64).unwrap(), &DataType::Utf8).unwrap();
        assert_eq!(direct.as_ref(), through.as_ref());
    }

    #[test]
    fn a_time_as_text_is_rfc_3339() {
        let times =
            vec![Some(1_769_903_999_123_456_789), None, Some(0), Some(1_769_903_999_250_000_000), Some(i64::MAX)];
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"));
        let text = widen(times, &DataType::Utf8).unwrap();
        let expected = [
            Some("2026-01-31T23:59:59.123456789Z"),
            None,
            Some("1970-01-01T00:00:00Z"),
            Some("2026-01-31T23:59:59.250Z"),
            Some("2262-04-11T23:47:16.854775807Z"),
        ];
        assert_eq!(text.as_string::<i32>().iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn fractions_and_huge_floats_read_back() {
        let floats = vec![0.1, -2.5, 1e300, 5e-324, f64::MAX];
        let text = widen(Arc::new(Float64Array::from(floats.clone())), &DataType::Utf8).unwrap();
        let back: Vec<f64> = text.as_string::<i32>().iter().map(|text| text.unwrap().parse().unwrap()).collect();
        assert_eq!(back, floats);
    }
}
