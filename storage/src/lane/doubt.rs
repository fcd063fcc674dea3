//! That the end of a lane was discarded is kept until somebody says that nothing is lacking (L1). What was discarded tells of itself
//! only once: a process that ends before others have told would come back as one that never forgot anything.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Io, write_durably};

const NAME: &str = "doubt";

/// Says in the directory of a lane that its end was discarded, there or at an earlier start.
#[derive(Clone)]
pub struct LaneDoubt {
    io: Arc<dyn Io>,
    dir: PathBuf,
}

impl LaneDoubt {
    /// Makes it, durable when this returns: before anything is discarded.
    pub(crate) fn begin(io: &dyn Io, dir: &Path) -> io::Result<()> {
        let path = dir.join(NAME);
        if io.exists(&path)? { io.sync_dir(dir) } else { write_durably(io, &path, &[]) }
    }

    /// The one that is there.
    pub(crate) fn find(io: &Arc<dyn Io>, dir: &Path) -> io::Result<Option<Self>> {
        Ok(io.exists(&dir.join(NAME))?.then(|| Self { io: Arc::clone(io), dir: dir.to_owned() }))
    }

    /// Whether a file of this name says it.
    pub(super) fn is_name(name: &str) -> bool {
        name == NAME
    }

    /// Nothing that was acknowledged is lacking any more. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk: it may come back at the next start.
    pub fn end(&self) -> io::Result<()> {
        let path = self.dir.join(NAME);
        if self.io.exists(&path)? {
            self.io.remove(&path)?;
        }
        self.io.sync_dir(&self.dir)
    }
}

impl fmt::Debug for LaneDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LaneDoubt").field(&self.dir).finish()
    }
}
