//! `stratalog dead-letters`.

use std::fmt::Write as _;
use std::io::Write;

use serde_json::Value;
use stratalog_client::{Client, ClientError, ConsumerOptions, QueryOptions, Start, Stop};
use stratalog_gateway::dead_letter_reasons;
use stratalog_proto::config::check_topic_name;
use stratalog_proto::{Offset, PartitionId};

use super::lag_note;
use crate::cli::{DeadLetters, Global, OutputFormat};
use crate::failure::Failure;
use crate::output::{Listing, human_count, print_object, row_objects};

/// Characters of a value that people are shown; the other formats have it whole.
const SHOWN_CHARS: usize = 2_000;

pub(super) async fn run(global: &Global, command: &DeadLetters) -> Result<(), Failure> {
    let client = global.client().await?;
    match command {
        DeadLetters::List { topic, limit } => list(&client, global.format(), topic, *limit).await,
        DeadLetters::Show { topic, reason, partition, offset, limit } => {
            let wanted = Wanted { topic, reason: reason.as_deref(), partition: *partition, offset: *offset };
            show(&client, global.format(), &wanted, *limit).await
        }
        DeadLetters::Retry { topic } => retry(&client, global.format(), topic).await,
    }
}

async fn list(client: &Client, format: OutputFormat, topic: &str, limit: u32) -> Result<(), Failure> {
    const COLUMNS: [&str; 7] = ["count", "reason", "oldest", "newest", "partition", "offset", "example"];
    let (rows, lag) = rows(client, topic, &dead_letter_reasons(topic, limit)?).await?;
    let mut listing = Listing::new(&COLUMNS[..if format == OutputFormat::Table { 6 } else { 7 }]);
    for row in &rows {
        listing.push(listing.columns().iter().map(|column| row[*column].clone()).collect());
    }
    if format != OutputFormat::Table {
        return listing.print(format);
    }
    let mut out = std::io::stdout();
    if rows.is_empty() {
        return Ok(writeln!(out, "no record of {topic} is a dead letter{lag}")?);
    }
    listing.print(format)?;
    if rows.len() == limit as usize {
        writeln!(out, "there may be more reasons: --limit shows more than {limit}")?;
    }
    if !lag.is_empty() {
        writeln!(out, "these are not all{lag}")?;
    }
    writeln!(out, "see the values:       stratalog dead-letters show {topic}")?;
    Ok(writeln!(
        out,
        "mend the settings:    stratalog topic alter {topic} …, then stratalog dead-letters retry {topic}"
    )?)
}

/// Which dead letters to show.
struct Wanted<'a> {
    topic: &'a str,
    reason: Option<&'a str>,
    partition: Option<u32>,
    offset: Option<u64>,
}

impl Wanted<'_> {
    fn statement(&self, limit: u32) -> Result<String, Failure> {
        check_topic_name(self.topic)?;
        let mut conditions = "_dead IS NOT NULL".to_owned();
        if let Some(reason) = self.reason {
            let _ = write!(conditions, " AND strpos(_dead, '{}') > 0", reason.replace('\'', "''"));
        }
        if let Some(partition) = self.partition {
            let _ = write!(conditions, " AND _partition = {partition}");
        }
        if let Some(offset) = self.offset {
            let _ = write!(conditions, " AND _offset = {offset}");
        }
        Ok(format!(
            "SELECT _partition, _offset, _time, _dead FROM \"{}\" WHERE {conditions} \
             ORDER BY _time DESC, _partition, _offset DESC LIMIT {limit}",
            self.topic
        ))
    }

    fn none(&self) -> String {
        match (self.partition, self.offset) {
            (Some(partition), Some(offset)) => {
                format!("the record at offset {offset} of partition {partition} of {} is no dead letter", self.topic)
            }
            _ => format!("no such record of {} is a dead letter", self.topic),
        }
    }
}

async fn show(client: &Client, format: OutputFormat, wanted: &Wanted<'_>, limit: u32) -> Result<(), Failure> {
    const COLUMNS: [&str; 6] = ["partition", "offset", "time", "reason", "bytes", "value"];
    let (rows, lag) = rows(client, wanted.topic, &wanted.statement(limit)?).await?;
    let mut out = std::io::stdout();
    if format == OutputFormat::Table && rows.is_empty() {
        return Ok(writeln!(out, "{}{lag}", wanted.none())?);
    }
    let mut listing = Listing::new(&COLUMNS);
    for row in &rows {
        let place = (row["_partition"].as_u64().unwrap_or(0) as u32, row["_offset"].as_u64().unwrap_or(0));
        let value = value(client, wanted.topic, place).await;
        if format == OutputFormat::Table {
            print_letter(&mut out, place, row, &value)?;
            continue;
        }
        let bytes = value.as_ref().ok().and_then(|value| Some(value.as_ref()?.len()));
        let text = value?.map(|value| escape(&value));
        let [partition, offset] = [place.0.into(), place.1.into()];
        listing.push(vec![partition, offset, row["_time"].clone(), row["_dead"].clone(), bytes.into(), text.into()]);
    }
    if format == OutputFormat::Table { Ok(()) } else { listing.print(format) }
}

