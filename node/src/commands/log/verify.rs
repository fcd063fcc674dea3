//! `stratalog verify` and `stratalog log verify`.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use stratalog_storage::RealDisk;
use stratalog_storage::inspect::{Depth, Finding, Report, Severity, verify};

use super::within;
use crate::cli::OutputFormat;
use crate::failure::Failure;
use crate::output::{Fields, Listing, human_bytes, human_count, print_object, say};

pub(super) fn run(format: OutputFormat, data: &Path, deep: bool) -> Result<(), Failure> {
    let depth = if deep { Depth::Deep } else { Depth::Log };
    let report = verify(&(Arc::new(RealDisk) as _), data, depth);
    let report = report.map_err(|error| Failure::io("look into", data.display(), &error))?;
    match format {
        OutputFormat::Table => print_for_people(data, &report)?,
        _ => print_object(format, &fields(data, &report))?,
    }
    if !deep && format == OutputFormat::Table {
        say!("segments were looked for and not read; --deep reads them")?;
    }
    if report.is_clean() {
        return Ok(());
    }
    let bad = report.findings.iter().filter(|finding| finding.severity != Severity::Note).count() as u64;
    let message = match bad + report.unlisted {
        1 => format!("one thing is damaged or missing in {}", data.display()),
        many => format!("{many} things are damaged or missing in {}", data.display()),
    };
    Err(Failure::Refused(message))
}

fn print_for_people(data: &Path, report: &Report) -> Result<(), Failure> {
    let counts = &report.counts;
    say!(
        "log:       {} frames in {} groups; files: {}, {}",
        human_count(counts.frames),
        human_count(counts.groups),
        counts.lane_files,
        human_bytes(counts.lane_bytes)
    )?;
    say!("votes:     {}", counts.votes)?;
    say!("states:    {}", counts.states)?;
    say!("segments:  {} for replay, {}", counts.replay_segments, human_bytes(counts.replay_bytes))?;
    say!("           {} of columns, {}", counts.column_segments, human_bytes(counts.column_bytes))?;
    if report.findings.is_empty() {
        return say!("nothing is damaged or missing");
    }
    let mut listing = Listing::new(&["severity", "file", "offset", "what"]);
    for finding in &report.findings {
        let file = within(data, &finding.path);
        listing.push(vec![
            name(finding.severity).into(),
            file.into(),
            finding.offset.into(),
            finding.what.clone().into(),
        ]);
    }
    listing.print(OutputFormat::Table)?;
    if report.unlisted > 0 {
        say!("and {} more", human_count(report.unlisted))?;
    }
    Ok(())
}

fn fields(data: &Path, report: &Report) -> Fields {
    let counts = &report.counts;
    vec![
        ("clean", report.is_clean().into()),
        ("lane_files", counts.lane_files.into()),
        ("lane_bytes", counts.lane_bytes.into()),
        ("groups", counts.groups.into()),
        ("frames", counts.frames.into()),
        ("batches", counts.batches.into()),
        ("votes", counts.votes.into()),
        ("states", counts.states.into()),
        ("replay_segments", counts.replay_segments.into()),
        ("replay_bytes", counts.replay_bytes.into()),
        ("column_segments", counts.column_segments.into()),
        ("column_bytes", counts.column_bytes.into()),
        ("shards", shards(report)),
        ("findings", report.findings.iter().map(|finding| object(data, finding)).collect()),
        ("unlisted_findings", report.unlisted.into()),
    ]
}

fn shards(report: &Report) -> Value {
    let object = |(shard, found): (&stratalog_proto::ShardId, &stratalog_storage::inspect::ShardSummary)| {
        json!({
            "shard": shard.0,
            "first_entry": found.log.map(|log| log.0.0),
            "last_entry": found.log.map(|log| log.1.0),
            "state": found.state.map(|index| index.0),
            "replay_frontier": found.frontier.map(|index| index.0),
        })
    };
    report.shards.iter().map(object).collect()
}

fn object(data: &Path, finding: &Finding) -> Value {
    json!({
        "severity": name(finding.severity),
        "file": within(data, &finding.path),
        "offset": finding.offset,
        "what": finding.what,
    })
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Missing => "missing",
        Severity::Damage => "damage",
    }
}
