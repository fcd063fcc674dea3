//! Trouble that repeats is told once a minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const PAUSE: Duration = Duration::from_secs(60);
/// Subjects that are remembered; what is beyond is not told at all, until some are old.
const MAX_SUBJECTS: usize = 256;

/// When each subject was last told.
#[derive(Debug, Default)]
pub(crate) struct Quiet(Mutex<HashMap<String, Instant>>);

impl Quiet {
    /// Whether it is time to tell this subject's trouble (again).
    pub(crate) fn may_tell(&self, subject: &str, now: Instant) -> bool {
        let mut told = self.0.lock();
        if told.get(subject).is_some_and(|last| now.duration_since(*last) < PAUSE) {
            return false;
        }
        told.retain(|_, last| now.duration_since(*last) < PAUSE);
        if told.len() >= MAX_SUBJECTS {
            return false;
        }
        told.insert(subject.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_told_once_a_minute() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        assert!(quiet.may_tell("a", start));
        assert!(!quiet.may_tell("a", start + PAUSE / 2));
        assert!(quiet.may_tell("b", start + PAUSE / 2));
        assert!(quiet.may_tell("a", start + PAUSE));
    }

    #[test]
    fn subjects_are_bounded() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        let told = (0..2 * MAX_SUBJECTS).filter(|number| quiet.may_tell(&number.to_string(), start)).count();
        assert_eq!(told, MAX_SUBJECTS);
        assert!(quiet.may_tell("later", start + PAUSE));
    }
}
