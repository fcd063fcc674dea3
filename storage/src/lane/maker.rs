//! Makes the files of a lane: in new space, or in the space of one that nobody needs any more.
//!
//! Either way a new file reads as zeroes behind its header. Recovery relies on that: what it finds behind the end of the
//! log is then a write that was cut short, or damage, and never something old.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::files::{LogFile, LogWriter};
use super::format::{FileHeader, file_name};
use super::options::reserve_of;
use crate::Io;
use crate::io::temporary_name;

/// What makes new files.
pub(super) struct Maker {
    pub(super) io: Arc<dyn Io>,
    pub(super) dir: PathBuf,
    pub(super) lane: u64,
    pub(super) file_bytes: u64,
    /// See [`super::LaneOptions::reserve_bytes`].
    pub(super) reserve_bytes: u64,
    /// How many files were made of old ones.
    pub(super) recycled: AtomicU64,
}

impl Maker {
    /// Makes a file whole and durable, now.
    pub(super) fn make(&self, number: u64, floor: u64, old: Option<&LogFile>) -> io::Result<LogWriter> {
        self.start(number, floor, old)?.finish(&*self.io, &self.dir)
    }

    /// Starts a file under its temporary name; of `old`, if there is one.
    pub(super) fn start(&self, number: u64, floor: u64, old: Option<&LogFile>) -> io::Result<LogWriter> {
        let header = FileHeader { lane: self.lane, number, file_bytes: self.file_bytes, floor };
        if let Some(recycled) = old.map(|old| self.recycle(header, old)).transpose()?.flatten() {
            return Ok(recycled);
        }
        self.check_room()?;
        LogWriter::start(&*self.io, &self.dir, header)
    }

    /// Gives back the space of a file that could not be made.
    pub(super) fn clean_up(&self, number: u64) {
        if let Err(error) = self.io.remove(&temporary_name(&self.dir.join(file_name(number)))) {
            tracing::debug!(%error, "a lane file that was not finished stays until the next start");
        }
    }

    /// Removes files that nobody needs, durably.
    pub(super) fn remove(&self, files: &[Arc<LogFile>]) -> io::Result<()> {
        files.iter().try_for_each(|log| self.io.remove(&log.path))?;
        self.io.sync_dir(&self.dir)
    }

    /// `None` where the file system cannot make zeroes of written space without writing it.
    fn recycle(&self, header: FileHeader, old: &LogFile) -> io::Result<Option<LogWriter>> {
        match LogWriter::recycle(&*self.io, &self.dir, header, old) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.clean_up(header.number);
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(started) => {
                self.recycled.fetch_add(1, Ordering::Relaxed);
                Ok(Some(started))
            }
        }
    }

    /// Bytes of the device that further files may take, in all.
    pub(super) fn growth_bytes(&self) -> io::Result<u64> {
        let space = self.io.space(&self.dir)?;
        Ok(space.free.saturating_sub(reserve_of(space, self.reserve_bytes)))
    }

    /// Refuses to take the last space of the device: rolling, which frees files of the log, needs some itself.
    fn check_room(&self) -> io::Result<()> {
        let space = self.io.space(&self.dir)?;
        let reserve = reserve_of(space, self.reserve_bytes);
        if space.free.saturating_sub(reserve) >= self.file_bytes {
            return Ok(());
        }
        let message = format!(
            "cannot make a log file of {} bytes in {}: {} bytes are free there, and {reserve} of them are kept for what \
             makes room again; free or add space",
            self.file_bytes,
            self.dir.display(),
            space.free,
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, message))
    }
}
