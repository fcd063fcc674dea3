//! A disk in memory for tests: it can lose what was not synced, sector by sector, and fail where a test wants it to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{File, Io, OpenMode, durable::parent_of};

const SECTOR: usize = 512;

/// What a fault hook is asked about, before it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Write,
    Sync,
    View,
    Allocate,
}

/// Called before an operation on a file; it may wait, or fail the operation.
pub(crate) type Fault = Arc<dyn Fn(Op, &Path) -> io::Result<()> + Send + Sync>;

/// A disk; clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct SimDisk {
    world: Arc<Mutex<World>>,
    fault: Arc<Mutex<Option<Fault>>>,
    descriptors: Arc<Descriptors>,
}

/// How many files are open, and how many may be.
#[derive(Debug)]
struct Descriptors {
    open: AtomicUsize,
    limit: AtomicUsize,
}

impl Default for Descriptors {
    fn default() -> Self {
        Self { open: AtomicUsize::new(0), limit: AtomicUsize::new(usize::MAX) }
    }
}

/// One of them; given back when it is dropped.
#[derive(Debug)]
struct Descriptor(Arc<Descriptors>);

impl Descriptor {
    fn take(of: &Arc<Descriptors>) -> io::Result<Self> {
        let below_limit = |open| (open < of.limit.load(Ordering::SeqCst)).then_some(open + 1);
        let taken = of.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, below_limit);
        taken.map(|_| Self(of.clone())).map_err(|_| io::Error::from_raw_os_error(libc::EMFILE))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Default)]
struct World {
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    files: Vec<Content>,
}

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

impl SimDisk {
    /// A disk with an empty root directory.
    pub(crate) fn new() -> Self {
        let disk = Self::default();
        disk.world.lock().dirs.insert(PathBuf::from("/"));
        disk
    }

    /// Installs the fault hook.
    pub(crate) fn set_fault(&self, fault: impl Fn(Op, &Path) -> io::Result<()> + Send + Sync + 'static) {
        *self.fault.lock() = Some(Arc::new(fault));
    }

    /// From now on, opening a file fails with EMFILE while this many are open.
    pub(crate) fn limit_open_files(&self, limit: usize) {
        self.descriptors.limit.store(limit, Ordering::SeqCst);
    }

    /// How many files are open.
    pub(crate) fn open_files(&self) -> usize {
        self.descriptors.open.load(Ordering::SeqCst)
    }

    /// The disk as it is found after the process died: everything written is there.
    pub(crate) fn after_kill(&self) -> SimDisk {
        SimDisk { world: Arc::new(Mutex::new(self.world.lock().clone())), ..Self::default() }
    }

    /// The disk as it is found after the power failed: of what was not synced, `keep` decides for each sector, length and
    /// name.
    pub(crate) fn after_power_cut(&self, mut keep: impl FnMut() -> bool) -> SimDisk {
        let mut world = self.world.lock().clone();
        for file in &mut world.files {
            file.durable = file.survives(&mut keep);
            file.now = file.durable.clone();
        }
        let paths: BTreeSet<PathBuf> = world.names.keys().chain(world.durable_names.keys()).cloned().collect();
        for path in paths {
            let (now, durable) = (world.names.get(&path).copied(), world.durable_names.get(&path).copied());
            let left = if now == durable || keep() { now } else { durable };
            world.names.remove(&path);
            world.names.extend(left.map(|id| (path, id)));
        }
        world.durable_names = world.names.clone();
        SimDisk { world: Arc::new(Mutex::new(world)), ..Self::default() }
    }

    /// All bytes of a file, to look at or to damage.
    pub(crate) fn edit<R>(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut world = self.world.lock();
        let id = world.names[path];
        edit(&mut world.files[id].now)
    }

    fn check(&self, op: Op, path: &Path) -> io::Result<()> {
        let fault = self.fault.lock().clone();
        fault.map_or(Ok(()), |fault| fault(op, path))
    }
}

impl Content {
    fn survives(&self, keep: &mut impl FnMut() -> bool) -> Vec<u8> {
        let len = if self.now.len() == self.durable.len() || keep() { self.now.len() } else { self.durable.len() };
        let mut left = vec![0; len];
        for (n, sector) in left.chunks_mut(SECTOR).enumerate() {
            let (now, durable) = (sector_of(&self.now, n), sector_of(&self.durable, n));
            let survivor = if now == durable || keep() { now } else { durable };
            let bytes = survivor.len().min(sector.len());
            sector[..bytes].copy_from_slice(&survivor[..bytes]);
        }
        left
    }
}

