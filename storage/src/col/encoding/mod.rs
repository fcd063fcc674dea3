//! A chunk: the rows of one column in one granule, as bytes that describe themselves.
//!
//! ```text
//! u8 encoding | u8 has_nulls | has_nulls: ceil(n / 8) bytes, a set bit for each valid row | body
//! ```
//! What stands at a null's place in the body is the writer's choice and means nothing.

mod bitpack;
mod bytes;
mod dictionary;
mod floats;
mod ints;
mod strings;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, TimestampMillisecondArray,
    TimestampNanosecondArray, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType, TimestampNanosecondType};

use super::format::ColumnType;
use crate::container::{Cursor, Malformed};

pub(super) use dictionary::{Dictionary, DictionaryBuilder};

mod tag {
    pub(super) const ALL_NULL: u8 = 0;
    pub(super) const BITS: u8 = 1;
    pub(super) const INTS: u8 = 2;
    pub(super) const FLOATS: u8 = 3;
    pub(super) const TEXT: u8 = 4;
    pub(super) const CODES: u8 = 5;
}

/// Appends the chunk of `rows`, which are of type `column`; `codes` are theirs if the column has a dictionary.
pub(super) fn encode(column: ColumnType, rows: &dyn Array, codes: Option<&[u32]>, out: &mut Vec<u8>) {
    let nulls = rows.nulls().filter(|nulls| nulls.null_count() > 0);
    if rows.null_count() == rows.len() {
        out.extend_from_slice(&[tag::ALL_NULL, 0]);
        return;
    }
    out.extend_from_slice(&[tag_of(column, codes.is_some()), nulls.is_some().into()]);
    if let Some(nulls) = nulls {
        encode_bits(nulls.inner(), out);
    }
    match column {
        ColumnType::Boolean => encode_booleans(rows.as_boolean(), out),
        ColumnType::Int32 => {
            let values = rows.as_primitive::<Int32Type>();
            ints::encode(&carried(values).into_iter().map(i64::from).collect::<Vec<_>>(), out);
        }
        ColumnType::Int64 => encode_ints(rows.as_primitive::<Int64Type>(), out),
        ColumnType::TimeNs => encode_ints(rows.as_primitive::<TimestampNanosecondType>(), out),
        ColumnType::TimeMs => encode_ints(rows.as_primitive::<TimestampMillisecondType>(), out),
        ColumnType::Float64 => floats::encode(&carried(rows.as_primitive::<Float64Type>()), out),
        ColumnType::Utf8 => match codes {
            Some(codes) => Dictionary::encode_codes(codes, out),
            None => strings::encode(rows.as_string(), out),
        },
    }
}

/// Reads the chunk of `n` rows of type `column`; `n` is the caller's to bound. Any bytes give an array or an error (X1).
pub(super) fn decode(
    column: ColumnType,
    bytes: &[u8],
    n: usize,
    dictionary: Option<&Dictionary>,
) -> Result<ArrayRef, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let (tag, has_nulls) = (cursor.u8()?, cursor.u8()?);
    if tag == tag::ALL_NULL {
        cursor.finish()?;
        return Ok(new_null_array(&column.data_type(), n));
    }
    if tag != tag_of(column, tag == tag::CODES) {
        return Err(Malformed("a chunk's encoding is not one of its column's type"));
    }
    if tag == tag::CODES && dictionary.is_none() {
        return Err(Malformed("a chunk has codes, but its column has no dictionary"));
    }
    let nulls = match has_nulls {
        0 => None,
        1 => Some(NullBuffer::new(decode_bits(&mut cursor, n)?)),
        _ => return Err(Malformed("a chunk neither has nulls nor has none")),
    };
    let array = decode_body(column, &mut cursor, n, nulls, dictionary.filter(|_| tag == tag::CODES))?;
    cursor.finish()?;
    Ok(array)
}

