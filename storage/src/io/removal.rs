//! Removes files without holding up the log.
//!
//! A file system frees all of a large file in one transaction, and tells a device that discards of all of it: for tens of
//! milliseconds every sync on that device waits. So a large file loses its name at once and its space in steps, by a thread
//! of its own.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// Smaller files are freed at once, in bytes.
const LARGE_BYTES: u64 = 8 << 20;
/// What is freed at once of a large one, in bytes.
const STEP_BYTES: u64 = 4 << 20;
/// The rest after each step: with it about 700 MB are freed in a second.
const REST: Duration = Duration::from_millis(5);
/// Files that wait for the thread. Each is a descriptor; what does not fit is freed at once.
const WAITING: usize = 256;
/// A file that somebody reads is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// And left to its last reader after this.
const PATIENCE: Duration = Duration::from_secs(60);

/// The way to the thread, or why there is none.
static THREAD: LazyLock<io::Result<SyncSender<fs::File>>> = LazyLock::new(|| {
    let (files, removed) = mpsc::sync_channel(WAITING);
    thread::Builder::new().name("removal".to_owned()).spawn(move || free_all(&removed))?;
    Ok(files)
});

/// Removes the name of a file. Who has it open goes on reading; its space is free once nobody does, of a large file some
/// time later.
///
/// # Errors
/// Those of the file system, for the name. What hinders the steps is no error: the file is then freed at once.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let is_large = fs::symlink_metadata(path)?.len() >= LARGE_BYTES;
    let file = if is_large { OpenOptions::new().write(true).open(path).ok() } else { None };
    fs::remove_file(path)?;
    if let (Some(file), Ok(thread)) = (file, &*THREAD) {
        // A queue that is full closes it here.
        let _ = thread.try_send(file);
    }
    Ok(())
}

fn free_all(removed: &Receiver<fs::File>) {
    let mut in_use: VecDeque<(fs::File, Instant)> = VecDeque::new();
    loop {
        let next = match in_use.is_empty() {
            true => removed.recv().map_err(RecvTimeoutError::from),
            false => removed.recv_timeout(LOOK_AGAIN),
        };
        match next {
            Ok(file) => in_use.push_back((file, Instant::now())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        in_use.retain(|(file, since)| match nobody_else_has(file) {
            Ok(true) => {
                free(file);
                false
            }
            Ok(false) => since.elapsed() < PATIENCE,
            // A file system that cannot tell, or a file that has another name.
            Err(_) => false,
        });
    }
}

/// Whether this descriptor is the only way to a file that has no name any more: whoever reads it must not find it shorter.
///
/// # Errors
/// The file has another name, as a copy by links gives it; the file system knows no leases.
fn nobody_else_has(file: &fs::File) -> io::Result<bool> {
    if file.metadata()?.nlink() > 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match lease(file, libc::F_WRLCK) {
        // Without a name nobody can open it from now on.
        Ok(()) => lease(file, libc::F_UNLCK).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes a lease, which for writing is given only to who alone has a file open; or gives it back.
fn lease(file: &fs::File, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: plain integers and a descriptor that is open while `file` is.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn free(file: &fs::File) {
    let mut len = file.metadata().map_or(0, |metadata| metadata.len());
    while len > STEP_BYTES {
        len -= STEP_BYTES;
        if file.set_len(len).is_err() {
            return;
        }
        thread::sleep(REST);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use tempfile::TempDir;

    use super::*;

    const BYTES: usize = 3 * STEP_BYTES as usize;

    fn large(dir: &TempDir) -> std::path::PathBuf {
        let path = dir.path().join("large");
        fs::write(&path, vec![7; BYTES]).unwrap();
        path
    }

    /// Descriptors of this process on a file that has no name any more.
    fn descriptors(path: &Path) -> usize {
        let gone = format!("{} (deleted)", path.display());
        let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        links.filter(|link| link.as_os_str() == gone.as_str()).count()
    }

    fn wait_until_freed(path: &Path) {
        let until = Instant::now() + Duration::from_secs(30);
        while descriptors(path) > 0 {
            assert!(Instant::now() < until, "{} was not freed", path.display());
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_large_file_loses_its_name_at_once_and_then_its_space() {
        let dir = TempDir::new().unwrap();
        let path = large(&dir);
        remove(&path).unwrap();
        assert!(!path.exists());
        wait_until_freed(&path);
    }

    #[test]
    fn who_reads_a_removed_file_reads_all_of_it() {
        let dir = TempDir::new().unwrap();
        let path = large(&dir);
        let reader = fs::File::open(&path).unwrap();
        remove(&path).unwrap();
        thread::sleep(LOOK_AGAIN * 3);
        let mut bytes = vec![0; BYTES];
        reader.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 7));
        drop(reader);
        wait_until_freed(&path);
    }

    #[test]
    fn a_file_that_has_another_name_keeps_its_bytes() {
        let dir = TempDir::new().unwrap();
        let (path, linked) = (large(&dir), dir.path().join("linked"));
        fs::hard_link(&path, &linked).unwrap();
        remove(&path).unwrap();
        thread::sleep(LOOK_AGAIN * 3);
        assert_eq!(fs::metadata(&linked).unwrap().len(), BYTES as u64);
        assert!(fs::read(&linked).unwrap().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_lease_tells_whether_a_file_is_open_elsewhere() {
        let dir = TempDir::new().unwrap();
        let path = large(&dir);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let other = fs::File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!nobody_else_has(&file).unwrap());
        drop(other);
        assert!(nobody_else_has(&file).unwrap());
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        let dir = TempDir::new().unwrap();
        assert_eq!(remove(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
