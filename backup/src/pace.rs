//! Holds a backup to a rate.

use std::time::Duration;

use tokio::time::Instant;

/// How much of the rate may be used at once after a rest.
const BURST: Duration = Duration::from_millis(100);

/// Bytes that may pass in a second.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    /// When all that has passed will have been earned.
    paid_at: Instant,
}

impl Pace {
    /// 0: as fast as it goes.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid_at: Instant::now() }
    }

    /// Takes so many bytes of the rate, and returns once they are earned.
    pub(crate) async fn earn(&mut self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.paid_at =
            self.paid_at.max(earliest) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        tokio::time::sleep_until(self.paid_at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate() {
        let (mut pace, began) = (Pace::new(1_000), Instant::now());
        for _ in 0..10 {
            pace.earn(500).await;
        }
        assert!((Duration::from_millis(4_890)..Duration::from_millis(5_010)).contains(&began.elapsed()));
    }
}
