//! `kill -9`.

use super::{Chaos, fault};
use crate::failure::Failure;
use crate::history::When;

impl Chaos<'_> {
    /// About every five seconds.
    pub(super) async fn kill_leader(&mut self) -> Result<(), Failure> {
        let (leader, partitions) = self.some_leader().await?;
        let began = self.now();
        self.cluster.kill(leader)?;
        self.sleep_ms(1_500..3_000).await;
        let ended = self.now();
        self.cluster.launch(leader)?;
        let detail = format!("it led partitions {partitions:?}");
        self.note(fault("kill-leader", &[leader], When(began, ended), partitions, detail));
        self.wait_whole().await?;
        self.sleep_ms(500..2_500).await;
        Ok(())
    }

    pub(super) async fn kill_all(&mut self) -> Result<(), Failure> {
        let all = self.cluster.numbers();
        let began = self.now();
        all.iter().try_for_each(|node| self.cluster.kill(*node))?;
        self.sleep_ms(0..500).await;
        all.iter().try_for_each(|node| self.cluster.launch(*node))?;
        let at = When(began, self.now());
        let partitions = self.all_partitions();
        self.wait_whole().await?;
        self.note(fault("kill-all", &all, at, partitions, "at once".to_owned()));
        self.sleep_ms(2_000..5_000).await;
        Ok(())
    }
}
