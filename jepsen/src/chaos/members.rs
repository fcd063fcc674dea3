//! Nodes that come, go and are replaced, while others are killed and links are cut.

use std::time::{Duration, Instant};

use super::shapes::Shape;
use super::{Chaos, fault};
use crate::failure::Failure;
use crate::history::When;

/// A node that is not wanted says so within this.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);
/// Clients learn of nodes while they live, but need one that they knew when they began.
const STAYS: u64 = 3;
const LOOK_EVERY: Duration = Duration::from_millis(100);
pub(crate) const WIPED_IS_REFUSED: &str = "a wiped node is refused under its old id";

impl Chaos<'_> {
    /// A node comes, one leaves in order, and one dies and is replaced; then it begins anew.
    pub(super) async fn change_members(&mut self, round: usize) -> Result<(), Failure> {
        match round % 3 {
            0 => self.join().await?,
            1 => self.leave().await?,
            _ => self.replace().await?,
        }
        self.sleep_ms(1_000..3_000).await;
        if !self.cluster.network().is_loopback() {
            self.cut(Shape::Halves, 3_000..5_000).await?;
            self.wait_whole().await?;
        }
        Ok(())
    }

    /// A leader is killed while the new one takes its replicas.
    async fn join(&mut self) -> Result<(), Failure> {
        let new = self.next_number();
        let began = self.now();
        self.cluster.add(new)?;
        self.cluster.launch(new)?;
        self.sleep_ms(500..2_500).await;
        self.kill_leader_but(new).await?;
        self.wait_whole().await?;
        let at = When(began, self.now());
        self.note(fault("join", &[new], at, Vec::new(), "an empty node".to_owned()));
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), Failure> {
        let goes = self.oldest()?;
        let began = self.now();
        let client = self.cluster.client().await?;
        client.drain_node(goes, false).await?;
        let deadline = Instant::now() + crate::cluster::WHOLE_WITHIN;
        while let Err(error) = client.remove_node(goes, false).await {
            // It still has replicas.
            if Instant::now() >= deadline {
                return Err(Failure::from(error).context(&format!("node {goes} was drained and cannot be removed")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if let Err(why) = self.cluster.stop(goes).await {
            eprintln!("  node {goes}, which has left: {why}");
        }
        self.cluster.forget(goes)?;
        self.wait_whole().await?;
        let at = When(began, self.now());
        self.note(fault("leave", &[goes], at, Vec::new(), "drained and removed".to_owned()));
        Ok(())
    }

    async fn replace(&mut self) -> Result<(), Failure> {
        let (dead, new) = (self.oldest()?, self.next_number());
        let partitions = self.partitions_led_by(dead).await;
        let began = self.now();
        self.cluster.kill(dead)?;
        self.cluster.forget(dead)?;
        self.try_old_id(dead).await?;
        self.cluster.add(new)?;
        self.cluster.launch(new)?;
        let deadline = Instant::now() + crate::cluster::WHOLE_WITHIN;
        while !self.cluster.status_of(new).await.is_some_and(|status| status.nodes.iter().any(|node| node.node == new))
        {
            if Instant::now() >= deadline {
                return Err(Failure(format!("node {new} was not let in to replace node {dead}")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.cluster.client().await?.remove_node(dead, true).await?;
        self.wait_whole().await?;
        let at = When(began, self.now());
        self.note(fault(
            "replace",
            &[dead, new],
            at,
            partitions,
            "dead and wiped; a new one with another id".to_owned(),
        ));
        Ok(())
    }

    /// An empty directory comes with the id of a node that is gone.
    async fn try_old_id(&mut self, dead: u64) -> Result<(), Failure> {
        let began = self.now();
        self.cluster.add(dead)?;
        let before = self.cluster.node(dead)?.told().len();
        self.cluster.launch(dead)?;
        let deadline = Instant::now() + REFUSED_WITHIN;
        let said =
            || self.cluster.node(dead).map(|node| node.told().get(before..).unwrap_or_default().contains("wiped"));
        while !said()? && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let refused = said()?;
        let detail = if refused { format!("node {dead} is told so") } else { format!("node {dead} is not told so") };
        self.probe(WIPED_IS_REFUSED, began, refused, detail);
        // It may have ended by itself.
        let _ = self.cluster.kill(dead);
        self.cluster.forget(dead)
    }

    async fn kill_leader_but(&mut self, node: u64) -> Result<(), Failure> {
        let shard = self.some_shard().await;
        let leader = self.cluster.leader_of(shard, &[node]).await?;
        let partitions = self.partitions_led_by(leader).await;
        let began = self.now();
        self.cluster.kill(leader)?;
        self.sleep_ms(1_000..2_000).await;
        let ended = self.now();
        self.cluster.launch(leader)?;
        self.note(fault("kill-leader", &[leader], When(began, ended), partitions, "while members change".to_owned()));
        Ok(())
    }

    fn oldest(&self) -> Result<u64, Failure> {
        let oldest = self.cluster.numbers().into_iter().find(|number| *number != STAYS);
        oldest.ok_or_else(|| Failure::new("the cluster has no node that may go"))
    }

    /// Ids are never used again.
    fn next_number(&mut self) -> u64 {
        self.last_node = self.last_node.max(self.cluster.numbers().last().copied().unwrap_or_default()) + 1;
        self.last_node
    }
}
