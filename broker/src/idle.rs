//! Pauses of those who look now and then whether there is something to do. A node has several for each shard: if each woke
//! at a time of its own, an idle node with many shards would never rest.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Sleeps until the next whole multiple of `period` since the process began, so that all who sleep for the same period
/// wake together. The first sleep is shorter than the period.
pub(crate) async fn tick(period: Duration) {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    sleep_until(*BEGIN + next(BEGIN.elapsed(), period)).await;
}

/// The first whole multiple of `period` after `passed`.
pub(crate) fn next(passed: Duration, period: Duration) -> Duration {
    let (passed, period) = (passed.as_nanos(), period.as_nanos().max(1));
    Duration::from_nanos(((passed / period + 1) * period) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_of_one_period_end_together() {
        let (ms, period) = (Duration::from_millis, Duration::from_millis(500));
        assert_eq!(next(ms(0), period), ms(500));
        assert_eq!(next(ms(1_234), period), ms(1_500));
        assert_eq!(next(ms(1_499), period), ms(1_500));
        assert_eq!(next(ms(1_500), period), ms(2_000), "it always sleeps");
        assert!(next(ms(3), Duration::ZERO) > ms(3), "without a period it goes on at once");
    }
}
