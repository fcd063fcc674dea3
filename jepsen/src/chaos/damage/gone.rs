//! Files that are gone.

use super::files::Target;
use super::{Chaos, fault};
use crate::cluster::Started;
use crate::failure::Failure;
use crate::history::When;

impl Chaos<'_> {
    /// One node loses all its replay segments, then one all its column segments.
    pub(in crate::chaos) async fn delete_segments(&mut self, round: usize) -> Result<(), Failure> {
        let target = [Target::Rec, Target::Col][round % 2];
        let (node, partitions) = self.some_leader().await?;
        let began = self.now();
        self.cluster.kill(node)?;
        let files = self.delete(node, target)?;
        if let Started::Refused(words) = self.cluster.try_launch(node).await? {
            return Err(Failure(format!("node {node} does not start: {words}")));
        }
        let ended = self.now();
        // Which takes that it has fetched them.
        self.wait_whole().await?;
        self.read_all_of(node, target).await?;
        self.whole_again(node, target).await?;
        let kind = format!("delete-{}", target.name());
        if files > 0 {
            self.note(fault(&kind, &[node], When(began, ended), partitions, format!("{files} files")));
        }
        self.sleep_ms(500..1_500).await;
        Ok(())
    }

    /// All nodes lose everything that is made of something else.
    pub(in crate::chaos) async fn delete_derived(&mut self) -> Result<(), Failure> {
        let all = self.cluster.numbers();
        let began = self.now();
        all.iter().try_for_each(|node| self.cluster.kill(*node))?;
        let mut files = 0;
        for node in &all {
            files += self.delete(*node, Target::Col)?;
        }
        all.iter().try_for_each(|node| self.cluster.launch(*node))?;
        let at = When(began, self.now());
        self.wait_whole().await?;
        if files > 0 {
            self.note(fault("delete-derived", &all, at, self.all_partitions(), format!("{files} files of all nodes")));
        }
        self.rest_since(began).await;
        Ok(())
    }

    fn delete(&self, node: u64, target: Target) -> Result<usize, Failure> {
        let files = target.files(&self.cluster.node(node)?.data);
        files.iter().try_for_each(std::fs::remove_file)?;
        Ok(files.len())
    }
}
