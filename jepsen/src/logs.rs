//! What nodes wrote about themselves.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use chrono::DateTime;

use crate::history::Micros;

/// Lines of all nodes that are shown.
const MAX_LINES: usize = 8;
/// Before and behind, in milliseconds.
const AROUND_MS: i64 = 2_000;
const MAX_LINE_CHARS: usize = 240;

/// Warnings, errors and panics of all nodes of a run around two moments, in microseconds since it began.
pub(crate) fn around(run: &Path, started_ms: i64, first: Micros, last: Micros) -> Vec<String> {
    let millis = |at: Micros| started_ms.saturating_add((at / 1_000).try_into().unwrap_or(i64::MAX));
    let (from, to) = (millis(first).saturating_sub(AROUND_MS), millis(last).saturating_add(AROUND_MS));
    let mut found: Vec<(i64, String)> =
        log_files(run).into_iter().flat_map(|(node, file)| troubles(&node, file, from, to)).collect();
    found.sort();
    let skipped = found.len().saturating_sub(MAX_LINES);
    let mut lines: Vec<String> = found.into_iter().take(MAX_LINES).map(|(_, line)| line).collect();
    if skipped > 0 {
        lines.push(format!("… and {skipped} more lines of the nodes' logs"));
    }
    lines
}

/// Lines of all nodes of a run that tell of a panic.
pub(crate) fn panics(run: &Path) -> Vec<String> {
    let told = |(node, file): (String, File)| {
        let lines = BufReader::new(file).lines().map_while(Result::ok).filter(|line| line.contains("panicked at"));
        lines.map(|line| format!("{node}: {line}")).take(MAX_LINES).collect::<Vec<_>>()
    };
    log_files(run).into_iter().flat_map(told).collect()
}

/// The log of each node, by the node's name.
fn log_files(run: &Path) -> Vec<(String, File)> {
    let Ok(entries) = std::fs::read_dir(run) else { return Vec::new() };
    let named = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let node = path.file_stem()?.to_str()?.to_owned();
        if is_log { Some((node, File::open(&path).ok()?)) } else { None }
    });
    named.collect()
}

/// Lines that tell of trouble in a time, with that time. A line without one belongs to the line before it.
fn troubles(node: &str, file: File, from: i64, to: i64) -> Vec<(i64, String)> {
    let signs = [" WARN ", " ERROR ", "panicked", "error: "];
    let mut at = i64::MIN;
    let mut found = Vec::new();
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        at = time_of(&line).unwrap_or(at);
        if (from..=to).contains(&at) && signs.iter().any(|sign| line.contains(sign)) {
            found.push((at, format!("{node}: {}", line.chars().take(MAX_LINE_CHARS).collect::<String>())));
        }
    }
    found
}

/// Milliseconds since the epoch of the RFC 3339 time that a line begins with.
fn time_of(line: &str) -> Option<i64> {
    let first = line.split_whitespace().next()?;
    Some(DateTime::parse_from_rfc3339(first).ok()?.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_around_a_moment_are_found_in_order() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
        write(
            "node1.log",
            "2026-01-01T00:00:10.500Z  WARN a\nthread x panicked at y\n2026-01-01T00:00:30Z ERROR late\n",
        );
        write("node2.log", "2026-01-01T00:00:09Z ERROR b\n2026-01-01T00:00:09Z  INFO c\n");
        write("history.jsonl", "2026-01-01T00:00:09Z ERROR d\n");
        let started = DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().timestamp_millis();
        let found = around(home.path(), started, 10_000_000, 11_000_000);
        let expected = [
            "node2: 2026-01-01T00:00:09Z ERROR b",
            "node1: 2026-01-01T00:00:10.500Z  WARN a",
            "node1: thread x panicked at y",
        ];
        assert_eq!(found, expected);
        assert_eq!(panics(home.path()), ["node1: thread x panicked at y"]);
    }
}
