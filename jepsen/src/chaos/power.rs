//! The power goes: what a node had not synced is lost.

use super::{Chaos, fault};
use crate::failure::Failure;
use crate::history::When;

impl Chaos<'_> {
    /// That of one node. Every other time it is back before the others elect: it may not go on as if it had led meanwhile.
    pub(super) async fn cut_one(&mut self, round: usize) -> Result<(), Failure> {
        let (node, partitions) = self.some_leader().await?;
        let began = self.now();
        self.cluster.cut_power(&[node])?;
        if round % 2 == 1 {
            self.sleep_ms(500..2_500).await;
        }
        let ended = self.now();
        self.cluster.launch(node)?;
        let detail = format!("it led partitions {partitions:?}");
        self.note(fault("power-cut-one", &[node], When(began, ended), partitions, detail));
        self.wait_whole().await?;
        self.sleep_ms(1_000..3_000).await;
        Ok(())
    }

    /// That of all nodes together.
    pub(super) async fn cut_all(&mut self) -> Result<(), Failure> {
        let all = self.cluster.numbers();
        let began = self.now();
        self.cluster.cut_power(&all)?;
        all.iter().try_for_each(|node| self.cluster.launch(*node))?;
        let ended = self.now();
        self.wait_whole().await?;
        let partitions = self.all_partitions();
        self.note(fault("power-cut-all", &all, When(began, ended), partitions, "together".to_owned()));
        self.sleep_ms(2_000..4_000).await;
        Ok(())
    }

    /// A minority stands still while the others acknowledge; one of those loses its power and the rest stands still, too. Then the
    /// minority goes on, which has nothing of it, with the one whose power is back, which has to have all of it.
    pub(super) async fn pause_and_cut(&mut self) -> Result<(), Failure> {
        let mut nodes = self.cluster.numbers();
        self.random.shuffle(&mut nodes);
        let (behind, others) = nodes.split_at((nodes.len().max(1) - 1) / 2);
        let (cut, rest) = others.split_first().ok_or_else(|| Failure::new("there are too few nodes"))?;
        let began = self.now();
        behind.iter().try_for_each(|node| self.cluster.halt(*node))?;
        self.sleep_ms(3_000..6_000).await;
        self.cluster.cut_power(&[*cut])?;
        rest.iter().try_for_each(|node| self.cluster.halt(*node))?;
        behind.iter().try_for_each(|node| self.cluster.resume(*node))?;
        self.cluster.launch(*cut)?;
        self.sleep_ms(5_000..9_000).await;
        let ended = self.now();
        rest.iter().try_for_each(|node| self.cluster.resume(*node))?;
        let detail = format!("{behind:?} halted, then the power of {cut} cut and {rest:?} halted");
        self.note(fault("pause-and-cut", &nodes, When(began, ended), self.all_partitions(), detail));
        self.wait_whole().await?;
        self.sleep_ms(1_000..3_000).await;
        Ok(())
    }
}
