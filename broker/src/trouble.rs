//! What fails again and again: tried ever more seldom, and said once.

use std::time::Duration;

use stratalog_proto::{Code, Error};
use tokio::time::Instant;

use crate::outcome::is_overtaken;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// What happens as leadership moves is news when it happens so often in a row.
const NEWS_AFTER: u32 = 3;

/// Something that keeps failing, or does not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    now: Option<Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    code: Code,
    failures: u32,
    pause: Duration,
    until: Instant,
}

impl Trouble {
    /// Whether it is too early to try again.
    pub(crate) fn is_waiting(&self) -> bool {
        self.now.is_some_and(|failing| Instant::now() < failing.until)
    }

    /// It failed: the next try is later than the one before. Whether this is news: at first, or a little later what happens
    /// now and then to anybody.
    pub(crate) fn failed(&mut self, error: &Error) -> bool {
        let before = self.now.filter(|failing| failing.code == error.code);
        let pause = before.map_or(FIRST, |failing| LONGEST.min(2 * failing.pause));
        let failures = before.map_or(0, |failing| failing.failures).saturating_add(1);
        self.now = Some(Failing { code: error.code, failures, pause, until: Instant::now() + pause });
        failures == if is_overtaken(error) { NEWS_AFTER } else { 1 }
    }

    /// It succeeded; whether that is news.
    pub(crate) fn is_over(&mut self) -> bool {
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

    #[test]
    fn what_happens_when_leadership_moves_is_news_once_it_goes_on() {
        let mut trouble = Trouble::default();
        let overtaken = Error::new(Code::NotLeader, "another replica leads");
        let said: Vec<bool> = (0..6).map(|_| trouble.failed(&overtaken)).collect();
        assert_eq!(said, [false, false, true, false, false, false]);
    }
}
