//! What a node's data lies on: a directory, a file system in memory that can be filled, or a device that can lose its power.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::loop_disk::LoopDisk;
use super::machine::system;

/// Megabytes for the log's files and its reserve, and for what is written in a minute.
const SMALL: (u64, u64) = (128, 128);

/// Where data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskKind {
    Directory,
    /// Needs root.
    Small,
    /// Needs root.
    Loop,
}

/// What a node has of its own.
#[derive(Debug)]
pub(crate) enum Disk {
    Directory,
    Small(SmallDisk),
    Loop(LoopDisk),
}

impl Disk {
    /// One at `home`, of `room` megabytes if it can be filled, and where the node's data goes on it.
    ///
    /// # Errors
    /// Why that cannot be had here.
    pub(super) fn make(kind: DiskKind, room: u64, home: &Path) -> Result<(Self, PathBuf), String> {
        match kind {
            DiskKind::Directory => Ok((Self::Directory, home.to_owned())),
            DiskKind::Small => Ok((Self::Small(SmallDisk::mount(home, room)?), home.to_owned())),
            DiskKind::Loop => {
                let disk = LoopDisk::mount(home)?;
                let data = disk.data();
                Ok((Self::Loop(disk), data))
            }
        }
    }
}

/// Megabytes of a disk that can be filled, and is not full of what a run of such a length writes.
pub(crate) fn room_for(length: Duration) -> u64 {
    SMALL.0 + SMALL.1 * length.as_secs().div_ceil(60)
}

/// A file system of its own at a node's data directory; dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// # Errors
    /// Why that cannot be had here.
    pub(super) fn mount(at: &Path, room: u64) -> Result<Self, String> {
        fs::create_dir_all(at).map_err(|error| format!("{}: {error}", at.display()))?;
        let path = at.to_str().ok_or("the path is not text")?;
        system("mount", &["-t", "tmpfs", "-o", &format!("size={room}m"), "stratalog-jepsen", path])?;
        Ok(Self(at.to_owned()))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Until nothing fits any more.
    ///
    /// # Errors
    /// If the ballast cannot be made.
    pub(crate) fn fill(&self) -> Result<(), String> {
        let mut ballast = File::create(self.ballast()).map_err(|error| error.to_string())?;
        let block = vec![7; 1 << 20];
        for bytes in [1 << 20, 64 << 10, 4 << 10] {
            while ballast.write_all(&block[..bytes]).is_ok() {}
        }
        Ok(())
    }

    /// # Errors
    /// If the ballast cannot be removed.
    pub(crate) fn empty(&self) -> Result<(), String> {
        fs::remove_file(self.ballast()).map_err(|error| error.to_string())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Processes that still use it keep it until they end.
        let _ = system("umount", &["--lazy", &self.0.to_string_lossy()]);
    }
}
