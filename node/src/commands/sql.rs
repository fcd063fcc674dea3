//! `stratalog sql`, and printing any answer that streams in.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

use stratalog_client::{Client, QueryOptions, QueryStream};
use stratalog_proto::v1;

use super::repl;
use crate::cli::{Global, OutputFormat, Sql};
use crate::failure::Failure;
use crate::output::{RowPrinter, human_bytes, human_count, human_duration};
use crate::times::parse_duration;

pub(super) async fn run(global: &Global, command: &Sql) -> Result<(), Failure> {
    let timeout = command.timeout.as_deref().map(parse_duration).transpose()?.map(Duration::from_nanos);
    let options = QueryOptions { timeout, ..QueryOptions::default() };
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
    print_answer(format, client.sql(query, options).await?).await
}

/// Prints the rows as they come and then, for people, what the answer cost.
///
/// # Errors
/// What the query failed with, also after its first rows.
pub(crate) async fn print_answer(format: OutputFormat, mut answer: QueryStream) -> Result<(), Failure> {
    let mut printer = RowPrinter::new(format, answer.schema().await?);
    while let Some(batch) = answer.next().await? {
        printer.print(&batch)?;
    }
    printer.finish()?;
    if let (OutputFormat::Table, Some(stats)) = (format, answer.stats()) {
        writeln!(std::io::stdout(), "{}", stats_line(stats))?;
    }
    Ok(())
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
    )
}

fn read_query(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return read.map(|_| text).map_err(|error| Failure::io("read the query from", "standard input", &error));
    }
    std::fs::read_to_string(path).map_err(|error| Failure::io("read the query file", path.display(), &error))
}
