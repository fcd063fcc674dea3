//! How the C library's allocator hands out this process's memory.

/// From this size on a buffer is mapped by itself, and goes back to the system the moment that it is let go.
const MAPPED_FROM_BYTES: i32 = 1 << 20;
/// The most arenas, however many processors there are.
const MAX_ARENAS: usize = 16;

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
    }
}

/// Other C libraries have no such options.
#[cfg(not(target_env = "gnu"))]
fn set_options(_arenas: i32) {}
