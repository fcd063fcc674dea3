//! A chunk under construction: records in, one Arrow batch out.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{Field, Schema};
use stratalog_proto::batch::Record;
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_query::TailChunk;

use super::column::Value;
use super::escape::{clip, escape};
use super::fields::{Fields, ROOT};
use super::json;
use super::system::{Place, SystemColumns, system_fields};
use super::time::{BadTime, event_time, record_time};

/// A chunk with so many bytes is closed, however few rows it has.
const MAX_CHUNK_BYTES: usize = 16 << 20;
/// A chunk with so many cells, nulls included, is closed: 16 MiB of numbers.
const MAX_CHUNK_CELLS: usize = 2 << 20;
/// The most bytes of a dead row's reason.
const MAX_REASON_BYTES: usize = 256;
/// The column of a `text` topic.
const MESSAGE: &str = "message";

/// Builds one chunk of a topic's rows.
pub(super) struct ChunkBuilder<'a> {
    config: &'a TopicConfig,
    system: SystemColumns,
    fields: Fields,
    dead_rows: u64,
}

impl<'a> ChunkBuilder<'a> {
    /// An empty chunk of a topic that has rows.
    pub(super) fn new(config: &'a TopicConfig) -> Self {
        let time_field = config.time_field.as_deref().filter(|_| config.format == Format::Json);
        Self { config, system: SystemColumns::default(), fields: Fields::new(time_field), dead_rows: 0 }
    }

    /// Adds the row of a record: what its value says, or why it says nothing.
    pub(super) fn push(&mut self, place: Place, record: &Record) {
        let record_time = record_time(record.timestamp_ms).unwrap_or(place.ingested_ns);
        match self.parse(record) {
            Ok(time) => self.system.push(place, time.unwrap_or(record_time), record, None),
            Err(reason) => {
                self.fields.rollback();
                self.dead_rows += 1;
                self.system.push(place, record_time, record, Some(clip(&reason, MAX_REASON_BYTES)));
            }
        }
        self.fields.commit();
    }

    /// Adds the dead row of an offset whose record cannot be read.
    pub(super) fn push_unreadable(&mut self, place: Place, reason: &str) {
        self.dead_rows += 1;
        self.system.push_unreadable(place, clip(reason, MAX_REASON_BYTES));
        self.fields.commit();
    }

    /// Forgets a row at which building panicked.
    pub(super) fn rollback(&mut self) {
        self.system.rollback();
        self.fields.rollback();
    }

    /// Puts the user columns; the event time, if the topic has a field for it.
    fn parse(&mut self, record: &Record) -> Result<Option<i64>, String> {
        let Some(value) = &record.value else { return Err("the record has no value".to_owned()) };
        if self.config.format == Format::Json {
            json::read(value, &mut self.fields)?;
            return self.event_time();
        }
        if let Some(message) = self.fields.child(ROOT, MESSAGE, &mut 0) {
            self.fields.put(message, Value::Text(line(&escape(value))));
        }
        Ok(None)
    }

    fn event_time(&self) -> Result<Option<i64>, String> {
        let Some(field) = &self.config.time_field else { return Ok(None) };
        let value = self.fields.time().ok_or_else(|| format!("the time field `{field}` is missing"))?;
        let shown = || match value {
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(value) | Value::Digits(value) => format!("`{}`", clip(value, 64)),
        };
        event_time(value).map(Some).map_err(|bad| match bad {
            BadTime::NotATime => format!("the time field `{field}` holds {}, which is not a time", shown()),
            BadTime::OutOfRange => {
                format!("the time field `{field}` holds {}, which is not within 1970 to 2262", shown())
            }
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.system.rows()
    }

    pub(super) fn dead_rows(&self) -> u64 {
        self.dead_rows
    }

    /// Whether the chunk has to be closed.
    pub(super) fn is_full(&self) -> bool {
        self.rows() >= TailChunk::MAX_ROWS
            || self.system.bytes() + self.fields.bytes() >= MAX_CHUNK_BYTES
            || self.rows() * self.fields.columns() >= MAX_CHUNK_CELLS
    }

    /// The rows: system columns, then the user columns that have a value, by name.
    pub(super) fn finish(self) -> RecordBatch {
        let (names, user): (Vec<_>, Vec<_>) = self.fields.finish().into_iter().unzip();
        let user_fields =
            names.iter().zip(&user).map(|(name, array)| Field::new(&**name, array.data_type().clone(), true));
        let schema = Schema::new(system_fields().iter().cloned().chain(user_fields).collect::<Vec<_>>());
        let columns = self.system.finish().into_iter().chain(user).collect();
        RecordBatch::try_new(Arc::new(schema), columns).expect("S1: every column has every row")
    }
}

/// The text without the end of its line.
fn line(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}
