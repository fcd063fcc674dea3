//! Zone maps: the lowest and the highest value of each granule, and how many nulls it has.
//!
//! Bounds may be wider than the values but never narrower. A null bound says nothing about its granule.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNumericType, AsArray, BooleanArray, Float64Array, PrimitiveArray, StringArray, UInt64Array,
};
use arrow::compute::{concat, max, max_boolean, max_string, min, min_boolean, min_string};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType, TimestampNanosecondType};

use super::format::ColumnType;

/// The longest bound of a text, in bytes.
const MAX_TEXT_BYTES: usize = 64;

/// The zone map of one column: three arrays with one value a granule.
#[derive(Clone, Debug)]
pub(super) struct Zones {
    /// Of the column's type.
    pub(super) min: ArrayRef,
    /// Of the column's type.
    pub(super) max: ArrayRef,
    /// Without nulls.
    pub(super) null_counts: Arc<UInt64Array>,
}

impl Zones {
    /// The zone map of a column that is cut into `granules`.
    pub(super) fn of(column: ColumnType, granules: &[ArrayRef]) -> Self {
        let (min, max) = match column {
            ColumnType::Boolean => booleans(granules),
            ColumnType::Int32 => numbers::<Int32Type>(column, granules),
            ColumnType::Int64 => numbers::<Int64Type>(column, granules),
            ColumnType::TimeNs => numbers::<TimestampNanosecondType>(column, granules),
            ColumnType::TimeMs => numbers::<TimestampMillisecondType>(column, granules),
            ColumnType::Float64 => floats(granules),
            ColumnType::Utf8 => texts(granules),
        };
        let null_counts = granules.iter().map(|granule| granule.null_count() as u64);
        Self { min, max, null_counts: Arc::new(UInt64Array::from_iter_values(null_counts)) }
    }

    /// One zone map of several, which are of one column and follow each other.
    pub(super) fn join(zones: &[Zones]) -> Self {
        let joined = |of: fn(&Zones) -> &dyn Array| {
            let parts: Vec<&dyn Array> = zones.iter().map(of).collect();
            concat(&parts).expect("zone maps of one column have one type")
        };
        let null_counts = zones.iter().flat_map(|zones| zones.null_counts.values()).copied();
        let null_counts = Arc::new(UInt64Array::from_iter_values(null_counts));
        Self { min: joined(|zones| &*zones.min), max: joined(|zones| &*zones.max), null_counts }
    }
}

fn booleans(granules: &[ArrayRef]) -> (ArrayRef, ArrayRef) {
    let lowest: BooleanArray = granules.iter().map(|granule| min_boolean(granule.as_boolean())).collect();
    let highest: BooleanArray = granules.iter().map(|granule| max_boolean(granule.as_boolean())).collect();
    (Arc::new(lowest), Arc::new(highest))
}

fn numbers<T: ArrowNumericType>(column: ColumnType, granules: &[ArrayRef]) -> (ArrayRef, ArrayRef) {
    let lowest: PrimitiveArray<T> = granules.iter().map(|granule| min(granule.as_primitive::<T>())).collect();
    let highest: PrimitiveArray<T> = granules.iter().map(|granule| max(granule.as_primitive::<T>())).collect();
    let data_type = column.data_type();
    (Arc::new(lowest.with_data_type(data_type.clone())), Arc::new(highest.with_data_type(data_type)))
}

/// In the total order, as Arrow compares. A bound that is zero is the zero that lies further out, so that it also holds
/// for a comparison to which both zeroes are equal.
fn floats(granules: &[ArrayRef]) -> (ArrayRef, ArrayRef) {
    let values = |granule: &ArrayRef| granule.as_primitive::<Float64Type>().clone();
    let lowest = |granule| {
        values(granule).iter().flatten().min_by(f64::total_cmp).map(|low| if low == 0.0 { -0.0 } else { low })
    };
    let highest = |granule| {
        values(granule).iter().flatten().max_by(f64::total_cmp).map(|high| if high == 0.0 { 0.0 } else { high })
    };
    let lowest: Float64Array = granules.iter().map(lowest).collect();
    let highest: Float64Array = granules.iter().map(highest).collect();
    (Arc::new(lowest), Arc::new(highest))
}

fn texts(granules: &[ArrayRef]) -> (ArrayRef, ArrayRef) {
    let lowest = granules.iter().map(|granule| min_string(granule.as_string::<i32>()).map(prefix));
    let lowest: StringArray = lowest.collect();
    let highest = granules.iter().map(|granule| max_string(granule.as_string::<i32>()).and_then(above));
    let highest: StringArray = highest.collect();
    (Arc::new(lowest), Arc::new(highest))
}

/// The longest prefix of whole characters in [`MAX_TEXT_BYTES`]: not above the text.
fn prefix(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

/// A short text that is not below `text`: itself, or its prefix with the last character that can be raised raised.
/// `None` if none can.
fn above(text: &str) -> Option<String> {
    let kept = prefix(text);
    if kept.len() == text.len() {
        return Some(text.to_owned());
    }
    let mut raised: String = kept.to_owned();
    while let Some(last) = raised.pop() {
        // The characters between 0xD7FF and 0xE000 do not exist.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            raised.push(next);
            return Some(raised);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_that_cannot_be_raised_has_no_upper_bound() {
        assert_eq!(above(&"\u{10FFFF}".repeat(17)), None);
        assert_eq!(above(&format!("a{}", "\u{10FFFF}".repeat(17))), Some("b".to_owned()));
        assert_eq!(above(&"\u{D7FF}".repeat(22)), Some("\u{D7FF}".repeat(20) + "\u{E000}"));
        assert_eq!(above("short"), Some("short".to_owned()));
    }

    #[test]
    fn zeroes_and_nan_are_within_their_bounds() {
        let granule: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.0), None, Some(-0.0), Some(f64::NAN)]));
        let zones = Zones::of(ColumnType::Float64, &[granule, Arc::new(Float64Array::new_null(2))]);
        let (min, max) = (zones.min.as_primitive::<Float64Type>(), zones.max.as_primitive::<Float64Type>());
        assert!(min.value(0).is_sign_negative() && max.value(0).is_nan());
        assert!(min.is_null(1) && max.is_null(1));
        assert_eq!(*zones.null_counts, UInt64Array::from(vec![1, 2]));
    }

    proptest! {
        #[test]
        fn every_text_is_within_its_bounds(texts in proptest::collection::vec("[a-c\u{10FFFE}\u{10FFFF}]{0,40}", 1..10)) {
            let granule: ArrayRef = Arc::new(StringArray::from(texts.clone()));
            let zones = Zones::of(ColumnType::Utf8, &[granule]);
            let (min, max) = (zones.min.as_string::<i32>(), zones.max.as_string::<i32>());
            for text in &texts {
                prop_assert!(min.value(0) <= text.as_str());
                prop_assert!(max.is_null(0) || max.value(0) >= text.as_str());
            }
        }
    }
}
