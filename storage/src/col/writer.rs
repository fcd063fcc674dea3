//! Rows to a durable file.

use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Field, Schema};
use stratalog_proto::{SegmentId, ShardId, TimeBucket, TopicId};

use super::directory::{ColumnEntry, DictionaryEntry};
use super::encoding::{self, Dictionary, DictionaryBuilder};
use super::error::ColError;
use super::facts::facts;
use super::footer::Footer;
use super::format::{ColumnType, GRANULE_ROWS, KIND, MAX_NAME_BYTES, max_columns};
use super::source::{ColumnSource, granules, system_columns};
use super::zones::Zones;
use crate::container::{BlockWriter, Written, write_named};
use crate::io::Io;
use crate::segment::{SegmentKind, SegmentMeta};

/// What a segment is to be, besides its rows.
#[derive(Clone, Copy, Debug)]
pub struct ColSpec {
    /// Its id, and its file's name.
    pub id: SegmentId,
    /// The shard that it belongs to.
    pub shard: ShardId,
    /// The topic of its rows.
    pub topic: TopicId,
    /// How the rows lie in time.
    pub kind: SegmentKind,
    /// The bucket that they lie in; for a mixed segment, the newest.
    pub bucket: TimeBucket,
    /// The analyzer that its text index was built with; 0 without one.
    pub analyzer_version: u32,
}

/// The name of a segment's file in its directory.
pub fn segment_file_name(id: SegmentId) -> String {
    format!("{id}.col")
}

/// Writes `rows`, already sorted, as `<dir>/<id>.col`, with the bytes of a text index behind them. When it returns, the
/// file and its name are durable. What the answer says of times and offsets is computed from the rows.
///
/// The rows have `_time`, `_ingested_at`, `_partition` and `_offset` without nulls; see [`super::system`].
///
/// # Errors
/// [`ColError::Refused`] for rows that cannot be a segment, and nothing is written; [`ColError::Io`], and no file of that
/// name is left unless it is whole.
pub fn write_segment(
    io: &dyn Io,
    dir: &Path,
    spec: &ColSpec,
    rows: &RecordBatch,
    text: Option<&[u8]>,
) -> Result<SegmentMeta, ColError> {
    write_columns(io, dir, spec, rows, text)
}

/// [`write_segment`] of rows that are not in memory: only a granule of them is at a time, and the four system columns that
/// a segment's meta is computed from.
///
/// # Errors
/// As [`write_segment`], and those of `source`.
pub fn write_columns(
    io: &dyn Io,
    dir: &Path,
    spec: &ColSpec,
    mut source: impl ColumnSource,
    text: Option<&[u8]>,
) -> Result<SegmentMeta, ColError> {
    let refused = |what| ColError::Refused { id: spec.id, what };
    let layout = layout(&source.schema(), source.rows()).map_err(refused)?;
    let (system, dead_rows) = system_columns(&mut source)?;
    let meta = facts(spec, &system, dead_rows).map_err(refused)?;
    write_named(io, dir, &segment_file_name(spec.id), |out| write_file(out, spec, meta, &mut source, &layout, text))
}

/// The type of each column, once all of them can be stored.
fn layout(schema: &Schema, rows: usize) -> Result<Vec<ColumnType>, String> {
    let limit = max_columns(rows);
    if schema.fields().len() > limit {
        return Err(format!("it has {} columns; with so many rows it may have {limit}", schema.fields().len()));
    }
    let mut names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("two columns are named `{}`", twice[0]));
    }
    schema.fields().iter().map(|field| column_type(field)).collect()
}

fn column_type(field: &Field) -> Result<ColumnType, String> {
    if field.name().len() > MAX_NAME_BYTES {
        return Err(format!("a column's name has {} bytes, at most {MAX_NAME_BYTES} are allowed", field.name().len()));
    }
    ColumnType::of(field.data_type()).ok_or_else(|| {
        format!("column `{}` is {}, which a column segment has no type for", field.name(), field.data_type())
    })
}

fn write_file(
    mut out: BlockWriter,
    spec: &ColSpec,
    meta: SegmentMeta,
    source: &mut impl ColumnSource,
    layout: &[ColumnType],
    text: Option<&[u8]>,
) -> Result<SegmentMeta, ColError> {
    let mut topic = [0; 32];
    topic[..16].copy_from_slice(spec.topic.as_bytes());
    out.write(&KIND.header(spec.shard, spec.id, &topic))?;
    let start = out.position();
    let mut columns = Vec::with_capacity(layout.len());
    for (at, column) in layout.iter().enumerate() {
        columns.push(write_column(&mut out, source, at, *column)?);
    }
    let columns_section = start..out.position();
    let text_section = text.map(|text| out.position()..out.position() + text.len() as u64);
    out.write(text.unwrap_or_default())?;
    let footer = Footer { shard: spec.shard, meta, columns_section, text_section, columns };
    let written = out.finish(&KIND, footer.encode())?;
    let Some(Written { bytes, blake3 }) = written else {
        return Err(ColError::Refused { id: spec.id, what: "its footer would be over 4 GiB".to_owned() });
    };
    Ok(SegmentMeta { bytes, blake3, ..footer.meta })
}

/// Writes a column's dictionary, if it gets one, and its granules.
fn write_column(
    out: &mut BlockWriter,
    source: &mut impl ColumnSource,
    at: usize,
    column: ColumnType,
) -> Result<ColumnEntry, ColError> {
    let built = if column == ColumnType::Utf8 { build_dictionary(source, at)? } else { None };
    // A column without a single value has nothing to look up.
    let built = built.filter(|(dictionary, _)| dictionary.len() > 0);
    let mut buffer = Vec::new();
    let dictionary = match &built {
        None => None,
        Some((dictionary, _)) => {
            dictionary.encode(&mut buffer);
            let start = out.position();
            out.write(&buffer)?;
            Some(DictionaryEntry { range: start..out.position(), values: dictionary.len() as u32 })
        }
    };
    let mut chunks = vec![out.position()];
    let mut zones = Vec::new();
    for number in 0..granules(source.rows()) {
        let granule = source.granule(at, number)?;
        let first = number * GRANULE_ROWS as usize;
        let codes = built.as_ref().map(|(_, codes)| &codes[first..first + granule.len()]);
        buffer.clear();
        encoding::encode(column, &granule, codes, &mut buffer);
        out.write(&buffer)?;
        chunks.push(out.position());
        zones.push(Zones::of(column, &[granule]));
    }
    let schema = source.schema();
    let (name, nullable) = (schema.field(at).name().clone(), schema.field(at).is_nullable());
    Ok(ColumnEntry { name, column, nullable, dictionary, chunks, zones: Zones::join(&zones) })
}

/// The dictionary of a text column and the code of each row, if it is worth one.
fn build_dictionary(source: &mut impl ColumnSource, at: usize) -> Result<Option<(Dictionary, Vec<u32>)>, ColError> {
    let mut builder = DictionaryBuilder::new(source.rows());
    for number in 0..granules(source.rows()) {
        if !builder.add(source.granule(at, number)?.as_string()) {
            return Ok(None);
        }
    }
    Ok(Some(builder.finish()))
}