fn sector_of(bytes: &[u8], n: usize) -> &[u8] {
    bytes.chunks(SECTOR).nth(n).unwrap_or(&[])
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

fn error(kind: ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {kind}", path.display()))
}

impl Io for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.world.lock();
        if !world.dirs.contains(dir) {
            return Err(error(ErrorKind::NotFound, dir));
        }
        let inside = world.dirs.iter().chain(world.names.keys()).filter(|path| path.parent() == Some(dir));
        let mut names: Vec<_> = inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let descriptor = Descriptor::take(&self.descriptors)?;
        let mut world = self.world.lock();
        let found = world.names.get(path).copied();
        let id = match (found, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(error(ErrorKind::AlreadyExists, path)),
            (None, OpenMode::Read | OpenMode::Write) => return Err(error(ErrorKind::NotFound, path)),
            (Some(id), OpenMode::CreateOrTruncate) => {
                world.files[id].now.clear();
                id
            }
            (Some(id), _) => id,
            (None, _) if !world.dirs.contains(parent_of(path)) => return Err(error(ErrorKind::NotFound, path)),
            (None, _) => {
                world.files.push(Content::default());
                let id = world.files.len() - 1;
                world.names.insert(path.to_owned(), id);
                id
            }
        };
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(SimFile { disk: self.clone(), path: path.to_owned(), id, writable, _descriptor: descriptor }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        let id = world.names.remove(from).ok_or_else(|| error(ErrorKind::NotFound, from))?;
        world.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.world.lock().names.remove(path);
        removed.map(|_| ()).ok_or_else(|| error(ErrorKind::NotFound, path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check(Op::Sync, dir)?;
        let mut world = self.world.lock();
        let inside = |path: &PathBuf| path.parent() == Some(dir);
        let now: Vec<_> = world.names.iter().filter(|(path, _)| inside(path)).map(|(p, id)| (p.clone(), *id)).collect();
        world.durable_names.retain(|path, _| !inside(path));
        world.durable_names.extend(now);
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let world = self.world.lock();
        Ok(world.names.contains_key(path) || world.dirs.contains(path))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    id: usize,
    writable: bool,
    _descriptor: Descriptor,
}

impl SimFile {
    fn with<R>(&self, f: impl FnOnce(&mut Content) -> R) -> R {
        f(&mut self.disk.world.lock().files[self.id])
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.check(Op::Sync, &self.path)?;
        self.with(|content| content.durable.clone_from(&content.now));
        Ok(())
    }
}

impl File for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.check(Op::Write, &self.path)?;
        if !self.writable {
            return Err(error(ErrorKind::PermissionDenied, &self.path));
        }
        let from = offset as usize;
        self.with(|content| {
            content.now.resize(content.now.len().max(from + bytes.len()), 0);
            content.now[from..from + bytes.len()].copy_from_slice(bytes);
        });
        Ok(())
    }

    fn write_vectored_at(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if whole.is_empty() { Ok(()) } else { self.write_at(offset, &whole) }
    }

    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.disk.check(Op::View, &self.path)?;
        let bytes =
            self.with(|content| content.now.get(range.start as usize..range.end as usize).map(Bytes::copy_from_slice));
        bytes.ok_or_else(|| error(ErrorKind::UnexpectedEof, &self.path))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|content| content.now.len() as u64))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.check(Op::Allocate, &self.path)?;
        self.with(|content| content.now.resize(content.now.len().max(len as usize), 0));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.with(|content| content.now.resize(len as usize, 0));
        Ok(())
    }
}

mod tests {
    use super::*;
    use crate::io::{suite, write_durably};

    #[test]
    fn simulated_disk_passes_the_suite() {
        suite::run(Arc::new(SimDisk::new()), Path::new("/"));
    }

    #[test]
    fn a_power_cut_loses_what_was_not_synced() {
        let disk = SimDisk::new();
        let file = disk.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
        file.write_at(0, b"synced").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        file.write_at(0, b"x").unwrap();
        disk.open(Path::new("/b"), OpenMode::CreateNew).unwrap();
        let after = disk.after_power_cut(|| false);
        assert_eq!(after.list(Path::new("/")).unwrap(), ["a"]);
        assert_eq!(after.edit(Path::new("/a"), |bytes| bytes.clone()), b"synced");
        assert_eq!(disk.after_kill().edit(Path::new("/a"), |bytes| bytes.clone()), b"xynced");
    }

    #[test]
    fn write_durably_is_all_or_nothing_at_every_power_cut() {
        for fail_at in 0..3 {
            for kept in [false, true] {
                let disk = SimDisk::new();
                let path = Path::new("/file");
                write_durably(&disk, path, &[b"old"]).unwrap();
                let calls = Mutex::new(0);
                disk.set_fault(move |op, _| {
                    let mut calls = calls.lock();
                    *calls += u32::from(op != Op::View);
                    if *calls > fail_at { Err(ErrorKind::Other.into()) } else { Ok(()) }
                });
                write_durably(&disk, path, &[b"new!"]).unwrap_err();
                let found = disk.after_power_cut(|| kept).edit(path, |bytes| bytes.clone());
                assert!(found == b"old" || found == b"new!", "{found:?}");
            }
        }
    }
}
