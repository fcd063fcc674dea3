//! What fails again and again: tried ever more seldom, and said once.

use std::time::Duration;

use stratalog_proto::{Code, Error};
use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Something that keeps failing, or does not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    now: Option<Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    code: Code,
    pause: Duration,
    until: Instant,
}

impl Trouble {
    /// Whether it is too early to try again.
    pub(super) fn is_waiting(&self) -> bool {
        self.now.is_some_and(|failing| Instant::now() < failing.until)
    }

    /// It failed: the next try is later than the one before. Whether this is news.
    pub(super) fn failed(&mut self, error: &Error) -> bool {
        let before = self.now.filter(|failing| failing.code == error.code);
        let pause = before.map_or(FIRST, |failing| LONGEST.min(2 * failing.pause));
        self.now = Some(Failing { code: error.code, pause, until: Instant::now() + pause });
        before.is_none()
    }

    /// It succeeded; whether that is news.
    pub(super) fn is_over(&mut self) -> bool {
        self.now.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_tried_ever_more_seldom_and_said_once_for_each_cause() {
        let mut trouble = Trouble::default();
        let full = Error::new(Code::StorageFull, "full");
        assert!(!trouble.is_waiting() && !trouble.is_over());
        let mut said = Vec::new();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            said.push(trouble.failed(&full));
            tokio::time::advance(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
            assert!(trouble.is_waiting());
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!trouble.is_waiting());
        }
        assert_eq!(said.iter().filter(|said| **said).count(), 1);
        assert!(trouble.failed(&Error::new(Code::Io, "another cause")));
        assert!(trouble.is_over() && !trouble.is_waiting());
    }
}
