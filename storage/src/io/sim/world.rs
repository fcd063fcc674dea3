use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::content::Content;
use super::names::{FileId, Names};
use crate::io::OpenMode;
use crate::io::durable::parent_of;

/// All that is on a simulated disk.
#[derive(Clone)]
pub(super) struct World {
    pub(super) names: Names,
    files: BTreeMap<FileId, Content>,
    next: FileId,
    pub(super) capacity: u64,
}

impl World {
    /// A disk with an empty root directory.
    pub(super) fn new() -> Self {
        let mut names = Names::default();
        names.add_dir(Path::new("/"));
        Self { names, files: BTreeMap::new(), next: 0, capacity: u64::MAX }
    }

    /// The content of a file that has a name or is open.
    pub(super) fn file(&mut self, id: FileId) -> &mut Content {
        self.files.get_mut(&id).expect("a file stays while it has a name or is open")
    }

    pub(super) fn used(&self) -> u64 {
        self.files.values().map(|content| content.len() as u64).sum()
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> Result<FileId, ErrorKind> {
        let id = match (self.names.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(ErrorKind::AlreadyExists),
            (None, OpenMode::Read | OpenMode::Write) => return Err(ErrorKind::NotFound),
            (Some(id), OpenMode::CreateOrTruncate) => {
                self.file(id).set_len(0);
                id
            }
            (Some(id), _) => id,
            (None, _) => self.create(path)?,
        };
        self.file(id).handles += 1;
        Ok(id)
    }

    fn create(&mut self, path: &Path) -> Result<FileId, ErrorKind> {
        if !self.names.has_dir(parent_of(path)) {
            return Err(ErrorKind::NotFound);
        }
        if self.used() >= self.capacity {
            return Err(ErrorKind::StorageFull);
        }
        let id = self.next;
        self.next += 1;
        self.files.insert(id, Content::default());
        self.names.change(id, None, Some(path));
        Ok(id)
    }

    /// Makes a file at least `len` bytes long, if there is room.
    pub(super) fn grow(&mut self, id: FileId, len: u64) -> Result<(), ErrorKind> {
        let more = len.saturating_sub(self.file(id).len() as u64);
        if more == 0 {
            return Ok(());
        }
        if self.used().saturating_add(more) > self.capacity {
            return Err(ErrorKind::StorageFull);
        }
        let len = usize::try_from(len).map_err(|_| ErrorKind::FileTooLarge)?;
        self.file(id).extend(len);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), ErrorKind> {
        let id = self.names.get(from).ok_or(ErrorKind::NotFound)?;
        let replaced = self.names.get(to);
        self.names.change(id, Some(from), Some(to));
        replaced.into_iter().for_each(|id| self.collect(id));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> Result<(), ErrorKind> {
        let id = self.names.get(path).ok_or(ErrorKind::NotFound)?;
        self.names.change(id, Some(path), None);
        self.collect(id);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        self.names.sync(dir);
        self.collect_all();
    }

    pub(super) fn close(&mut self, id: FileId) {
        self.file(id).handles -= 1;
        self.collect(id);
    }

    pub(super) fn after_kill(mut self) -> World {
        self.files = self.files.into_iter().map(|(id, content)| (id, content.after_kill())).collect();
        self.collect_all();
        self
    }

    /// `choose` names the survivor among so many versions, the oldest first.
    pub(super) fn after_power_cut(&self, choose: &mut impl FnMut(usize) -> usize) -> World {
        let files = self.files.iter().map(|(id, content)| (*id, content.after_power_cut(choose))).collect();
        let names = self.names.after_power_cut(&mut || choose(2) == 1);
        let mut left = World { names, files, next: self.next, capacity: self.capacity };
        left.collect_all();
        left
    }

    /// Frees a file that nobody can reach any more.
    fn collect(&mut self, id: FileId) {
        if self.file(id).handles == 0 && !self.names.knows(id) {
            self.files.remove(&id);
        }
    }

    fn collect_all(&mut self) {
        let names = &self.names;
        self.files.retain(|id, content| content.handles > 0 || names.knows(*id));
    }
}
