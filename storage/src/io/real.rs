//! The real disk: plain files, `pread` and `pwritev`.
//!
//! Nothing is mapped into memory: a medium error in a mapping is SIGBUS, which no caller can answer for.

use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::durable::parent_of;
use super::error::named;
use super::{File, Io, OpenMode};

/// Views longer than this are checked against the file's length before memory is taken for them (X1).
const UNCHECKED_VIEW_BYTES: u64 = 1 << 20;
/// Bytes a write of zeroes hands over at a time, where the file system cannot preallocate.
const ZEROES: &[u8] = &[0; 1 << 16];
/// The most slices one `pwritev` takes (IOV_MAX on Linux).
const MAX_SLICES: usize = 1024;

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Io for RealDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = parent_of(path);
        self.create_dir_all(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(named(error, || format!("cannot create the directory {}", path.display())))
            }
            _ => self.sync_dir(parent),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let listed = fs::read_dir(dir).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<Vec<_>>>()
        });
        let mut names = listed.map_err(|e| named(e, || format!("cannot list the directory {}", dir.display())))?;
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read);
        match mode {
            OpenMode::Read | OpenMode::Write => {}
            OpenMode::CreateNew => {
                options.create_new(true);
            }
            OpenMode::CreateOrTruncate => {
                options.create(true).truncate(true);
            }
        }
        let file = options.open(path).map_err(|e| named(e, || format!("cannot open {}", path.display())))?;
        Ok(Arc::new(RealFile { file, path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(|e| named(e, || format!("cannot rename {} to {}", from.display(), to.display())))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(|e| named(e, || format!("cannot remove {}", path.display())))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|e| named(e, || format!("cannot sync the directory {}", dir.display())))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists().map_err(|e| named(e, || format!("cannot look for {}", path.display())))
    }
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    path: PathBuf,
}

impl RealFile {
    fn named(&self, error: io::Error, what: &str) -> io::Error {
        named(error, || format!("cannot {what} {}", self.path.display()))
    }

    fn beyond_end(&self, range: &Range<u64>) -> io::Error {
        let message =
            format!("cannot read bytes {}..{} of {}: it is shorter", range.start, range.end, self.path.display());
        io::Error::new(io::ErrorKind::UnexpectedEof, message)
    }

    /// One `pwritev`; returns how many bytes it took.
    fn write_some(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let count = parts.len().min(MAX_SLICES);
        // SAFETY: IoSlice has the layout of iovec on Unix; `parts` holds at least `count` of them, each borrowed from live
        // memory for the time of the call; the descriptor is open while `self.file` is.
        let written = unsafe {
            libc::pwritev(self.file.as_raw_fd(), parts.as_ptr().cast::<libc::iovec>(), count as libc::c_int, offset)
        };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    /// Appends zeroes up to `len`: for file systems without preallocation.
    fn fill_to(&self, len: u64) -> io::Result<()> {
        let mut end = self.file.metadata()?.len();
        while end < len {
            let step = (len - end).min(ZEROES.len() as u64);
            self.file.write_all_at(&ZEROES[..step as usize], end)?;
            end += step;
        }
        Ok(())
    }
}

impl File for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| self.named(e, &format!("write {} bytes at {offset} of", bytes.len())))
    }

    fn write_vectored_at(&self, mut offset: u64, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        // Drops empty slices in front, so that a short count can only mean a short write.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let written = match self.write_some(offset, parts) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                other => other,
            };
            let written = written.map_err(|e| self.named(e, &format!("write at {offset} of")))?;
            offset += written as u64;
            IoSlice::advance_slices(&mut parts, written);
        }
        Ok(())
    }

    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        let len = range.end.saturating_sub(range.start);
        let suspicious = len > UNCHECKED_VIEW_BYTES || i64::try_from(range.end).is_err();
        if suspicious && range.end > self.len()? {
            return Err(self.beyond_end(&range));
        }
        let mut buffer = vec![0; usize::try_from(len).map_err(|_| self.beyond_end(&range))?];
        match self.file.read_exact_at(&mut buffer, range.start) {
            Ok(()) => Ok(buffer.into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.beyond_end(&range)),
            Err(error) => Err(self.named(error, &format!("read bytes {}..{} of", range.start, range.end))),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(|e| self.named(e, "stat"))?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let end = libc::off_t::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: plain integers and a descriptor that is open while `self.file` is.
        let answer = unsafe { libc::fallocate(self.file.as_raw_fd(), 0, 0, end) };
        let result = match answer {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => self.fill_to(len),
                error => Err(error),
            },
        };
        result.map_err(|e| self.named(e, &format!("allocate {len} bytes for")))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|e| self.named(e, "sync"))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all().map_err(|e| self.named(e, "sync"))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(|e| self.named(e, &format!("set the length {len} of")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::suite;

    #[test]
    fn real_disk_passes_the_suite() {
        let dir = tempfile::tempdir().unwrap();
        suite::run(Arc::new(RealDisk), dir.path());
    }
}
