//! How many files and connections this process may have open.

use std::io;

use crate::failure::Failure;

/// Raises the soft limit of open files (RLIMIT_NOFILE) to the hard one. The soft limit is often 1,024 for the sake of
/// programs that use `select`, which this one does not.
///
/// # Errors
/// If the system does not tell the limit, or does not let it be raised.
pub(crate) fn raise_limit() -> Result<(), Failure> {
    let failed = |what, error| Failure::io(what, "the limit of open files", &error);
    let before = limit().map_err(|error| failed("read", error))?;
    let raised = libc::rlimit { rlim_cur: before.rlim_max, ..before };
    if before.rlim_cur < before.rlim_max {
        set_limit(&raised).map_err(|error| failed("raise", error))?;
    }
    tracing::info!(limit = raised.rlim_cur, before = before.rlim_cur, "open files and connections");
    Ok(())
}

fn limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes for the time of the call.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_limit(limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: `limit` is valid for reads for the time of the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let hard = limit().unwrap().rlim_max;
        set_limit(&libc::rlimit { rlim_cur: hard - 1, rlim_max: hard }).unwrap();
        for _ in 0..2 {
            raise_limit().unwrap();
            assert_eq!(limit().unwrap().rlim_cur, hard);
        }
    }
}
