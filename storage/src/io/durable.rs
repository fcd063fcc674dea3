use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use super::{Io, OpenMode};

/// Writes a whole file so that `path` holds, after any crash, either what it held before or all of `parts`.
///
/// The bytes go to `<path>.tmp`, are synced, renamed, and the directory is synced. Two writers of one path must not run
/// at the same time. A write that fails gives back the space that it took.
///
/// # Errors
/// Those of the disk; `path` is then unchanged, or changed but not yet durably.
pub fn write_durably(io: &dyn Io, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = temporary_name(path);
    let written = write_synced(io, &temporary, parts).and_then(|()| io.rename(&temporary, path));
    written.inspect_err(|_| remove_quietly(io, &temporary))?;
    io.sync_dir(parent_of(path))
}

/// Writes a file of its own from the first byte on, and syncs it; its name is not durable yet.
pub(crate) fn write_synced(io: &dyn Io, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let file = io.open(path, OpenMode::CreateOrTruncate)?;
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    file.write_vectored_at(0, &mut slices)?;
    file.sync_all()
}

/// Removes what is of no use any more, after an error that says more than one of this would.
pub(crate) fn remove_quietly(io: &dyn Io, path: &Path) {
    let _ = io.remove(path);
}

/// The directory of a file; the current one for a bare name.
pub(crate) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name under which a file is written before it is complete.
pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".tmp");
    name.into()
}
