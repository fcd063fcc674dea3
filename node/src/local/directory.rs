//! A directory of the user's, or one of our own that goes at the end.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where a command keeps data.
pub(crate) struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    /// The one that was given, else a new one named after `command`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn new(given: Option<&Path>, command: &str) -> Result<Self, Failure> {
        let (path, temporary) = match given {
            Some(path) => (path.to_owned(), false),
            None => (std::env::temp_dir().join(format!("stratalog-{command}-{}", uuid::Uuid::new_v4())), true),
        };
        std::fs::create_dir_all(&path).map_err(|error| Failure::io("create", path.display(), &error))?;
        Ok(Self { path, temporary })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes at the end.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Removes it if it is ours.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn clean_up(self) -> Result<(), Failure> {
        if self.temporary {
            std::fs::remove_dir_all(&self.path)
                .map_err(|error| Failure::io("remove the data in", self.path.display(), &error))?;
        }
        Ok(())
    }
}
