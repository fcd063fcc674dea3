//! What the threads of queries leave to those that serve producers.

/// The niceness of a query thread: where cores are short, producers get about nine times as much of them.
const QUERY_NICENESS: libc::c_int = 10;

/// Lowers the priority of the calling thread. A system that does not allow it is left as it is.
pub(crate) fn yield_to_others() {
    // SAFETY: the call reads its arguments only. On Linux 0 is the calling thread.
    let failed = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, QUERY_NICENESS) } != 0;
    if failed {
        tracing::debug!(error = %std::io::Error::last_os_error(), "query threads keep their priority");
    }
}
