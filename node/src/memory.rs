//! How the C library's allocator hands out this process's memory, and gives it back.

use std::thread;
use std::time::{Duration, Instant};

/// From this size on a buffer is mapped by itself, and goes back to the system the moment that it is let go.
const MAPPED_FROM_BYTES: i32 = 1 << 20;
/// What is free at the end of an arena stays there until all that is free goes back, unless it is more than this. By itself glibc
/// gives it back from 128 KiB on, as soon as that size for buffers is set, and has the system make every page anew a moment later.
const KEPT_BYTES: i32 = 512 << 20;
/// An arena that has to grow grows by so much more.
const GROW_BYTES: i32 = 1 << 20;
/// The most arenas, however many processors there are.
const MAX_ARENAS: usize = 16;
/// How often what is free goes back to the system.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(15);

/// Keeps what the node holds close to what it uses. To be called before a second thread is there.
///
/// glibc's defaults are for programs with small objects: eight arenas a processor, each of which keeps tens of megabytes
/// that its threads once used. Here buffers of megabytes wander between threads, and an arena a processor is enough.
pub(crate) fn bound_arenas() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    set_options(processors.clamp(1, MAX_ARENAS) as i32);
}

#[cfg(target_env = "gnu")]
fn set_options(arenas: i32) {
    // SAFETY: plain integers; no other thread uses the allocator yet. An option that is not known changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_TOP_PAD, GROW_BYTES);
    }
}

/// Other C libraries have no such options.
#[cfg(not(target_env = "gnu"))]
fn set_options(_arenas: i32) {}

/// From now on memory that is not in use goes back to the system now and then.
///
/// By itself glibc would give back only what is free at the end of an arena. A roll or a query takes tens of megabytes in small pieces, and
/// lets go of them with something of others in between: a third of what a busy node held was such memory.
pub(crate) fn give_back_from_now_on() {
    let run = || {
        loop {
            thread::sleep(GIVE_BACK_EVERY);
            let began = Instant::now();
            give_back();
            tracing::debug!(took = ?began.elapsed(), "gave memory back that is not in use");
        }
    };
    if let Err(error) = thread::Builder::new().name("memory".into()).spawn(run) {
        tracing::warn!(%error, "memory that is not in use stays with the node: there is no thread to give it back");
    }
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: it takes the allocator's own locks, and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other C libraries give back by themselves.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    const PIECE: usize = 32 << 10;
    const PIECES: usize = 4096;
    /// One of so many pieces stays in use.
    const KEPT: usize = 64;

    /// What the process has in memory, in bytes.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        // SAFETY: it reads a setting.
        pages * usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap()
    }

    #[test]
    fn what_is_free_between_pieces_in_use_goes_back() {
        let pieces: Vec<_> = (0..PIECES).map(|_| vec![1_u8; PIECE]).collect();
        let kept: Vec<_> = pieces.into_iter().step_by(KEPT).collect();
        let before = resident();
        give_back();
        let gone = before.saturating_sub(resident());
        assert!(gone > PIECES * PIECE / 2, "{gone} bytes went back of {}", PIECES * PIECE);
        assert!(kept.iter().flatten().all(|byte| *byte == 1));
    }
}
