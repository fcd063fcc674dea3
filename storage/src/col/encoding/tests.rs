use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const TYPES: [ColumnType; 7] = [
    ColumnType::Boolean,
    ColumnType::Int32,
    ColumnType::Int64,
    ColumnType::Float64,
    ColumnType::Utf8,
    ColumnType::TimeNs,
    ColumnType::TimeMs,
];

fn chunk_of(column: ColumnType, rows: &dyn Array) -> Vec<u8> {
    let mut chunk = Vec::new();
    encode(column, rows, None, &mut chunk);
    chunk
}

/// Encodes and decodes `rows`, whole and without the first two of them.
fn round_trip(column: ColumnType, rows: ArrayRef) {
    for rows in [rows.clone(), rows.slice(2.min(rows.len()), rows.len().saturating_sub(2))] {
        let chunk = chunk_of(column, &rows);
        let read = decode(column, &chunk, rows.len(), None).unwrap();
        assert_eq!(&read, &rows);
        assert_eq!(read.data_type(), &column.data_type());
    }
}

#[test]
fn codes_without_a_dictionary_are_an_error() {
    let texts = StringArray::from(vec!["a", "b", "a"]);
    let (dictionary, codes) = Dictionary::build(&texts).unwrap();
    let mut chunk = Vec::new();
    encode(ColumnType::Utf8, &texts, Some(&codes), &mut chunk);
    assert_eq!(*decode(ColumnType::Utf8, &chunk, 3, Some(&dictionary)).unwrap(), texts);
    assert!(decode(ColumnType::Utf8, &chunk, 3, None).is_err());
}

#[test]
fn a_chunk_of_nulls_is_two_bytes() {
    for column in TYPES {
        let nulls = new_null_array(&column.data_type(), 8_192);
        assert_eq!(chunk_of(column, &nulls).len(), 2);
        round_trip(column, nulls);
    }
}

#[test]
fn a_chunk_of_another_type_is_an_error() {
    let chunk = chunk_of(ColumnType::Int64, &Int64Array::from(vec![1, 2, i64::MAX]));
    for column in [ColumnType::Boolean, ColumnType::Int32, ColumnType::Float64, ColumnType::Utf8] {
        assert!(decode(column, &chunk, 3, None).is_err(), "{column:?}");
    }
}

proptest! {
    #[test]
    fn any_integers_and_times_round_trip(values in vec(option::of(any::<i64>()), 0..100)) {
        round_trip(ColumnType::Int64, Arc::new(Int64Array::from(values.clone())));
        round_trip(ColumnType::TimeNs, Arc::new(TimestampNanosecondArray::from(values.clone()).with_timezone("UTC")));
        round_trip(ColumnType::TimeMs, Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC")));
    }

    #[test]
    fn any_small_values_round_trip(
        ints in vec(option::of(any::<i32>()), 0..100),
        booleans in vec(option::of(any::<bool>()), 0..100),
        texts in vec(option::of(".{0,9}"), 0..100),
    ) {
        round_trip(ColumnType::Int32, Arc::new(Int32Array::from(ints)));
        round_trip(ColumnType::Boolean, Arc::new(BooleanArray::from(booleans)));
        round_trip(ColumnType::Utf8, Arc::new(StringArray::from(texts)));
    }

    #[test]
    fn any_floats_round_trip(values in vec(option::of(any::<f64>()), 0..100)) {
        round_trip(ColumnType::Float64, Arc::new(Float64Array::from(values)));
    }

    #[test]
    fn x1_garbage_never_panics(
        mut bytes in vec(any::<u8>(), 2..200), tag in 0_u8..7, has_nulls in 0_u8..3, n in 0_usize..300,
    ) {
        (bytes[0], bytes[1]) = (tag, has_nulls);
        let (dictionary, _) = Dictionary::build(&StringArray::from(vec!["a", "b", "c"])).unwrap();
        for column in TYPES {
            let _ = decode(column, &bytes, n, Some(&dictionary)).map(|rows| assert_eq!(rows.len(), n));
        }
    }

    #[test]
    fn x1_damaged_chunks_never_panic(
        values in vec(option::of(-50_i64..50), 1..60), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let floats: Float64Array = values.iter().map(|value| value.map(|v| v as f64 / 3.0)).collect();
        let texts: StringArray = values.iter().map(|value| value.map(|v| v.to_string())).collect();
        let chunks = [
            (ColumnType::Int64, chunk_of(ColumnType::Int64, &Int64Array::from(values.clone()))),
            (ColumnType::Float64, chunk_of(ColumnType::Float64, &floats)),
            (ColumnType::Utf8, chunk_of(ColumnType::Utf8, &texts)),
        ];
        for (column, mut chunk) in chunks {
            let at = at.index(chunk.len());
            chunk[at] = byte;
            let _ = decode(column, &chunk, values.len(), None);
        }
    }
}
