//! Whether everything that a backup names is there, and is what was stored.

use std::collections::HashSet;

use futures::stream::{self, StreamExt};
use object_store::path::Path;
use stratalog_proto::{Code, Error};

use crate::blob::Blob;
use crate::names;
use crate::stored::Stored;

/// Objects that are read at the same time.
const READS: usize = 4;
/// The most findings that are listed.
const MAX_FINDINGS: usize = 100;
/// Objects one after the other that cannot be read: then it is the store, and not the objects.
const MAX_FAILURES: u32 = 8;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Objects that the backup names; what several shards share is one.
    pub objects: u64,
    /// Bytes that they have to have.
    pub bytes: u64,
    /// What is wrong, the first hundred.
    pub findings: Vec<Finding>,
    /// How much more is wrong.
    pub unlisted: u64,
}

/// An object that cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Below the place.
    pub object: String,
    /// In what way.
    pub fault: Fault,
    /// In words.
    pub what: String,
}

/// In what way an object cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It is not what was stored.
    Damaged,
    /// The store or the disk does not give it.
    Unreadable,
}

impl Checked {
    /// Whether all of it can be restored.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Reads everything that a backup names. `progress` is called with bytes as they come.
///
/// # Errors
/// Those of the store, where many objects one after the other cannot be read.
pub async fn check(stored: &Stored, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<Checked, Error> {
    let objects = objects(stored);
    let mut checked = Checked {
        objects: objects.len() as u64,
        bytes: objects.iter().fold(0, |all, (_, blob)| blob.bytes.saturating_add(all)),
        ..Checked::default()
    };
    let read = objects.into_iter().map(|(path, blob)| async move {
        let found = read(stored, &path, blob, progress).await;
        (path, found)
    });
    let mut found = stream::iter(read).buffered(READS);
    let mut failures = 0;
    while let Some((path, found)) = found.next().await {
        let fault = match found {
            Ok(()) => None,
            Err((Fault::Unreadable, error)) if failures + 1 == MAX_FAILURES => return Err(error),
            Err(fault) => Some(fault),
        };
        failures = if matches!(fault, Some((Fault::Unreadable, _))) { failures + 1 } else { 0 };
        let Some((fault, error)) = fault else { continue };
        if checked.findings.len() < MAX_FINDINGS {
            checked.findings.push(Finding { object: path.to_string(), fault, what: error.message });
        } else {
            checked.unlisted += 1;
        }
    }
    Ok(checked)
}

/// Each object once, in the order in which a restore reads them.
fn objects(stored: &Stored) -> Vec<(Path, Blob)> {
    let manifest = stored.manifest();
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for part in manifest.parts() {
        all.push((names::state(&manifest.id, part.shard), part.state));
        all.push((names::log(&manifest.id, part.shard), part.log));
        for segment in &part.segments {
            let blob = Blob { bytes: segment.bytes, blake3: segment.blake3 };
            // Two sizes for one hash cannot both be right.
            if seen.insert((segment.blake3, segment.bytes)) {
                all.push((names::segment(segment.blake3), blob));
            }
        }
    }
    all.retain(|(_, blob)| blob.bytes > 0);
    all
}

async fn read(
    stored: &Stored,
    path: &Path,
    blob: Blob,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), (Fault, Error)> {
    let target = stored.target();
    let unreadable = |error: Error| (Fault::Unreadable, error);
    match target.size(path).await.map_err(unreadable)? {
        None => return Err((Fault::Missing, Error::new(Code::CorruptData, "it is missing"))),
        Some(size) if size != blob.bytes => {
            let what = format!("it has {size} bytes and not {}", blob.bytes);
            return Err((Fault::Damaged, Error::new(Code::CorruptData, what)));
        }
        Some(_) => {}
    }
    let mut pieces = stored.pieces(path.clone(), blob).await.map_err(unreadable)?;
    loop {
        match pieces.next().await {
            Ok(Some(piece)) => progress(piece.len() as u64),
            Ok(None) => return Ok(()),
            Err(error) if error.code == Code::CorruptData => {
                let what = "its bytes are not those that were stored";
                return Err((Fault::Damaged, Error::new(Code::CorruptData, what)));
            }
            Err(error) => return Err(unreadable(error)),
        }
    }
}
