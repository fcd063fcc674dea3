//! Looks at a data directory without a node: what is in its log, and whether every file is what was written.
//!
//! Nothing is changed, and nothing is believed before it was checked (X1). Nothing larger than one entry of the log, one
//! state or one block of a segment is held in memory. A node must not use the directory meanwhile; locking it is the
//! caller's business.

mod accept;
mod lanes;
mod report;
mod segments;
mod spans;
mod states;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::lane::walk::{LaneEvent, WholeFrame, walk};
use crate::{Io, RecoveredFrame};

pub use accept::accept_ends;
pub use report::{Counts, Finding, Report, Severity, ShardSummary};

/// How much [`verify`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// All of the log, votes and state files; of segments only what tells what they hold.
    Log,
    /// Also every block of every segment, every value of column segments, and every record batch in the log and in replay
    /// segments.
    Deep,
}

/// Checks all files of a data directory.
///
/// ```no_run
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use stratalog_storage::RealDisk;
/// use stratalog_storage::inspect::{Depth, verify};
///
/// let report = verify(&(Arc::new(RealDisk) as _), Path::new("/var/lib/stratalog"), Depth::Log)?;
/// for finding in &report.findings {
///     println!("{}: {}", finding.path.display(), finding.what);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// If it is no data directory, or directories cannot be listed. What is wrong with a file is a finding.
pub fn verify(io: &Arc<dyn Io>, dir: &Path, depth: Depth) -> io::Result<Report> {
    check_is_data(&**io, dir)?;
    let mut report = Report::default();
    let states = states::verify(io, dir, &mut report)?;
    let removed = lanes::verify(io, dir, depth, &states, &mut report)?;
    segments::verify(io, dir, depth, &states, &removed, &mut report)?;
    Ok(report)
}

/// A frame of the log whose checksums match.
pub struct DumpedFrame<'a>(WholeFrame<'a>);

impl DumpedFrame<'_> {
    /// The file that it is in.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Its header.
    pub fn frame(&self) -> &RecoveredFrame {
        &self.0.frame
    }

    /// Its payload.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn payload(&self) -> io::Result<Bytes> {
        self.0.payload()
    }
}

/// Hands out every whole frame of the log, in its order, until `each` ends it; also those behind damage. Returns the
/// number of places that are damaged, as far as it came.
///
/// # Errors
/// If it is no data directory, or directories cannot be listed.
pub fn dump(io: &dyn Io, dir: &Path, each: &mut dyn FnMut(DumpedFrame<'_>) -> ControlFlow<()>) -> io::Result<u64> {
    check_is_data(io, dir)?;
    let (mut damaged, mut told) = (0, ControlFlow::Continue(()));
    for lane in lanes::dirs(io, dir)? {
        walk(io, &lane, &mut |event| {
            match event {
                LaneEvent::Frame(frame) => told = each(DumpedFrame(frame)),
                LaneEvent::Broken(_) => damaged += 1,
                _ => {}
            }
            told
        })?;
        if told.is_break() {
            break;
        }
    }
    Ok(damaged)
}

fn check_is_data(io: &dyn Io, dir: &Path) -> io::Result<()> {
    if io.exists(&dir.join("lanes"))? {
        return Ok(());
    }
    let message = format!("{} is no data directory of a node: it has no `lanes`", dir.display());
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}
