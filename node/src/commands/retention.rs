//! `stratalog retention`.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use super::segments::listing;
use crate::cli::{Global, OutputFormat, Retention};
use crate::failure::Failure;
use crate::output::{human_bytes, human_count, human_duration};
use crate::times::parse_time_ns;

pub(super) async fn run(global: &Global, command: &Retention) -> Result<(), Failure> {
    let Retention::Drop { topic, before, dry_run } = command;
    let before_ns = parse_time_ns(before)?;
    let dropped = global.client().await?.drop_before(topic, before_ns, *dry_run).await?;
    let segments = listing(&dropped.dropped);
    let mut out = std::io::stdout();
    match global.format() {
        OutputFormat::Table => {
            if !dropped.dropped.is_empty() {
                segments.print(OutputFormat::Table)?;
            }
            let verb = if *dry_run { "would drop" } else { "dropped" };
            let (count, rows, bytes) = (dropped.dropped.len(), human_count(dropped.rows), human_bytes(dropped.bytes));
            write!(out, "{verb} {count} segments, {rows} rows, {bytes}")?;
            match dry_run {
                true => writeln!(out)?,
                false => writeln!(out, " in {}", human_duration(Duration::from_micros(dropped.elapsed_us)))?,
            }
        }
        OutputFormat::Json | OutputFormat::Ndjson => {
            let object = json!({
                "dry_run": dry_run,
                "rows": dropped.rows,
                "bytes": dropped.bytes,
                "elapsed_us": dropped.elapsed_us,
                "segments": segments.objects(),
            });
            match global.format() {
                OutputFormat::Json => writeln!(out, "{object:#}")?,
                _ => writeln!(out, "{object}")?,
            }
        }
        OutputFormat::Csv => segments.print(OutputFormat::Csv)?,
    }
    Ok(())
}
