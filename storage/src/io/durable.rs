use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use super::{Io, OpenMode};

/// Writes a whole file so that `path` holds, after any crash, either what it held before or all of `parts`.
///
/// The bytes go to `<path>.tmp`, are synced, renamed, and the directory is synced. Two writers of one path must not run
/// at the same time.
///
/// # Errors
/// Those of the disk; `path` is then unchanged, or changed but not yet durably.
pub fn write_durably(io: &dyn Io, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = temporary_name(path);
    let file = io.open(&temporary, OpenMode::CreateOrTruncate)?;
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    file.write_vectored_at(0, &mut slices)?;
    file.sync_all()?;
    io.rename(&temporary, path)?;
    io.sync_dir(parent_of(path))
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
