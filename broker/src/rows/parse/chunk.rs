//! A chunk under construction: records in, one Arrow batch out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{Field, Schema};
use regex::CaptureLocations;
use stratalog_proto::batch::Record;
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_query::TailChunk;

use super::column::Value;
use super::declared::shown;
use super::escape::{clip, escape};
use super::fields::{Fields, ROOT};
use super::pattern::MESSAGE;
use super::recipe::{Reading, Recipe};
use super::system::{Place, SystemColumns, system_fields};
use super::time::{BadTime, event_time, record_time};
use super::{json, logfmt};

/// A chunk with so many bytes is closed, however few rows it has.
const MAX_CHUNK_BYTES: usize = 16 << 20;
/// A chunk with so many cells, nulls included, is closed: 16 MiB of numbers.
const MAX_CHUNK_CELLS: usize = 2 << 20;
/// The most bytes of a dead row's reason.
const MAX_REASON_BYTES: usize = 256;
/// Builds one chunk of a topic's rows.
pub(super) struct ChunkBuilder<'a> {
    time_field: Option<&'a str>,
    recipe: Arc<Recipe>,
    /// Room for what a pattern finds.
    found: Option<CaptureLocations>,
    system: SystemColumns,
    fields: Fields,
    dead_rows: u64,
}

impl<'a> ChunkBuilder<'a> {
    /// An empty chunk of a topic that has rows.
    pub(super) fn new(config: &'a TopicConfig) -> Self {
        let recipe = Recipe::of(config);
        let has_fields = config.format != Format::Text || config.pattern.is_some();
        let time_field = config.time_field.as_deref().filter(|_| has_fields);
        let found = match &recipe.reading {
            Reading::Pattern(pattern) => Some(pattern.locations()),
            _ => None,
        };
        let fields = Fields::new(time_field, Arc::clone(&recipe.declared));
        Self { time_field, recipe, found, system: SystemColumns::default(), fields, dead_rows: 0 }
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
        self.read(value)?;
        // Before declared columns get their types: a time field that is declared as text is still read as it was written.
        let time = self.event_time()?;
        self.fields.conform()?;
        Ok(time)
    }

    fn read(&mut self, value: &[u8]) -> Result<(), String> {
        #[cfg(test)]
        assert!(value != super::tests::DEFECT_OF_A_RECORD, "a defect, injected");
        let recipe = Arc::clone(&self.recipe);
        match &recipe.reading {
            Reading::Json => json::read(value, &mut self.fields),
            Reading::Logfmt => logfmt::read(value, &mut self.fields),
            Reading::Text => {
                self.put_message(line(&escape(value)));
                Ok(())
            }
            Reading::Pattern(pattern) => {
                let text = escape(value);
                let text = line(&text);
                self.put_message(text);
                let found = self.found.get_or_insert_with(|| pattern.locations());
                pattern.read(text, found, &mut self.fields)
            }
            Reading::Unknown(why) => Err(why.clone()),
        }
    }

    fn put_message(&mut self, text: &str) {
        if let Some(message) = self.fields.child(ROOT, MESSAGE, &mut 0) {
            self.fields.put(message, Value::Text(text));
        }
    }

    fn event_time(&self) -> Result<Option<i64>, String> {
        let Some(field) = self.time_field else { return Ok(None) };
        let value = self.fields.time().ok_or_else(|| format!("the time field `{field}` is missing"))?;
        event_time(value).map(Some).map_err(|bad| match bad {
            BadTime::NotATime => format!("the time field `{field}` holds {}, which is not a time", shown(value)),
            BadTime::OutOfRange => {
                format!("the time field `{field}` holds {}, which is not within 1970 to 2262", shown(value))
            }
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.system.rows()
    }

    /// Whether the chunk has to be closed.
    pub(super) fn is_full(&self) -> bool {
        self.rows() >= TailChunk::MAX_ROWS
            || self.system.bytes() + self.fields.bytes() >= MAX_CHUNK_BYTES
            || self.rows() * self.fields.columns() >= MAX_CHUNK_CELLS
    }

    /// The rows: system columns, then the user columns that have a value, by name; and how many of the rows are dead: all
    /// of them if a defect of ours keeps the user columns from being made.
    pub(super) fn finish(mut self) -> (RecordBatch, u64) {
        let rows = self.rows();
        let fields = self.fields;
        let user = catch_unwind(AssertUnwindSafe(|| fields.finish())).unwrap_or_else(|_| {
            tracing::error!(rows, "X1: making the columns of a chunk panicked");
            self.system.all_dead("the parser failed at the rows around this one; please report it as a defect");
            self.dead_rows = rows as u64;
            Vec::new()
        });
        let (names, user): (Vec<_>, Vec<_>) = user.into_iter().unzip();
        let user_fields =
            names.iter().zip(&user).map(|(name, array)| Field::new(&**name, array.data_type().clone(), true));
        let schema = Schema::new(system_fields().iter().cloned().chain(user_fields).collect::<Vec<_>>());
        let columns = self.system.finish().into_iter().chain(user).collect();
        let rows = RecordBatch::try_new(Arc::new(schema), columns).expect("S1: every column has every row");
        (rows, self.dead_rows)
    }
}

/// The text without the end of its line.
fn line(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}
