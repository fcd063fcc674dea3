//! The footer's entry of one column: what it is, where its chunks lie, and its zone map.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::UInt64Array;
use arrow::datatypes::Field;

use super::encoding;
use super::format::{ColumnType, GRANULE_ROWS, MAX_NAME_BYTES};
use super::zones::Zones;
use crate::container::{Cursor, Malformed};

/// One column of a segment. Its dictionary, if it has one, lies before the chunks of its granules, which lie one after
/// the other.
#[derive(Clone, Debug)]
pub(super) struct ColumnEntry {
    pub(super) name: String,
    pub(super) column: ColumnType,
    pub(super) nullable: bool,
    pub(super) dictionary: Option<DictionaryEntry>,
    /// Where each granule's chunk starts in the file, and where the last one ends.
    pub(super) chunks: Vec<u64>,
    pub(super) zones: Zones,
}

/// Where a dictionary is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DictionaryEntry {
    pub(super) range: Range<u64>,
    /// How many values it has.
    pub(super) values: u32,
}

impl ColumnEntry {
    pub(super) fn field(&self) -> Field {
        Field::new(&self.name, self.column.data_type(), self.nullable)
    }

    /// Where the chunk of a granule is.
    pub(super) fn chunk(&self, granule: usize) -> Range<u64> {
        self.chunks[granule]..self.chunks[granule + 1]
    }

    pub(super) fn null_count(&self, granule: usize) -> u64 {
        self.zones.null_counts.value(granule)
    }

    /// Where the column's bytes are.
    fn range(&self) -> Range<u64> {
        let start = self.dictionary.as_ref().map_or(self.chunks[0], |dictionary| dictionary.range.start);
        start..self.chunks[self.chunks.len() - 1]
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let name_len = u16::try_from(self.name.len()).expect("the writer checked the name's length");
        out.extend_from_slice(&name_len.to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&[self.column.tag(), self.nullable.into()]);
        out.extend_from_slice(&self.range().start.to_le_bytes());
        let (bytes, values) = match &self.dictionary {
            Some(dictionary) => (dictionary.range.end - dictionary.range.start, dictionary.values),
            None => (0, 0),
        };
        out.extend_from_slice(&(bytes as u32).to_le_bytes());
        out.extend_from_slice(&values.to_le_bytes());
        let lengths: Vec<i64> = self.chunks.windows(2).map(|pair| (pair[1] - pair[0]) as i64).collect();
        encoding::encode_numbers(&lengths, out);
        let nulls: Vec<i64> = self.zones.null_counts.values().iter().map(|&nulls| nulls as i64).collect();
        encoding::encode_numbers(&nulls, out);
        for bound in [&self.zones.min, &self.zones.max] {
            let mut chunk = Vec::new();
            encoding::encode(self.column, bound, None, &mut chunk);
            out.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
            out.extend_from_slice(&chunk);
        }
    }

    /// Reads the entry of a column of `rows` rows. Its bytes have to lie within `section`.
    pub(super) fn decode(cursor: &mut Cursor<'_>, rows: u32, section: &Range<u64>) -> Result<Self, Malformed> {
        let granules = rows.div_ceil(GRANULE_ROWS) as usize;
        let name_len = usize::from(cursor.u16()?).min(MAX_NAME_BYTES);
        let name =
            std::str::from_utf8(cursor.take(name_len)?).map_err(|_| Malformed("a column's name is not UTF-8"))?;
        let column = ColumnType::from_tag(cursor.u8()?).ok_or(Malformed("a column has an unknown type"))?;
        let nullable = match cursor.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("a column is neither nullable nor not")),
        };
        let (start, dictionary_bytes, values) = (cursor.u64()?, cursor.u32()?, cursor.u32()?);
        let first = start.checked_add(dictionary_bytes.into()).ok_or(OUTSIDE)?;
        let dictionary = (dictionary_bytes > 0).then_some(DictionaryEntry { range: start..first, values });
        let chunks = chunks_from(first, &encoding::decode_numbers(cursor, granules)?)?;
        let zones = decode_zones(cursor, column, rows)?;
        let entry = Self { name: name.to_owned(), column, nullable, dictionary, chunks, zones };
        entry.check(section)?;
        Ok(entry)
    }

    fn check(&self, section: &Range<u64>) -> Result<(), Malformed> {
        let range = self.range();
        if range.start < section.start || range.end > section.end {
            return Err(OUTSIDE);
        }
        if self.dictionary.is_some() && self.column != ColumnType::Utf8 {
            return Err(Malformed("a column that is not text has a dictionary"));
        }
        if !self.nullable && self.zones.null_counts.values().iter().any(|&nulls| nulls > 0) {
            return Err(Malformed("a column that may not have nulls has some"));
        }
        Ok(())
    }
}

const OUTSIDE: Malformed = Malformed("a column lies outside of its section");

/// The running sums of `lengths`, from `first`.
fn chunks_from(first: u64, lengths: &[i64]) -> Result<Vec<u64>, Malformed> {
    let mut chunks = Vec::with_capacity(lengths.len() + 1);
    chunks.push(first);
    let mut end = first;
    for &len in lengths {
        let len = u32::try_from(len).map_err(|_| Malformed("a chunk has a length outside of 32 bits"))?;
        end = end.checked_add(len.into()).ok_or(OUTSIDE)?;
        chunks.push(end);
    }
    Ok(chunks)
}

fn decode_zones(cursor: &mut Cursor<'_>, column: ColumnType, rows: u32) -> Result<Zones, Malformed> {
    let granules = rows.div_ceil(GRANULE_ROWS) as usize;
    let counts = encoding::decode_numbers(cursor, granules)?;
    let fits = |(granule, nulls): (usize, &i64)| {
        let rows = (rows - granule as u32 * GRANULE_ROWS).min(GRANULE_ROWS);
        (0..=i64::from(rows)).contains(nulls)
    };
    if !counts.iter().enumerate().all(fits) {
        return Err(Malformed("a granule has more nulls than rows"));
    }
    let mut bound = || {
        let len = cursor.u32()? as usize;
        encoding::decode(column, cursor.take(len)?, granules, None)
    };
    let (min, max) = (bound()?, bound()?);
    let null_counts = Arc::new(UInt64Array::from_iter_values(counts.into_iter().map(|nulls| nulls as u64)));
    Ok(Zones { min, max, null_counts })
}
