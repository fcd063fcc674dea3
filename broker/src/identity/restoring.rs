//! A directory that is being made of a backup.

use std::path::Path;

use stratalog_proto::{Code, Error};
use stratalog_storage::{Io, write_durably};

use super::{LOCK_FILE, failed, remove_durably};

/// There from the beginning of a restore to its end.
const RESTORING_FILE: &str = "restoring";
/// What a directory may have that is empty otherwise.
const NOT_DATA: [&str; 2] = [LOCK_FILE, "lost+found"];

/// Refuses a directory that has anything in it.
///
/// # Errors
/// [`Code::InvalidRequest`]; [`Code::Io`].
pub(crate) fn check_empty(io: &dyn Io, dir: &Path) -> Result<(), Error> {
    let names = io.list(dir).map_err(|error| failed(dir, &error))?;
    if let Some(name) = names.iter().find(|name| !NOT_DATA.contains(&name.as_str())) {
        let message =
            format!("{} is not empty, `{name}` is there: a backup is restored into an empty directory", dir.display());
        return Err(Error::new(Code::InvalidRequest, message));
    }
    Ok(())
}

/// Marks an empty directory, durably, as one that no node may use before its restore has ended.
///
/// # Errors
/// As [`check_empty`].
pub(crate) fn begin_restore(io: &dyn Io, dir: &Path) -> Result<(), Error> {
    check_empty(io, dir)?;
    let path = dir.join(RESTORING_FILE);
    let text =
        "# This Stratalog data directory is being made of a backup. Nothing starts in it before that has ended.\n";
    write_durably(io, &path, &[text.as_bytes()]).map_err(|error| failed(&path, &error))
}

/// The restore has ended, and everything of it is durable.
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn end_restore(io: &dyn Io, dir: &Path) -> Result<(), Error> {
    remove_durably(io, dir, RESTORING_FILE)
}

/// Refuses a directory whose restore has not ended.
///
/// # Errors
/// [`Code::CorruptData`]; [`Code::Io`].
pub(super) fn check_none(io: &dyn Io, dir: &Path) -> Result<(), Error> {
    let path = dir.join(RESTORING_FILE);
    if !io.exists(&path).map_err(|error| failed(&path, &error))? {
        return Ok(());
    }
    let message = format!(
        "{} is half of a backup: its restore was cut short. Empty the directory, and restore it again",
        dir.display()
    );
    Err(Error::new(Code::CorruptData, message))
}
