//! Progress bars for people, and the latencies that are shown at their end.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over bytes or records on standard error; without a terminal there it draws nothing.
pub(crate) fn bar(total: Option<u64>, unit: Unit) -> ProgressBar {
    let template = match (total.is_some(), unit) {
        (true, Unit::Bytes) => "  {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {msg}",
        (false, Unit::Bytes) => "  {spinner} {bytes} {bytes_per_sec} {msg}",
        (true, Unit::Records) => "  {bar:40} {human_pos}/{human_len} records, {per_sec} {msg}",
        (false, Unit::Records) => "  {spinner} {human_pos} records, {per_sec} {msg}",
    };
    let style = ProgressStyle::with_template(template).expect("the templates above are well formed");
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::no_length(),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
    bar.with_style(style)
}

/// What a bar counts.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Bytes,
    Records,
}

/// Latencies of many operations.
#[derive(Default)]
pub(crate) struct Latencies {
    us: Vec<u32>,
}

impl Latencies {
    /// Adds one.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.us.len()
    }

    /// The median and the 99th percentile; zero without any.
    pub(crate) fn p50_p99(&mut self) -> (Duration, Duration) {
        self.us.sort_unstable();
        (self.quantile(0.5), self.quantile(0.99))
    }

    fn quantile(&self, q: f64) -> Duration {
        let last = self.us.len().saturating_sub(1);
        let at = (last as f64 * q).round() as usize;
        Duration::from_micros(u64::from(self.us.get(at).copied().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_hundred() {
        let mut latencies = Latencies::default();
        (1..=101).for_each(|ms| latencies.add(Duration::from_millis(ms)));
        assert_eq!(latencies.p50_p99(), (Duration::from_millis(51), Duration::from_millis(100)));
        assert_eq!(Latencies::default().p50_p99(), (Duration::ZERO, Duration::ZERO));
    }
}
