//! A device that loses its power: ext4 in a file behind a loop device. `EXT4_IOC_SHUTDOWN` is the cut: what was synced stays, all
//! else is gone.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::machine::system;

/// Not more of it is taken from the machine than what is written.
const BYTES: u64 = 2 << 30;
/// `EXT4_IOC_SHUTDOWN`, and its flag that drops the journal, too.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

/// A file system of its own; dropping it unmounts it, and leaves the file that it is in.
#[derive(Debug)]
pub(crate) struct LoopDisk {
    image: PathBuf,
    mount: PathBuf,
}

impl LoopDisk {
    /// Makes one at a directory, in a file `.img` beside it.
    ///
    /// # Errors
    /// Why that cannot be had here.
    pub(super) fn mount(at: &Path) -> Result<Self, String> {
        let disk = Self { image: at.with_extension("img"), mount: at.to_owned() };
        let named = |error: std::io::Error| format!("{}: {error}", disk.image.display());
        fs::create_dir_all(at).map_err(named)?;
        File::create(&disk.image).and_then(|file| file.set_len(BYTES)).map_err(named)?;
        system("mkfs.ext4", &["-q", "-F", &disk.image.to_string_lossy()])?;
        // Whoever begins a name space of mounts meanwhile, as `ip netns exec` does, has copies of all of them. Below one that is shared
        // they go with ours. One that stayed would keep the file system as it was when its power was cut.
        let place = at.to_string_lossy();
        system("mount", &["--bind", &place, &place])?;
        system("mount", &["--make-shared", &place])?;
        disk.attach()?;
        Ok(disk)
    }

    /// Where a node's data goes: the root of a file system holds more than that.
    pub(super) fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// From here on nothing is written any more, and what was not synced is lost.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn cut(&self) -> Result<(), String> {
        let root = File::open(&self.mount).map_err(|error| format!("{}: {error}", self.mount.display()))?;
        // SAFETY: the descriptor is open, and the call reads one u32 behind the pointer.
        match unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &NO_LOG_FLUSH) } {
            0 => Ok(()),
            _ => Err(format!("EXT4_IOC_SHUTDOWN: {}", std::io::Error::last_os_error())),
        }
    }

    /// The power is back. Nobody may use the file system meanwhile.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn remount(&self) -> Result<(), String> {
        system("umount", &[&self.mount.to_string_lossy()])?;
        self.attach()
    }

    fn attach(&self) -> Result<(), String> {
        system("mount", &["-o", "loop", &self.image.to_string_lossy(), &self.mount.to_string_lossy()])
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // The file system, and what it is mounted on. Processes that still use it keep it until they end; where nothing was mounted
        // there is nothing to do.
        for _ in 0..2 {
            let _ = system("umount", &["--lazy", &self.mount.to_string_lossy()]);
        }
    }
}
