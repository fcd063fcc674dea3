//! A leader stands still, and goes on as if nothing had been.

use std::time::{Duration, Instant};

use super::{Chaos, fault};
use crate::failure::Failure;
use crate::history::When;

/// From shorter than an election to longer than everybody's patience.
const SECONDS: [u64; 5] = [4, 1, 12, 30, 60];
/// Runs that are shorter than this leave the longest pauses out.
const LONG: Duration = Duration::from_secs(240);

impl Chaos<'_> {
    pub(super) async fn pause_leader(&mut self, round: usize) -> Result<(), Failure> {
        let is_long = self.until.saturating_duration_since(Instant::now()) > LONG;
        let lengths = if is_long { &SECONDS[..] } else { &SECONDS[..3] };
        let length = Duration::from_secs(lengths[round % lengths.len()]);
        let (leader, partitions) = self.some_leader().await?;
        let began = self.now();
        self.cluster.halt(leader)?;
        tokio::time::sleep(length).await;
        let ended = self.now();
        self.cluster.resume(leader)?;
        let detail = format!("for {length:?}; it led partitions {partitions:?}");
        self.note(fault("pause-leader", &[leader], When(began, ended), partitions, detail));
        self.wait_whole().await?;
        self.sleep_ms(500..2_500).await;
        Ok(())
    }
}
