//! The real disk: plain files, `pread` and `pwritev`.
//!
//! Nothing is mapped into memory: a medium error in a mapping is SIGBUS, which no caller can answer for.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::durable::parent_of;
use super::error::named;
use super::{File, Io, OpenMode, Space, removal};

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
        removal::remove(path).map_err(|e| named(e, || format!("cannot remove {}", path.display())))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|e| named(e, || format!("cannot sync the directory {}", dir.display())))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists().map_err(|e| named(e, || format!("cannot look for {}", path.display())))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        space_of(dir).map_err(|e| named(e, || format!("cannot ask how much space {} has", dir.display())))
    }
}

fn space_of(dir: &Path) -> io::Result<Space> {
    let name = CString::new(dir.as_os_str().as_bytes())?;
    let mut answer = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `name` ends with a zero byte, and `answer` has room for what is written to it; both outlive the call.
    if unsafe { libc::statvfs(name.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was filled by the call, which succeeded, and every pattern of bits is a value of it.
    let answer = unsafe { answer.assume_init() };
    let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize);
    Ok(Space { total: bytes(answer.f_blocks), free: bytes(answer.f_bavail) })
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
            format!("there are no bytes {}..{} of {}: it is shorter", range.start, range.end, self.path.display());
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

    /// Reads `len` bytes into memory that was not filled with zeroes before: a replay would spend a tenth of its time on
    /// that.
    fn read(&self, len: usize, offset: u64) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::with_capacity(len);
        while buffer.len() < len {
            let at = buffer.len();
            match self.read_some(offset + at as u64, &mut buffer.spare_capacity_mut()[..len - at]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // SAFETY: so many bytes were just written behind the first `at`, and `len` is within the capacity.
                Ok(read) => unsafe { buffer.set_len(at + read) },
            }
        }
        Ok(buffer)
    }

    /// One `pread`; returns how many bytes it brought.
    fn read_some(&self, offset: u64, into: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: at most `into.len()` bytes are written there, to memory that is borrowed for the time of the call; the
        // descriptor is open while `self.file` is.
        let read = unsafe { libc::pread(self.file.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), offset) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// [`io::ErrorKind::Unsupported`] where the file system cannot do what `mode` asks for.
    fn fallocate(&self, mode: libc::c_int, range: Range<u64>) -> io::Result<()> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let start = libc::off_t::try_from(range.start).map_err(invalid)?;
        let len = libc::off_t::try_from(range.end.saturating_sub(range.start)).map_err(invalid)?;
        // SAFETY: plain integers and a descriptor that is open while `self.file` is.
        match unsafe { libc::fallocate(self.file.as_raw_fd(), mode, start, len) } {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
                error => Err(error),
            },
        }
    }

    /// Has the kernel write a range back, as `flags` say; nothing of an empty one.
    fn sync_range(&self, range: &Range<u64>, flags: libc::c_uint) -> io::Result<()> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let start = libc::off64_t::try_from(range.start).map_err(invalid)?;
        // No length would mean the rest of the file.
        let len = match libc::off64_t::try_from(range.end.saturating_sub(range.start)).map_err(invalid)? {
            0 => return Ok(()),
            len => len,
        };
        // SAFETY: plain integers and a descriptor that is open while `self.file` is.
        match unsafe { libc::sync_file_range(self.file.as_raw_fd(), start, len, flags) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
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
        let len = usize::try_from(len).map_err(|_| self.beyond_end(&range))?;
        match self.read(len, range.start) {
            Ok(buffer) => Ok(buffer.into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.beyond_end(&range)),
            Err(error) => Err(self.named(error, &format!("read bytes {}..{} of", range.start, range.end))),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(|e| self.named(e, "stat"))?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let result = match self.fallocate(0, 0..len) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.fill_to(len),
            other => other,
        };
        result.map_err(|e| self.named(e, &format!("allocate {len} bytes for")))
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        let Range { start, end } = range;
        if end > self.len()? {
            return Err(self.beyond_end(&range));
        }
        self.fallocate(libc::FALLOC_FL_ZERO_RANGE, range)
            .map_err(|e| self.named(e, &format!("make zeroes of bytes {start}..{end} of")))
    }

    fn start_writing(&self, range: Range<u64>) {
        // Only a hint.
        let _ = self.sync_range(&range, libc::SYNC_FILE_RANGE_WRITE);
    }

    fn finish_writing(&self, range: Range<u64>) -> io::Result<()> {
        const WAIT: libc::c_uint =
            libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        match self.sync_range(&range, WAIT) {
            // A kind of file, or a kernel, that knows no such thing: the sync waits for all of it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ESPIPE | libc::ENOSYS)) => Ok(()),
            done => done.map_err(|e| self.named(e, &format!("write bytes {}..{} of", range.start, range.end))),
        }
    }

    fn will_need(&self, range: Range<u64>) {
        let place = (libc::off_t::try_from(range.start), libc::off_t::try_from(range.end.saturating_sub(range.start)));
        // No length would mean the rest of the file.
        if let (Ok(start), Ok(len @ 1..)) = place {
            // SAFETY: plain integers and a descriptor that is open while `self.file` is. Its answer is only a hint's, too.
            unsafe { libc::posix_fadvise(self.file.as_raw_fd(), start, len, libc::POSIX_FADV_WILLNEED) };
        }
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