fn print_letter(
    out: &mut impl Write,
    (partition, offset): (u32, u64),
    row: &Value,
    value: &Result<Option<Vec<u8>>, ClientError>,
) -> Result<(), Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    writeln!(out, "partition {partition}, offset {offset} · {}", text(&row["_time"]))?;
    writeln!(out, "  why    {}", text(&row["_dead"]))?;
    let shown = match value {
        Ok(Some(value)) => clip(&escape(value), value.len()),
        Ok(None) => "none: the record has no value".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    Ok(writeln!(out, "  value  {}\n", shown.replace('\n', "\n         "))?)
}

/// The value of one record, from the log.
async fn value(client: &Client, topic: &str, (partition, offset): (u32, u64)) -> Result<Option<Vec<u8>>, ClientError> {
    let options = ConsumerOptions {
        start: Start::Offset(Offset(offset)),
        partitions: Some(vec![PartitionId(partition)]),
        stop: Stop::AtEnd,
        max_bytes: 1,
        prefetch: 1,
        ..ConsumerOptions::default()
    };
    let records = client.consumer(topic, options).await?.next().await?.unwrap_or_default();
    let record = records.into_iter().find(|record| record.offset.0 == offset);
    Ok(record.and_then(|record| Some(record.value?.to_vec())))
}

async fn retry(client: &Client, format: OutputFormat, topic: &str) -> Result<(), Failure> {
    let done = client.retry_dead_letters(topic).await?;
    if format != OutputFormat::Table {
        let fields = [("tried", done.tried), ("mended", done.mended), ("dead", done.dead)];
        return print_object(format, &fields.map(|(key, value)| (key, value.into())).to_vec());
    }
    if done.tried == 0 {
        return Ok(writeln!(std::io::stdout(), "no record of {topic} is a dead letter: there is nothing to try")?);
    }
    let [tried, mended, dead] = [done.tried, done.mended, done.dead].map(human_count);
    let mut out = std::io::stdout();
    writeln!(out, "tried {tried} dead letters: {mended} are rows of their own now, {dead} are dead still")?;
    if done.dead > 0 {
        writeln!(out, "see why:              stratalog dead-letters list {topic}")?;
    }
    Ok(())
}

/// The rows of a statement over a topic whose answer is small, and what is to be said if they are not all.
///
/// # Errors
/// If there is no such topic, or it has no rows; those of the statement.
async fn rows(client: &Client, topic: &str, sql: &str) -> Result<(Vec<Value>, String), Failure> {
    // Asked before the statement, whose errors would point into text that the user did not write.
    if client.describe_topic(topic).await?.rows.is_none() {
        return Err(Failure::Refused(format!("topic {topic} has no dead letters: records of a raw topic are no rows")));
    }
    let (_, batches, stats) = client.sql(sql, &QueryOptions::default()).await?.collect().await?;
    let objects: Vec<_> = batches.iter().map(row_objects).collect::<Result<_, _>>()?;
    Ok((objects.into_iter().flatten().collect(), lag_note(&stats)))
}

/// Text as it is but for control characters, which could do something to a terminal, and what is not UTF-8.
fn escape(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' => text.push(c),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| _ = write!(text, "\\x{byte:02x}"));
    }
    text
}

fn clip(text: &str, bytes: usize) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}… ({bytes} bytes)", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_nothing_to_a_terminal() {
        assert_eq!(escape(b"a\x1b[2J\r\n\xff\xfeb\t\xc3\xa4"), "a\\u{1b}[2J\\r\n\\xff\\xfeb\t\u{e4}");
    }

    #[test]
    fn a_reason_is_text_and_nothing_else() {
        let wanted = Wanted { topic: "t", reason: Some("it's"), partition: Some(1), offset: Some(2) };
        let statement = wanted.statement(3).unwrap();
        assert!(statement.contains("strpos(_dead, 'it''s') > 0 AND _partition = 1 AND _offset = 2"), "{statement}");
        assert!(Wanted { topic: "t\"", ..wanted }.statement(3).is_err());
    }
}
