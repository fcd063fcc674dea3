//! Baselines: what disk and network give to a program that does nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;

/// Blocks in which files are read, and bytes are sent over a socket.
const BLOCK: usize = 1 << 20;
/// How far two rounds of a steady disk differ at the most.
const STEADY: f64 = 0.1;
const MOST_ROUNDS: u32 = 8;

/// Repeats a measurement until it gives about what it gave the time before, a few times at the most: a virtual disk lets
/// a burst pass at several times of what it sustains, and a long run is to be compared with the latter.
///
/// # Errors
/// Those of the measurement.
pub fn steady(mut measure: impl FnMut() -> Result<f64, Failure>) -> Result<f64, Failure> {
    let mut before = measure()?;
    for _ in 0..MOST_ROUNDS {
        let now = measure()?;
        if (now - before).abs() <= before * STEADY {
            return Ok(now);
        }
        before = now;
    }
    Ok(before)
}

/// Writes a new file in `dir`, `blocks` times: write a block of `block_bytes`, fdatasync. What it took.
///
/// # Errors
/// Those of the disk.
pub fn write_and_sync(dir: &Path, block_bytes: usize, blocks: u64) -> Result<Duration, Failure> {
    let path = dir.join("raw");
    let mut block = vec![0; block_bytes];
    fastrand::Rng::with_seed(1).fill(&mut block);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let started = Instant::now();
    for _ in 0..blocks {
        file.write_all(&block)?;
        file.sync_data()?;
    }
    let took = started.elapsed();
    fs::remove_file(&path)?;
    Ok(took)
}

/// Sends `bytes` over a loopback connection, from one thread to another. What it took.
///
/// # Errors
/// Those of the network.
pub fn loopback(bytes: u64) -> Result<Duration, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let started = Instant::now();
    let sending = thread::spawn(move || (0..bytes / BLOCK as u64).try_for_each(|_| sender.write_all(&[7; BLOCK])));
    let mut block = vec![0; BLOCK];
    while receiver.read(&mut block)? > 0 {}
    sending.join().expect("the sender does not panic")?;
    Ok(started.elapsed())
}

/// Reads files one after the other, each from its start to its end; the bytes, and what it took.
///
/// # Errors
/// Those of the disk.
pub fn read_all(files: &[PathBuf]) -> Result<(u64, Duration), Failure> {
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    let started = Instant::now();
    for path in files {
        let mut file = File::open(path)?;
        loop {
            let read = file.read(&mut block)? as u64;
            bytes += read;
            if read == 0 {
                break;
            }
        }
    }
    Ok((bytes, started.elapsed()))
}

/// The files below a directory with this ending, the largest first.
///
/// # Errors
/// Those of the disk.
pub fn files(dir: &Path, ending: &str) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, ending)?);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).map_or(0, |metadata| metadata.len())));
    Ok(found)
}

/// Makes the next reads of these files go to the disk.
///
/// # Errors
/// Those of the disk.
pub fn forget(files: &[PathBuf]) -> Result<(), Failure> {
    for path in files {
        let file = File::open(path)?;
        // Pages that are not written back yet would stay.
        file.sync_all()?;
        // SAFETY: plain integers and a descriptor that is open while `file` lives.
        let answer = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        if answer != 0 {
            return Err(Failure::io("evict from memory", path, &std::io::Error::from_raw_os_error(answer)));
        }
    }
    Ok(())
}
