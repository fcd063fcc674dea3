//! Errors that say what was tried and still know what the operating system said.

use std::fmt;
use std::io;

/// The same kind of error, with a sentence in front.
pub(crate) fn named(error: io::Error, what: impl FnOnce() -> String) -> io::Error {
    io::Error::new(error.kind(), Named { what: what(), error })
}

/// Whether the process, or the whole system, had no file descriptor left (EMFILE, ENFILE). No [`io::ErrorKind`] tells.
pub(crate) fn lacks_descriptor(error: &io::Error) -> bool {
    is_of_the_system(error, |code| matches!(code, libc::EMFILE | libc::ENFILE))
}

/// Whether the medium did not give back what was written to it (EIO). No [`io::ErrorKind`] tells.
pub(crate) fn is_of_the_medium(error: &io::Error) -> bool {
    is_of_the_system(error, |code| code == libc::EIO)
}

fn is_of_the_system(error: &io::Error, is_it: impl Fn(i32) -> bool + Copy) -> bool {
    let inner = || Some(&error.get_ref()?.downcast_ref::<Named>()?.error);
    match error.raw_os_error() {
        Some(code) => is_it(code),
        None => inner().is_some_and(|inner| is_of_the_system(inner, is_it)),
    }
}

/// Whether the device, or what a user may take of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[derive(Debug)]
struct Named {
    what: String,
    error: io::Error,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for Named {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_descriptors_is_known_behind_any_sentence() {
        for code in [libc::EMFILE, libc::ENFILE] {
            let error = io::Error::from_raw_os_error(code);
            assert!(lacks_descriptor(&error));
            let error = named(named(error, || "cannot open a".to_owned()), || "cannot read b".to_owned());
            assert!(lacks_descriptor(&error), "{error}");
            assert!(error.to_string().starts_with("cannot read b: cannot open a: "), "{error}");
        }
        assert!(!lacks_descriptor(&named(io::Error::from_raw_os_error(libc::ENOSPC), String::new)));
        assert!(!lacks_descriptor(&io::Error::other("too many open files")));
    }

    #[test]
    fn a_medium_error_is_known_behind_any_sentence() {
        let error = named(io::Error::from_raw_os_error(libc::EIO), || "cannot read a".to_owned());
        assert!(is_of_the_medium(&error) && !lacks_descriptor(&error));
        assert!(!is_of_the_medium(&io::Error::from_raw_os_error(libc::EMFILE)));
    }
}
