//! Holds work in the background to a rate, and ends it when the node stops.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stratalog_proto::{Code, Error};
use tokio_util::sync::CancellationToken;

/// The longest sleep at once: so soon a stop is noticed.
const NAP: Duration = Duration::from_millis(100);
/// How much of the rate may be used at once after a rest. What else needs the disk waits for no more.
const BURST: Duration = Duration::from_millis(100);

/// Bytes that may be read or written in a second, by whoever shares it.
#[derive(Debug)]
pub(crate) struct Pace {
    /// 0: as fast as it goes.
    bytes_per_second: u64,
    /// When all that was spent will have been earned.
    paid_at: Mutex<Instant>,
    stop: CancellationToken,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64, stop: CancellationToken) -> Self {
        Self { bytes_per_second, paid_at: Mutex::new(Instant::now()), stop }
    }

    /// Takes so many bytes of the rate, and sleeps until they are earned. Blocks.
    ///
    /// # Errors
    /// [`Code::Cancelled`] once the node stops.
    pub(crate) fn spend(&self, bytes: u64) -> Result<(), Error> {
        let until = self.charge(bytes, Instant::now());
        loop {
            if self.stop.is_cancelled() {
                return Err(Error::new(Code::Cancelled, "work in the background is cut short: the node is stopping"));
            }
            match until.and_then(|until| until.checked_duration_since(Instant::now())) {
                Some(left) if !left.is_zero() => std::thread::sleep(left.min(NAP)),
                _ => return Ok(()),
            }
        }
    }

    /// Takes so many bytes of the rate, and returns once they are earned.
    pub(crate) async fn earn(&self, bytes: u64) {
        if let Some(until) = self.charge(bytes, Instant::now()) {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// When bytes that are taken now are earned; `None`: at once.
    fn charge(&self, bytes: u64, now: Instant) -> Option<Instant> {
        if self.bytes_per_second == 0 {
            return None;
        }
        let mut paid_at = self.paid_at.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *paid_at = (*paid_at).max(earliest) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        Some(*paid_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_earned_at_the_rate_after_a_small_burst() {
        let pace = Pace::new(1_000, CancellationToken::new());
        let start = *pace.paid_at.lock();
        let rested = start + Duration::from_secs(60);
        assert_eq!(pace.charge(100, rested), Some(rested));
        assert_eq!(pace.charge(500, rested), Some(rested + Duration::from_millis(500)));
        assert_eq!(Pace::new(0, CancellationToken::new()).charge(u64::MAX, rested), None);
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(Pace::new(1, stop).spend(1 << 40).unwrap_err().code, Code::Cancelled);
    }
}
