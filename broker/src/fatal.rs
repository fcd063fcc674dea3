//! Stopping the process where going on could lose or contradict acknowledged data.

/// Says why on the log and on standard error, then aborts: no destructor runs, nothing more is written.
///
/// A failed fsync leaves the page cache in an unknown state (the kernel may have dropped the dirty pages and call the
/// next fsync a success), and an entry that cannot be applied would make this replica differ from the others (A1). So
/// neither is retried; a restart recovers from what is durable.
pub(crate) fn halt(why: &str) -> ! {
    tracing::error!("stratalog stops: {why}");
    eprintln!("stratalog stops: {why}");
    std::process::abort();
}