fn decode_body(
    column: ColumnType,
    cursor: &mut Cursor<'_>,
    n: usize,
    nulls: Option<NullBuffer>,
    dictionary: Option<&Dictionary>,
) -> Result<ArrayRef, Malformed> {
    Ok(match column {
        ColumnType::Boolean => Arc::new(BooleanArray::new(decode_bits(cursor, n)?, nulls)),
        ColumnType::Int32 => {
            let narrow: Result<Vec<i32>, _> = ints::decode(cursor, n)?.into_iter().map(i32::try_from).collect();
            let narrow = narrow.map_err(|_| Malformed("a value of 32 bits does not fit them"))?;
            Arc::new(PrimitiveArray::<Int32Type>::new(narrow.into(), nulls))
        }
        ColumnType::Int64 => Arc::new(PrimitiveArray::<Int64Type>::new(ints::decode(cursor, n)?.into(), nulls)),
        ColumnType::TimeNs => {
            Arc::new(TimestampNanosecondArray::new(ints::decode(cursor, n)?.into(), nulls).with_timezone("UTC"))
        }
        ColumnType::TimeMs => {
            Arc::new(TimestampMillisecondArray::new(ints::decode(cursor, n)?.into(), nulls).with_timezone("UTC"))
        }
        ColumnType::Float64 => Arc::new(PrimitiveArray::<Float64Type>::new(floats::decode(cursor, n)?.into(), nulls)),
        ColumnType::Utf8 => match dictionary {
            Some(dictionary) => Arc::new(dictionary.decode_codes(cursor, n, nulls)?),
            None => Arc::new(strings::decode(cursor, n, nulls)?),
        },
    })
}

/// Appends integers without a type of their own: lengths and counts of the footer.
pub(super) fn encode_numbers(values: &[i64], out: &mut Vec<u8>) {
    ints::encode(values, out);
}

/// Reads `n` integers that [`encode_numbers`] wrote; `n` is the caller's to bound.
pub(super) fn decode_numbers(cursor: &mut Cursor<'_>, n: usize) -> Result<Vec<i64>, Malformed> {
    ints::decode(cursor, n)
}

fn tag_of(column: ColumnType, has_codes: bool) -> u8 {
    match column {
        ColumnType::Boolean => tag::BITS,
        ColumnType::Int32 | ColumnType::Int64 | ColumnType::TimeNs | ColumnType::TimeMs => tag::INTS,
        ColumnType::Float64 => tag::FLOATS,
        ColumnType::Utf8 if has_codes => tag::CODES,
        ColumnType::Utf8 => tag::TEXT,
    }
}

fn encode_ints<T: ArrowPrimitiveType<Native = i64>>(rows: &PrimitiveArray<T>, out: &mut Vec<u8>) {
    match rows.null_count() {
        0 => ints::encode(rows.values(), out),
        _ => ints::encode(&carried(rows), out),
    }
}

/// The values, with each null as the valid value before it (or the first one), which packs best.
fn carried<T: ArrowPrimitiveType>(rows: &PrimitiveArray<T>) -> Vec<T::Native> {
    let Some(nulls) = rows.nulls() else { return rows.values().to_vec() };
    let mut last = nulls.valid_indices().next().map_or_else(T::default_value, |row| rows.value(row));
    let carry = |(value, valid): (&T::Native, bool)| {
        if valid {
            last = *value;
        }
        last
    };
    rows.values().iter().zip(nulls.iter()).map(carry).collect()
}

fn encode_booleans(rows: &BooleanArray, out: &mut Vec<u8>) {
    match rows.nulls() {
        None => encode_bits(rows.values(), out),
        Some(nulls) => encode_bits(&(rows.values() & nulls.inner()), out),
    }
}

/// Appends bits, least significant first; those that fill up the last byte are 0.
fn encode_bits(bits: &BooleanBuffer, out: &mut Vec<u8>) {
    let aligned = bits.sliced();
    out.extend_from_slice(&aligned.as_slice()[..bits.len().div_ceil(8)]);
    if !bits.len().is_multiple_of(8)
        && let Some(last) = out.last_mut()
    {
        *last &= (1 << (bits.len() % 8)) - 1;
    }
}

fn decode_bits(cursor: &mut Cursor<'_>, n: usize) -> Result<BooleanBuffer, Malformed> {
    Ok(BooleanBuffer::new(Buffer::from(cursor.take(n.div_ceil(8))?), 0, n))
}

#[cfg(test)]
mod tests;
