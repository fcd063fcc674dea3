//! Asking a broker, and comparing what it says.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType};
use stratalog_broker::Broker;
use stratalog_proto::{Error, Token};
use stratalog_query::{Answer, SearchRequest, SqlRequest};

use super::question::{Question, Row, sorted};
use super::value::Value;

/// A broker, and what each answer of it has to include.
pub(super) struct Asked {
    pub(super) broker: Arc<Broker>,
    pub(super) tokens: Vec<Token>,
}

impl Asked {
    /// # Errors
    /// The broker's, in words.
    pub(super) async fn ask(&self, topic: &str, question: &Question) -> Result<Vec<Row>, String> {
        let answer = match question {
            Question::Search { search, from_ns, to_ns, limit } => {
                self.search(topic, search.written(), (*from_ns, *to_ns), *limit).await
            }
            _ => self.sql(question.written(topic)).await,
        };
        let rows = answer.map_err(|error| format!("{error}"))?;
        Ok(if question.is_ordered() { rows } else { sorted(rows) })
    }

    pub(super) async fn sql(&self, sql: String) -> Result<Vec<Row>, Error> {
        let request = SqlRequest { sql, tokens: self.tokens.clone(), ..SqlRequest::default() };
        rows(self.broker.engine().sql(request).await?, usize::MAX).await
    }

    /// The first three columns of what is found: the time and the place of each row.
    async fn search(
        &self,
        topic: &str,
        query: String,
        (from_ns, to_ns): (Option<i64>, Option<i64>),
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        let (topic, tokens) = (topic.to_owned(), self.tokens.clone());
        let request =
            SearchRequest { topic, query, from_ns, to_ns, limit: Some(limit), tokens, ..SearchRequest::default() };
        rows(self.broker.engine().search(request).await?, 3).await
    }

    pub(super) async fn stop(&self) {
        self.broker.stop().await;
    }
}

async fn rows(mut answer: Answer, columns: usize) -> Result<Vec<Row>, Error> {
    let batches = answer.collect().await?;
    Ok(batches.iter().flat_map(|batch| rows_of(batch, columns)).collect())
}

fn rows_of(batch: &RecordBatch, columns: usize) -> Vec<Row> {
    let columns: Vec<Vec<Value>> = batch.columns().iter().take(columns).map(values).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect()
}

/// The values of a column, whatever the encoding of its type.
fn values(column: &Arc<dyn Array>) -> Vec<Value> {
    let valid = |row: usize, value: Value| if column.is_valid(row) { value } else { Value::Null };
    let each = |value: &dyn Fn(usize) -> Value| (0..column.len()).map(|row| valid(row, value(row))).collect();
    let as_type = |to: DataType| cast(column, &to).unwrap_or_else(|error| panic!("an answer has {error}"));
    match column.data_type() {
        DataType::Boolean => each(&|row| Value::Bool(column.as_boolean().value(row))),
        DataType::Float64 => each(&|row| Value::Float(column.as_primitive::<Float64Type>().value(row))),
        DataType::Timestamp(_, zone) => {
            let nanos = as_type(DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()));
            each(&|row| Value::Int(nanos.as_primitive::<TimestampNanosecondType>().value(row)))
        }
        data_type if data_type.is_integer() => {
            let integers = as_type(DataType::Int64);
            each(&|row| Value::Int(integers.as_primitive::<Int64Type>().value(row)))
        }
        _ => {
            let text = as_type(DataType::Utf8);
            each(&|row| Value::Text(text.as_string::<i32>().value(row).to_owned()))
        }
    }
}

/// What is missing and what should not be there, at most a few rows of each.
pub(super) fn difference(expected: &[Row], found: &[Row]) -> Option<String> {
    let same =
        expected.len() == found.len() && expected.iter().zip(found).all(|(a, b)| format!("{a:?}") == format!("{b:?}"));
    if same {
        return None;
    }
    let shown = |rows: &[Row]| rows.iter().map(|row| format!("{row:?}")).collect::<Vec<_>>();
    let (expected, found) = (shown(expected), shown(found));
    let only = |these: &[String], others: &[String]| {
        let others: std::collections::HashSet<&String> = others.iter().collect();
        these.iter().filter(|row| !others.contains(row)).take(4).cloned().collect::<Vec<_>>().join("\n      ")
    };
    Some(format!(
        "{} rows instead of {}\n    missing:\n      {}\n    not expected:\n      {}",
        found.len(),
        expected.len(),
        only(&expected, &found),
        only(&found, &expected),
    ))
}
