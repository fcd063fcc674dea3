//! Links between nodes on which nothing arrives.

use super::shapes::{Shape, alone};
use super::{Chaos, fault};
use crate::failure::Failure;
use crate::history::{Fault, When};

impl Chaos<'_> {
    /// One shape after the other.
    pub(super) async fn partition(&mut self, round: usize) -> Result<(), Failure> {
        let shape = Shape::ALL[round % Shape::ALL.len()];
        self.cut(shape, 6_000..12_000).await?;
        self.wait_whole().await?;
        self.sleep_ms(1_000..3_000).await;
        Ok(())
    }

    /// Cuts links in a shape around a leader, for some time.
    pub(super) async fn cut(&mut self, shape: Shape, ms: std::ops::Range<u64>) -> Result<(), Failure> {
        let (leader, _) = self.some_leader().await?;
        let nodes = self.cluster.numbers();
        let cuts = shape.cuts(&nodes, leader, &mut self.random);
        let partitions = self.all_partitions();
        for (from, to) in &cuts {
            self.cluster.network().cut(*from, *to).map_err(Failure)?;
        }
        let began = self.now();
        self.sleep_ms(ms).await;
        let at = When(began, self.now());
        for (from, to) in &cuts {
            self.cluster.network().mend(*from, *to).map_err(Failure)?;
        }
        let alone = alone(&nodes, &cuts);
        let cuts: Vec<(u64, u64)> = cuts.into_iter().collect();
        let detail = format!("cut from → to: {cuts:?}; node {leader} led");
        self.note(Fault { cuts, alone, ..fault(shape.name(), &[leader], at, partitions, detail) });
        Ok(())
    }
}
