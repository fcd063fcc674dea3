//! The decoders of this room, as fuzz targets and for a short run of mutations in every test run.

mod files;
mod lanes;
mod manifests;
mod segments;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use stratalog_mutation::Decoder;

use crate::simulation::SimDisk;
use crate::{Io, write_durably};

pub use files::{STATE_FILE, VOTE};
pub use lanes::LANE;
pub use manifests::{ERASED, MANIFEST, SHARD_STATE};
pub use segments::{COL, REC};

/// All of them.
pub const DECODERS: &[Decoder] = &[REC, COL, LANE, VOTE, STATE_FILE, MANIFEST, SHARD_STATE, ERASED];

/// A disk in memory with one file.
fn disk_with(path: &Path, bytes: &[u8]) -> Arc<dyn Io> {
    let disk = SimDisk::new();
    disk.create_dir_all(path.parent().expect("a file lies in a directory")).expect("nothing fails here");
    write_durably(&disk, path, &[bytes]).expect("nothing fails here");
    Arc::new(disk)
}
