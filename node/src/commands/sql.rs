//! `stratalog sql`, and printing any answer that streams in.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

use stratalog_client::{Client, Parameter, QueryOptions, QueryStream};
use stratalog_proto::v1;

use super::{dead_letter_note, repl};
use crate::cli::{Global, OutputFormat, Sql};
use crate::failure::Failure;
use crate::output::{RowPrinter, human_bytes, human_count, human_duration};
use crate::times::{parse_duration, parse_time_ns};

pub(super) async fn run(global: &Global, command: &Sql) -> Result<(), Failure> {
    let timeout = command.timeout.as_deref().map(parse_duration).transpose()?.map(Duration::from_nanos);
    let parameters = command.parameters.iter().map(|text| parameter(text)).collect::<Result<_, _>>()?;
    let options = QueryOptions { timeout, parameters, ..QueryOptions::default() };
    let query = match (&command.query, &command.file) {
        (Some(query), _) => query.clone(),
        (None, Some(path)) => read_query(path)?,
        (None, None) if std::io::stdin().is_terminal() => {
            return repl::run(global.client().await?, global.format(), options).await;
        }
        (None, None) => read_query(Path::new("-"))?,
    };
    execute(&global.client().await?, global.format(), &query, &options).await
}

/// Runs one statement and prints its answer.
pub(super) async fn execute(
    client: &Client,
    format: OutputFormat,
    query: &str,
    options: &QueryOptions,
) -> Result<(), Failure> {
    let printed = print_answer(format, client.sql(query, options).await?).await?;
    if printed.has_bare_row {
        dead_letter_note::tell(client, &printed.dead_letter_topics).await;
    }
    Ok(())
}

/// An answer that was printed for people. Of others nothing is noted, since nothing is told beside them.
#[derive(Default)]
pub(crate) struct Printed {
    pub(super) rows: u64,
    /// Some row shows where it is and nothing else.
    pub(super) has_bare_row: bool,
    /// Topics that were read, and have dead letters.
    pub(super) dead_letter_topics: Vec<String>,
}

/// Prints the rows as they come and then, for people, what the answer cost.
///
/// # Errors
/// What the query failed with, also after its first rows.
pub(crate) async fn print_answer(format: OutputFormat, mut answer: QueryStream) -> Result<Printed, Failure> {
    let mut printer = RowPrinter::new(format, answer.schema().await?);
    let mut has_bare_row = false;
    while let Some(batch) = answer.next().await? {
        has_bare_row |= format == OutputFormat::Table && dead_letter_note::has_bare_row(&batch);
        printer.print(&batch)?;
    }
    printer.finish()?;
    let (OutputFormat::Table, Some(stats)) = (format, answer.stats()) else { return Ok(Printed::default()) };
    writeln!(std::io::stdout(), "{}", stats_line(stats))?;
    let dead_letter_topics = stats.dead_letter_topics.clone();
    Ok(Printed { rows: stats.rows_returned, has_bare_row, dead_letter_topics })
}

/// What an answer cost, in one line for people.
pub(crate) fn stats_line(stats: &v1::QueryStats) -> String {
    let rows = if stats.rows_returned == 1 { "row" } else { "rows" };
    format!(
        "{} {rows} in {} · scanned {} rows, {} · pruned {} of {} segments, {} of {} granules · {} rows from the tail",
        human_count(stats.rows_returned),
        human_duration(Duration::from_micros(stats.elapsed_us)),
        human_count(stats.rows_scanned),
        human_bytes(stats.bytes_scanned),
        stats.segments_pruned,
        stats.segments_total,
        stats.granules_pruned,
        stats.granules_total,
        human_count(stats.tail_rows),
    ) + &match stats.spilled_bytes {
        0 => String::new(),
        bytes => format!(" · {} through the disk", human_bytes(bytes)),
    } + &lag_note(stats)
}

/// What is said of an answer that did not see everything; nothing if it did.
pub(crate) fn lag_note(stats: &v1::QueryStats) -> String {
    match stats.fences.iter().map(|fence| fence.lag).sum::<u64>() {
        0 => String::new(),
        lag => format!(" · {} log entries are not rows yet: ask again for them", human_count(lag)),
    }
}

/// Reads a parameter: `TYPE:VALUE`, or a value that says what it is.
fn parameter(text: &str) -> Result<Parameter, Failure> {
    let Some((name, value)) = text.split_once(':') else { return plain_parameter(text) };
    let parsed = match name {
        "text" => Some(Parameter::from(value)),
        "boolean" => value.parse().ok().map(Parameter::Boolean),
        "bigint" => value.parse().ok().map(Parameter::Bigint),
        "double" => value.parse().ok().map(Parameter::Double),
        "timestamp" => return parse_time_ns(value).map(Parameter::Timestamp),
        // A colon of the value itself.
        _ => return plain_parameter(text),
    };
    parsed.ok_or_else(|| Failure::Usage(format!("--param {text}: `{value}` is not a {name}")))
}

fn plain_parameter(text: &str) -> Result<Parameter, Failure> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_integer && text.parse::<i64>().is_err() {
        let message =
            format!("--param {text}: an integer has 64 bits; say what it is with text:{text} or double:{text}");
        return Err(Failure::Usage(message));
    }
    let number = text.parse().map(Parameter::Bigint).or_else(|_| match text.parse::<f64>() {
        // Words that Rust reads as floats are words.
        Ok(float) if text.contains(|c: char| c.is_ascii_digit()) => Ok(Parameter::Double(float)),
        _ => Err(()),
    });
    Ok(match text {
        "null" => Parameter::Null,
        "true" | "false" => Parameter::Boolean(text == "true"),
        _ => number.unwrap_or_else(|()| Parameter::from(text)),
    })
}

fn read_query(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return read.map(|_| text).map_err(|error| Failure::io("read the query from", "standard input", &error));
    }
    std::fs::read_to_string(path).map_err(|error| Failure::io("read the query file", path.display(), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_says_what_it_is_or_is_told() {
        let cases = [
            ("null", Parameter::Null),
            ("true", true.into()),
            ("-42", (-42).into()),
            ("1.5", 1.5.into()),
            ("inf", "inf".into()),
            ("it's", "it's".into()),
            ("text:42", "42".into()),
            ("bigint:42", 42.into()),
            ("double:42", 42.0.into()),
            ("timestamp:1970-01-01T00:00:01Z", Parameter::Timestamp(1_000_000_000)),
            ("http://x", "http://x".into()),
        ];
        for (text, expected) in cases {
            assert_eq!(parameter(text).unwrap(), expected, "{text}");
        }
        for text in
            ["bigint:x", "boolean:2", "double:x", "timestamp:yesterday", "9223372036854775808", "-99999999999999999999"]
        {
            parameter(text).unwrap_err();
        }
    }
}
