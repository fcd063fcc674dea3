//! Column segments and replay segments.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Depth;
use super::lanes::Removed;
use super::report::{Finding, Report, Severity};
use super::states::{Named, States, shard_dirs};
use crate::col::{ColError, ColReader};
use crate::{Io, RecReader};

pub(super) fn verify(
    io: &Arc<dyn Io>,
    dir: &Path,
    depth: Depth,
    states: &States,
    removed: &Removed,
    report: &mut Report,
) -> io::Result<()> {
    for (shard, dir) in shard_dirs(&**io, dir)? {
        let dir = dir.join("segments");
        let named: BTreeMap<String, Named> = states
            .get(shard)
            .into_iter()
            .flat_map(|state| state.names())
            .map(|named| (named.file_name(), named))
            .collect();
        let names = if io.exists(&dir)? { io.list(&dir)? } else { Vec::new() };
        for (name, named) in named.iter().filter(|(name, _)| names.binary_search(name).is_err()) {
            if !is_removed(named, removed) {
                let what = format!("the state of shard {shard} names it, and it is not there");
                report.add(Finding { severity: Severity::Missing, path: dir.join(name), offset: None, what });
            }
        }
        for name in &names {
            segment(io, &dir.join(name), depth, named.get(name), report);
        }
    }
    Ok(())
}

/// Whether a command behind the state may have removed it. A replay segment goes when the records of its topics do.
fn is_removed(named: &Named, removed: &Removed) -> bool {
    removed.segments.contains(&named.id) || named.topics.iter().any(|topic| removed.topics.contains(topic))
}

fn segment(io: &Arc<dyn Io>, path: &Path, depth: Depth, named: Option<&Named>, report: &mut Report) {
    let checked = match path.extension().and_then(|extension| extension.to_str()) {
        Some("col") => column_segment(io, path, depth, named).map(|bytes| {
            report.counts.column_segments += 1;
            report.counts.column_bytes += bytes;
        }),
        Some("rec") => replay_segment(io, path, depth, named).map(|bytes| {
            report.counts.replay_segments += 1;
            report.counts.replay_bytes += bytes;
        }),
        _ => {
            return report.note(
                path,
                None,
                "it is no segment: one that was never finished is cleared away at the next start",
            );
        }
    };
    if let Err(what) = checked {
        report.damage(path, None, what);
    }
}

/// Returns the bytes of the file.
fn column_segment(io: &Arc<dyn Io>, path: &Path, depth: Depth, named: Option<&Named>) -> Result<u64, String> {
    let reader = ColReader::open(Arc::clone(io), path).map_err(|error| error.to_string())?;
    check_length(reader.len(), named)?;
    let checked = match (depth, named) {
        (Depth::Log, _) => Ok(()),
        (Depth::Deep, Some(named)) => reader.verify_against(&named.blake3).and_then(|()| decode(&reader)),
        (Depth::Deep, None) => reader.verify().and_then(|()| decode(&reader)),
    };
    checked.map(|()| reader.len()).map_err(|error| error.to_string())
}

/// Makes every value of a column segment once.
fn decode(reader: &ColReader) -> Result<(), ColError> {
    let columns = 0..reader.schema().fields().len();
    columns
        .flat_map(|column| (0..reader.granules()).map(move |granule| (column, granule)))
        .try_for_each(|(column, granule)| reader.read(column, granule).map(drop))
}

/// Returns the bytes of the file.
fn replay_segment(io: &Arc<dyn Io>, path: &Path, depth: Depth, named: Option<&Named>) -> Result<u64, String> {
    let reader = RecReader::open(Arc::clone(io), path).map_err(|error| error.to_string())?;
    check_length(reader.len(), named)?;
    if depth == Depth::Deep {
        let meta = reader.verify().map_err(|error| error.to_string())?;
        if named.is_some_and(|named| named.blake3 != meta.blake3) {
            return Err("it is whole, and not the file that the state names: its hash is another".to_owned());
        }
    }
    Ok(reader.len())
}

fn check_length(bytes: u64, named: Option<&Named>) -> Result<(), String> {
    match named.filter(|named| named.bytes != bytes) {
        Some(named) => Err(format!("it has {bytes} bytes, the state names {}", named.bytes)),
        None => Ok(()),
    }
}
