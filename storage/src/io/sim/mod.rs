//! A disk in memory for tests: it loses what was not synced, sector by sector, fails where a test or its seed wants it to,
//! and rots.
//!
//! What it does to data is what a medium may do, and no more:
//! * After a power cut each sector of 512 bytes that was not synced holds any version that it had since the last sync, and
//!   each change of a name that was not synced has happened or not. A rename happens whole.
//! * After a failed sync nobody knows what is on the medium, and no later sync brings it there.
//! * Damage ([`Rot`], lost and misdirected writes) comes only where a test asks for it.

mod content;
mod descriptors;
mod dice;
mod faults;
mod file;
mod names;
mod rot;
#[cfg(test)]
mod tests;
mod world;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use descriptors::{Descriptor, Descriptors};
use faults::{Faults, Lie};
use file::SimFile;
use world::World;

use super::{File, Io, OpenMode, Space};

pub use dice::Dice;
pub use faults::{FaultRates, Op};
pub use rot::Rot;

/// A disk; clones are the same disk.
///
/// ```
/// use std::path::Path;
///
/// use stratalog_storage::simulation::SimDisk;
/// use stratalog_storage::{Io, OpenMode};
///
/// # fn main() -> std::io::Result<()> {
/// let disk = SimDisk::seeded(7);
/// let file = disk.open(Path::new("/a"), OpenMode::CreateNew)?;
/// file.write_at(0, b"synced")?;
/// file.sync_all()?;
/// disk.sync_dir(Path::new("/"))?;
/// file.write_at(0, b"maybe!")?;
///
/// let after = disk.after_power_cut_by_seed();
/// let found = after.edit(Path::new("/a"), |bytes| bytes.clone());
/// assert!(found == b"synced" || found == b"maybe!");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    faults: Arc<Mutex<Faults>>,
    descriptors: Arc<Descriptors>,
    seeded: bool,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// A disk with an empty root directory that does nothing by itself.
    pub fn new() -> Self {
        Self::of(World::new(), Dice::default(), false)
    }

    /// The same, with a seed that decides what power cuts leave, what a failed write leaves, and where faults strike.
    pub fn seeded(seed: u64) -> Self {
        Self::of(World::new(), Dice::new(seed), true)
    }

    fn of(world: World, dice: Dice, seeded: bool) -> Self {
        let faults = Arc::new(Mutex::new(Faults::new(dice)));
        Self { world: Arc::new(Mutex::new(world)), faults, descriptors: Arc::default(), seeded }
    }

    /// Installs a hook that is called before every operation; it may wait, or fail the operation.
    pub fn set_fault(&self, fault: impl Fn(Op, &Path) -> io::Result<()> + Send + Sync + 'static) {
        self.faults.lock().set_hook(Some(Arc::new(fault)));
    }

    /// Removes that hook.
    pub fn clear_fault(&self) {
        self.faults.lock().set_hook(None);
    }

    /// From now on calls fail by themselves, as the seed says.
    pub fn set_rates(&self, rates: FaultRates) {
        self.faults.lock().set_rates(rates);
    }

    /// The next call of this kind on a path that has `part` in it fails in this way.
    pub fn fail_next(&self, op: Op, part: &str, kind: ErrorKind) {
        self.faults.lock().fail_next(op, part, kind);
    }

    /// The next write to a file with `part` in its path is acknowledged, may be synced, and never reaches the medium: after
    /// a restart the old bytes are served.
    pub fn lose_next_write(&self, part: &str) {
        self.faults.lock().lie_at_next_write(Lie::Lost, part);
    }

    /// The next write to a file with `part` in its path lands at another sector of the file, over what is there.
    pub fn misdirect_next_write(&self, part: &str) {
        self.faults.lock().lie_at_next_write(Lie::Misdirected, part);
    }

    /// Bytes that the device holds at most; less than it holds now means that it is full.
    pub fn set_capacity(&self, bytes: u64) {
        self.world.lock().capacity = bytes;
    }

    /// Bytes in all files.
    pub fn used_bytes(&self) -> u64 {
        self.world.lock().used()
    }

    /// From now on, opening a file fails with EMFILE while this many are open.
    pub fn limit_open_files(&self, limit: usize) {
        self.descriptors.limit(limit);
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.descriptors.open()
    }

    /// The disk as it is found after the process died: everything written is there. Faults are gone, the seed goes on.
    pub fn after_kill(&self) -> SimDisk {
        let world = self.world.lock().clone().after_kill();
        self.next_life(world)
    }

    /// The disk as it is found after the power failed: of what was not synced, `keep` decides for each length, sector and
    /// change of a name whether the newest survives or the oldest.
    pub fn after_power_cut(&self, mut keep: impl FnMut() -> bool) -> SimDisk {
        let world = self.world.lock().after_power_cut(&mut |versions| if keep() { versions - 1 } else { 0 });
        self.next_life(world)
    }

    /// The same, with a seed that decides; among all versions that a sector had, and with another bias each time.
    pub fn after_power_cut_by_seed(&self) -> SimDisk {
        let mut dice = self.faults.lock().dice().fork();
        let bias = dice.below(5);
        let world = self.world.lock().after_power_cut(&mut |versions| match bias {
            0 => 0,
            4 => versions - 1,
            _ if dice.chance(bias, 4) => versions - 1,
            _ => dice.below(versions as u64 - 1) as usize,
        });
        self.next_life(world)
    }

    fn next_life(&self, world: World) -> SimDisk {
        let dice = self.faults.lock().dice().fork();
        Self::of(world, dice, self.seeded)
    }

    /// The paths of all files, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.world.lock().names.iter().map(|(path, _)| path.to_owned()).collect()
    }

    /// All bytes of a file, to look at or to damage; what is changed is changed on the medium.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn edit<R>(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut world = self.world.lock();
        let id = world.names.get(path).unwrap_or_else(|| panic!("{} is not there", path.display()));
        world.file(id).edit(edit)
    }

    fn is_seeded(&self) -> bool {
        self.seeded
    }

    fn check(&self, op: Op, path: &Path) -> io::Result<()> {
        let (hook, fault) = {
            let mut faults = self.faults.lock();
            (faults.hook(), faults.take(op, path))
        };
        hook.map_or(Ok(()), |hook| hook(op, path))?;
        fault.map_or(Ok(()), |kind| Err(error(kind, path)))
    }
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
        self.world.lock().names.add_dir(path);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.world.lock();
        if world.names.has_dir(dir) { Ok(world.names.list(dir)) } else { Err(error(ErrorKind::NotFound, dir)) }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let descriptor = Descriptor::take(&self.descriptors)?;
        if matches!(mode, OpenMode::CreateNew | OpenMode::CreateOrTruncate) {
            self.check(Op::Create, path)?;
        }
        let id = self.world.lock().open(path, mode).map_err(|kind| error(kind, path))?;
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(SimFile { disk: self.clone(), path: path.to_owned(), id, writable, _descriptor: descriptor }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Op::Rename, from)?;
        self.world.lock().rename(from, to).map_err(|kind| error(kind, from))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(Op::Remove, path)?;
        self.world.lock().remove(path).map_err(|kind| error(kind, path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check(Op::Sync, dir)?;
        self.world.lock().sync_dir(dir);
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let world = self.world.lock();
        Ok(world.names.get(path).is_some() || world.names.has_dir(path))
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let world = self.world.lock();
        Ok(Space { total: world.capacity, free: world.capacity.saturating_sub(world.used()) })
    }
}
