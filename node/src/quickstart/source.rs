//! Where the tour's records come from: generated, or the user's file.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use bytes::Bytes;

use super::generate::Events;
use crate::cli::Quickstart;
use crate::failure::Failure;
use crate::times::now_ns;

const HOUR_NS: i64 = 3_600_000_000_000;
/// The hours that generated events span, ending with the last full hour.
const HOURS: i64 = 6;

/// The records of a tour.
pub(super) enum Source {
    /// `count` events over the six full hours before now.
    Generated { count: u64, start_ns: i64, end_ns: i64 },
    /// A file of NDJSON.
    File { path: PathBuf, time_field: Option<String> },
}

/// One record to produce.
pub(super) struct SourceRecord {
    pub(super) key: Option<Bytes>,
    pub(super) value: Bytes,
}

impl Source {
    /// The source that the flags ask for.
    ///
    /// # Errors
    /// If the user's file cannot be read.
    pub(super) fn new(flags: &Quickstart) -> Result<Self, Failure> {
        if let Some(path) = &flags.input {
            std::fs::File::open(path).map_err(|error| Failure::io("open", path.display(), &error))?;
            return Ok(Source::File { path: path.clone(), time_field: flags.time_field.clone() });
        }
        let end_ns = now_ns() / HOUR_NS * HOUR_NS;
        Ok(Source::Generated { count: flags.events, start_ns: end_ns - HOURS * HOUR_NS, end_ns })
    }

    /// What the topic's `time.field` is set to.
    pub(super) fn time_field(&self) -> Option<&str> {
        match self {
            Source::Generated { .. } => Some("ts"),
            Source::File { time_field, .. } => time_field.as_deref(),
        }
    }

    /// How many records there are, if that is known.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Source::Generated { count, .. } => Some(*count),
            Source::File { .. } => None,
        }
    }

    /// The records, in order. Blank lines of a file are skipped.
    ///
    /// # Errors
    /// If the file cannot be opened; each record, if it cannot be read.
    pub(super) fn records(&self) -> Result<Box<dyn Iterator<Item = Result<SourceRecord, Failure>> + Send>, Failure> {
        match self {
            Source::Generated { count, start_ns, end_ns } => {
                let events = Events::new(*count, *start_ns, *end_ns);
                let record = |event: super::generate::Event| SourceRecord {
                    key: Some(event.key.into()),
                    value: event.value.into(),
                };
                Ok(Box::new(events.map(record).map(Ok)))
            }
            Source::File { path, .. } => {
                let file = std::fs::File::open(path).map_err(|error| Failure::io("open", path.display(), &error))?;
                let name = path.display().to_string();
                let lines = BufReader::with_capacity(1 << 20, file).split(b'\n');
                let record = move |line: std::io::Result<Vec<u8>>| match line {
                    Ok(line) if line.trim_ascii().is_empty() => None,
                    Ok(line) => Some(Ok(SourceRecord { key: None, value: line.into() })),
                    Err(error) => Some(Err(Failure::io("read", &name, &error))),
                };
                Ok(Box::new(lines.filter_map(record)))
            }
        }
    }
}
