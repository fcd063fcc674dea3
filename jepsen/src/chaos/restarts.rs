//! Nodes that are asked to stop, one after the other, under load.

use std::path::{Path, PathBuf};

use super::{Chaos, fault};
use crate::failure::Failure;
use crate::history::When;

impl Chaos<'_> {
    pub(super) async fn rolling_restart(&mut self) -> Result<(), Failure> {
        let binary = self.binary.clone();
        self.roll("restart", &binary).await
    }

    /// From the one release to the other and back.
    pub(super) async fn upgrade(&mut self) -> Result<(), Failure> {
        let missing = || Failure::new("an upgrade needs the binary of another release: --other-binary PATH");
        let other: PathBuf = self.other_binary.clone().ok_or_else(missing)?;
        self.roll("to-other-release", &other).await?;
        let binary = self.binary.clone();
        self.roll("to-this-release", &binary).await
    }

    async fn roll(&mut self, kind: &str, binary: &Path) -> Result<(), Failure> {
        for node in self.cluster.numbers() {
            let partitions = self.partitions_led_by(node).await;
            let began = self.now();
            if let Err(why) = self.cluster.stop(node).await {
                self.probe("a node that is asked to stop does so", began, false, why.0);
            }
            let ended = self.now();
            self.cluster.launch_of(node, binary)?;
            let detail = format!("it led partitions {partitions:?}");
            self.note(fault(kind, &[node], When(began, ended), partitions, detail));
            self.wait_whole().await?;
            self.sleep_ms(500..1_500).await;
        }
        Ok(())
    }
}
