//! Arrow batches of an answer, printed as they come.

use std::io::{StdoutLock, Write};

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder as CsvBuilder;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder as JsonBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::Value;

use super::new_table;
use crate::cli::OutputFormat;
use crate::failure::Failure;

/// Rows that one printed table holds at the most: more come as further tables, so that memory stays bounded.
const TABLE_ROWS: usize = 1_000;
const TABLE_CELL_CHARS: usize = 500;

/// Prints the batches of one answer in one format.
pub(crate) struct RowPrinter {
    schema: SchemaRef,
    sink: Sink,
}

enum Sink {
    Table(Vec<RecordBatch>),
    Json(arrow::json::Writer<StdoutLock<'static>, JsonArray>),
    Ndjson(arrow::json::Writer<StdoutLock<'static>, LineDelimited>),
    Csv(Box<arrow::csv::Writer<StdoutLock<'static>>>),
}

impl RowPrinter {
    /// A printer for an answer of this schema.
    pub(crate) fn new(format: OutputFormat, schema: SchemaRef) -> Self {
        let stdout = || std::io::stdout().lock();
        let json = || JsonBuilder::new().with_explicit_nulls(true);
        let sink = match format {
            OutputFormat::Table => Sink::Table(Vec::new()),
            OutputFormat::Json => Sink::Json(json().build(stdout())),
            OutputFormat::Ndjson => Sink::Ndjson(json().build(stdout())),
            OutputFormat::Csv => Sink::Csv(Box::new(CsvBuilder::new().with_header(true).build(stdout()))),
        };
        Self { schema, sink }
    }

    /// Prints the rows of a batch.
    ///
    /// # Errors
    /// If standard output does not take them.
    pub(crate) fn print(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        match &mut self.sink {
            Sink::Table(held) => {
                held.push(batch.clone());
                let rows: usize = held.iter().map(RecordBatch::num_rows).sum();
                if rows >= TABLE_ROWS {
                    print_table(&self.schema, &std::mem::take(held))?;
                }
                Ok(())
            }
            Sink::Json(writer) => writer.write(batch).map_err(arrow_failure),
            Sink::Ndjson(writer) => writer.write(batch).map_err(arrow_failure),
            Sink::Csv(writer) => writer.write(batch).map_err(arrow_failure),
        }
    }

    /// Prints what is left, and for an answer without rows its header.
    ///
    /// # Errors
    /// If standard output does not take it.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.sink {
            Sink::Table(held) => print_table(&self.schema, &held),
            Sink::Json(mut writer) => {
                writer.finish().map_err(arrow_failure)?;
                Ok(writeln!(writer.into_inner())?)
            }
            Sink::Ndjson(mut writer) => writer.finish().map_err(arrow_failure),
            Sink::Csv(mut writer) => writer.write(&RecordBatch::new_empty(self.schema)).map_err(arrow_failure),
        }
    }
}

/// The rows of a batch as JSON objects, nulls included.
///
/// # Errors
/// If a value has no JSON form.
pub(crate) fn row_objects(batch: &RecordBatch) -> Result<Vec<Value>, Failure> {
    let mut writer = JsonBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(arrow_failure)?;
    let bytes = writer.into_inner();
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(&bytes).map_err(|error| Failure::Refused(format!("cannot write a row as JSON: {error}")))
}

fn print_table(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(), Failure> {
    if is_plan(schema) {
        return print_plans(batches);
    }
    let mut table = new_table();
    table.set_header(schema.fields().iter().map(|field| field.name()));
    for (column, field) in table.column_iter_mut().zip(schema.fields()) {
        if field.data_type().is_numeric() {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    for batch in batches {
        add_rows(&mut table, batch).map_err(arrow_failure)?;
    }
    Ok(writeln!(std::io::stdout().lock(), "{table}")?)
}

/// Whether the answer is that of EXPLAIN, whose plans are text with lines of their own.
fn is_plan(schema: &SchemaRef) -> bool {
    schema.fields().iter().map(|field| field.name().as_str()).eq(["plan_type", "plan"])
}

/// Prints plans as the text that they are, whole.
fn print_plans(batches: &[RecordBatch]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for batch in batches {
        let options = FormatOptions::default();
        let column = |at: usize| ArrayFormatter::try_new(batch.column(at), &options).map_err(arrow_failure);
        let (kinds, plans) = (column(0)?, column(1)?);
        for row in 0..batch.num_rows() {
            writeln!(out, "{}\n{}", kinds.value(row), plans.value(row).to_string().trim_end())?;
        }
    }
    Ok(())
}

fn add_rows(table: &mut comfy_table::Table, batch: &RecordBatch) -> Result<(), arrow::error::ArrowError> {
    let options = FormatOptions::default();
    let formatters: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<_, _>>()?;
    let floats: Vec<bool> = batch.columns().iter().map(|c| *c.data_type() == DataType::Float64).collect();
    for row in 0..batch.num_rows() {
        let cells = formatters.iter().zip(&floats).map(|(formatter, is_float)| {
            let text = formatter.value(row).try_to_string().unwrap_or_else(|error| format!("<{error}>"));
            if *is_float { short_float(text) } else { short_text(text) }
        });
        table.add_row(cells.collect::<Vec<_>>());
    }
    Ok(())
}

/// Six digits behind the point suffice in a table; the other formats have them all.
fn short_float(text: String) -> String {
    match text.split_once('.') {
        Some((_, fraction)) if fraction.len() > 6 && !text.contains('e') => {
            text.parse::<f64>().map_or(text, |value| format!("{value:.6}"))
        }
        _ => text,
    }
}

fn short_text(text: String) -> String {
    match text.char_indices().nth(TABLE_CELL_CHARS) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

fn arrow_failure(error: arrow::error::ArrowError) -> Failure {
    match error {
        arrow::error::ArrowError::IoError(_, error) => error.into(),
        other => Failure::Refused(format!("cannot print the rows: {other}")),
    }
}
