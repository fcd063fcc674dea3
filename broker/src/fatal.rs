//! Stopping the process where going on could lose or contradict acknowledged data.

use std::io::Write;

/// Says why on the log and on standard error, then aborts: no destructor runs, nothing more is written.
///
/// A failed fsync leaves the page cache in an unknown state (the kernel may have dropped the dirty pages and call the
/// next fsync a success), and an entry that cannot be applied would make this replica differ from the others (A1). So
/// neither is retried; a restart recovers from what is durable.
pub(crate) fn halt(why: &str) -> ! {
    #[cfg(test)]
    simulated::halt(why);
    tracing::error!("stratalog stops: {why}");
    // Not by `eprintln!`: what a test prints is held back until it ends, and this one never does.
    let _ = writeln!(std::io::stderr(), "stratalog stops: {why}");
    std::process::abort();
}

/// The end of a process that is only simulated.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::RefCell;

    thread_local! {
        /// `None`: nothing is simulated on this thread. Else why what is simulated here has stopped, if it has.
        static HALTED: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
    }

    /// From now on, a halt on this thread ends a simulated process: it unwinds and is remembered.
    pub(crate) fn begin() {
        HALTED.set(Some(None));
    }

    /// Why the simulated process has stopped, if it has; another one may begin.
    pub(crate) fn take() -> Option<String> {
        HALTED.with_borrow_mut(|halted| halted.as_mut().and_then(Option::take))
    }

    pub(super) fn halt(why: &str) {
        let simulated =
            HALTED.with_borrow_mut(|halted| halted.as_mut().map(|first| first.get_or_insert(why.to_owned()).clone()));
        if let Some(why) = simulated {
            std::panic::resume_unwind(Box::new(why));
        }
    }
}
