//! The names of a simulated disk, and which of their changes a power cut may undo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file, whatever its name is.
pub(super) type FileId = usize;

/// Directories and names. A file has one name at most, so a rename happens whole or not at all.
#[derive(Clone, Default)]
pub(super) struct Names {
    dirs: BTreeSet<PathBuf>,
    now: BTreeMap<PathBuf, FileId>,
    durable: BTreeMap<PathBuf, FileId>,
    /// Changes since the last sync of their directory, in order.
    pending: Vec<Change>,
}

#[derive(Clone)]
struct Change {
    file: FileId,
    from: Option<PathBuf>,
    to: Option<PathBuf>,
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, FileId>) {
        names.retain(|_, file| *file != self.file);
        names.extend(self.to.clone().map(|path| (path, self.file)));
    }

    fn touches(&self, dir: &Path) -> bool {
        self.from.iter().chain(&self.to).any(|path| path.parent() == Some(dir))
    }
}

impl Names {
    pub(super) fn add_dir(&mut self, path: &Path) {
        self.dirs.extend(path.ancestors().map(Path::to_owned));
    }

    pub(super) fn has_dir(&self, path: &Path) -> bool {
        self.dirs.contains(path)
    }

    pub(super) fn get(&self, path: &Path) -> Option<FileId> {
        self.now.get(path).copied()
    }

    /// The names and their files, sorted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, FileId)> {
        self.now.iter().map(|(path, file)| (path.as_path(), *file))
    }

    /// The names in a directory, directories included, sorted.
    pub(super) fn list(&self, dir: &Path) -> Vec<String> {
        let inside = self.dirs.iter().chain(self.now.keys()).filter(|path| path.parent() == Some(dir));
        let mut names: Vec<_> =
            inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
        names.sort_unstable();
        names
    }

    /// Gives a file its first name, moves it to another one, or takes the last from it.
    pub(super) fn change(&mut self, file: FileId, from: Option<&Path>, to: Option<&Path>) {
        let change = Change { file, from: from.map(Path::to_owned), to: to.map(Path::to_owned) };
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self, dir: &Path) {
        let (synced, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| change.touches(dir));
        synced.iter().for_each(|change| change.apply(&mut self.durable));
        self.pending = left;
    }

    /// After the power failed: `keep` decides for each change that was not synced.
    pub(super) fn after_power_cut(&self, keep: &mut impl FnMut() -> bool) -> Names {
        let mut left = self.durable.clone();
        self.pending.iter().filter(|_| keep()).for_each(|change| change.apply(&mut left));
        Names { dirs: self.dirs.clone(), now: left.clone(), durable: left, pending: Vec::new() }
    }

    /// Whether a file has a name, or may have one again after a power cut.
    pub(super) fn knows(&self, file: FileId) -> bool {
        let named = |names: &BTreeMap<PathBuf, FileId>| names.values().any(|id| *id == file);
        named(&self.now) || named(&self.durable) || self.pending.iter().any(|change| change.file == file)
    }
}
