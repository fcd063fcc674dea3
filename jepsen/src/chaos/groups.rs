//! Members of a consumer group that are killed and come again.

use std::time::Duration;

use tokio::time::Instant;

use super::{Chaos, fault};
use crate::failure::Failure;
use crate::history::When;

/// From one kill to the next.
const EVERY: Duration = Duration::from_secs(5);
/// With every so many of them goes a leader.
const LEADERS_TOO: usize = 3;

impl Chaos<'_> {
    /// A member is killed, and another one takes its place; now and then, a leader is killed meanwhile.
    pub(super) async fn rebalance(&mut self, round: usize) -> Result<(), Failure> {
        let next = Instant::now() + EVERY;
        let began = self.now();
        let group = self.group.as_deref_mut().ok_or_else(no_group)?;
        let member = group.choose(&mut self.random);
        let (process, had) = group.kill(member).await?;
        if round % LEADERS_TOO == LEADERS_TOO - 1 {
            self.kill_leader().await?;
        } else {
            self.sleep_ms(200..1_500).await;
        }
        self.group.as_deref_mut().ok_or_else(no_group)?.revive(member)?;
        let detail = format!("member {process}, which read partitions {had:?}; another one came");
        self.note(fault("kill-member", &[], When(began, self.now()), Vec::new(), detail));
        tokio::time::sleep_until(next).await;
        Ok(())
    }
}

fn no_group() -> Failure {
    Failure::new("the run has no consumer group")
}
