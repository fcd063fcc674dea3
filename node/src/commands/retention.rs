//! `stratalog retention`.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use stratalog_proto::v1;

use super::segments::listing;
use crate::cli::{Global, OutputFormat, Retention};
use crate::failure::Failure;
use crate::output::{Listing, human_bytes, human_count, human_duration};
use crate::times::parse_time_ns;

pub(super) async fn run(global: &Global, command: &Retention) -> Result<(), Failure> {
    match command {
        Retention::Drop { topic, before, dry_run } => {
            let before_ns = parse_time_ns(before)?;
            let dropped = global.client().await?.drop_before(topic, before_ns, *dry_run).await?;
            print(global, &dropped, *dry_run)
        }
        Retention::Apply { topic, dry_run } => {
            let dropped = global.client().await?.apply_retention(topic, *dry_run).await?;
            print(global, &dropped, *dry_run)
        }
        Retention::DeleteRecords { topic, partitions, before } => {
            delete_records(global, topic, partitions, *before).await
        }
    }
}

async fn delete_records(global: &Global, topic: &str, partitions: &[u32], before: u64) -> Result<(), Failure> {
    let client = global.client().await?;
    let partitions = match partitions {
        [] => client.describe_topic(topic).await?.partitions.iter().map(|partition| partition.partition).collect(),
        some => some.to_vec(),
    };
    let before: Vec<(u32, u64)> = partitions.into_iter().map(|partition| (partition, before)).collect();
    let mut listing = Listing::new(&["partition", "log_start"]);
    for (partition, log_start) in client.delete_records(topic, &before).await? {
        listing.push(vec![partition.into(), log_start.into()]);
    }
    listing.print(global.format())
}

fn print(global: &Global, dropped: &v1::DropBeforeResponse, dry_run: bool) -> Result<(), Failure> {
    let segments = listing(&dropped.dropped);
    let mut out = std::io::stdout();
    match global.format() {
        OutputFormat::Table => {
            if !dropped.dropped.is_empty() {
                segments.print(OutputFormat::Table)?;
            }
            summary(dropped, dry_run).iter().try_for_each(|line| writeln!(out, "{line}"))?;
        }
        OutputFormat::Json => writeln!(out, "{:#}", object(dropped, &segments, dry_run))?,
        OutputFormat::Ndjson => writeln!(out, "{}", object(dropped, &segments, dry_run))?,
        OutputFormat::Csv => segments.print(OutputFormat::Csv)?,
    }
    Ok(())
}

/// What went, or would go, in a few lines.
fn summary(dropped: &v1::DropBeforeResponse, dry_run: bool) -> Vec<String> {
    let verb = if dry_run { "would drop" } else { "dropped" };
    let took = if dry_run {
        String::new()
    } else {
        format!(" in {}", human_duration(Duration::from_micros(dropped.elapsed_us)))
    };
    let (count, rows, bytes) = (dropped.dropped.len(), human_count(dropped.rows), human_bytes(dropped.bytes));
    let mut lines = vec![format!("{verb} {count} segments, {rows} rows, {bytes}{took}")];
    if dropped.tail_rows > 0 {
        let rows = human_count(dropped.tail_rows);
        lines.push(format!("and {rows} rows that are not in a segment yet"));
    }
    if !dropped.log_starts.is_empty() {
        let verb = if dry_run { "would begin" } else { "begins" };
        let (count, bytes) = (dropped.log_starts.len(), human_bytes(dropped.log_bytes));
        lines.push(format!("the log {verb} later in {count} partitions, which gives back {bytes} of it"));
    }
    lines
}

fn object(dropped: &v1::DropBeforeResponse, segments: &Listing, dry_run: bool) -> Value {
    let log_start = |of: &v1::PartitionOffset| json!({"partition": of.partition, "offset": of.offset});
    json!({
        "dry_run": dry_run,
        "rows": dropped.rows,
        "bytes": dropped.bytes,
        "log_bytes": dropped.log_bytes,
        "log_starts": dropped.log_starts.iter().map(log_start).collect::<Vec<_>>(),
        "tail_rows": dropped.tail_rows,
        "elapsed_us": dropped.elapsed_us,
        "segments": segments.objects(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_comes_back_and_what_is_not_sealed() {
        let log_starts = vec![v1::PartitionOffset { partition: 0, offset: 7 }];
        let dropped =
            v1::DropBeforeResponse { rows: 3, bytes: 10, log_bytes: 5, log_starts, tail_rows: 2, ..<_>::default() };
        let lines = summary(&dropped, true);
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("would drop 0 segments, 3 rows"), "{lines:?}");
        assert!(lines[1].contains("2 rows") && lines[2].contains("1 partitions"), "{lines:?}");
        assert_eq!(summary(&v1::DropBeforeResponse::default(), false).len(), 1);
    }
}
