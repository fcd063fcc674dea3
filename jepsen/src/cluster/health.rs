//! Whether a cluster is whole.

use std::time::{Duration, Instant};

use stratalog_proto::config::voters;
use stratalog_proto::v1::{ClusterShard, ClusterStatus};

use super::{Cluster, LOOK_EVERY};
use crate::failure::Failure;

/// A node that cannot start says so within this.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// What came of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// It answers.
    Serves,
    /// It ended by itself; its last words.
    Refused(String),
}

impl Cluster {
    /// Starts the process of a node, and waits until it answers, or has ended.
    ///
    /// # Errors
    /// If it does neither for as long as anybody has patience.
    pub(crate) async fn try_launch(&mut self, number: u64) -> Result<Started, Failure> {
        self.launch(number)?;
        self.wait_started(number).await
    }

    /// The same of a process that was started.
    ///
    /// # Errors
    /// As [`Cluster::try_launch`].
    pub(crate) async fn wait_started(&mut self, number: u64) -> Result<Started, Failure> {
        let deadline = Instant::now() + STARTS_WITHIN;
        while Instant::now() < deadline {
            let node = self.node_mut(number)?;
            if node.ended().is_some() {
                return Ok(Started::Refused(node.last_words()));
            }
            if self.status_of(number).await.is_some() {
                return Ok(Started::Serves);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(Failure(format!("node {number} was started, and neither answers nor ends within {STARTS_WITHIN:?}")))
    }

    /// Waits until every node answers, reaches the others, and every shard has a leader and all voters, up to date.
    ///
    /// # Errors
    /// What was missing when patience ended; at once, if a node ended by itself.
    pub(crate) async fn wait_whole(&mut self) -> Result<(), Failure> {
        let patience = self.site.patience;
        let deadline = Instant::now() + patience;
        loop {
            let Err(why) = self.check_whole().await else { return Ok(()) };
            if let Some(words) = self.revive()?.into_iter().next() {
                return Err(Failure(words));
            }
            if Instant::now() >= deadline {
                return Err(Failure(format!("the cluster was not whole within {patience:?}: {why}")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn check_whole(&self) -> Result<(), String> {
        for number in self.numbers() {
            let status = self.status_of(number).await.ok_or_else(|| format!("node {number} does not answer"))?;
            check_status(&status, number, self.nodes.len())?;
        }
        Ok(())
    }
}

fn check_status(status: &ClusterStatus, number: u64, members: usize) -> Result<(), String> {
    let nodes = status.nodes.len();
    if nodes != members {
        return Err(format!("node {number} knows {nodes} nodes of {members}"));
    }
    if let Some(node) = status.nodes.iter().find(|node| !node.reachable) {
        return Err(format!("node {number} does not reach node {}: {}", node.node, node.problem));
    }
    status.shards.iter().try_for_each(|shard| check_shard(shard, nodes).map_err(|why| format!("node {number}: {why}")))
}

/// Whether a shard has a leader, and as many voters as it is to have on so many nodes.
fn check_shard(shard: &ClusterShard, nodes: usize) -> Result<(), String> {
    let number = shard.shard;
    let votes = shard.replicas.iter().filter(|replica| replica.role == "voter").count();
    let wanted = voters(shard.replication, nodes);
    if shard.leader_node == 0 {
        return Err(format!("shard {number} has no leader"));
    }
    if votes != wanted || shard.replicas.iter().any(|replica| matches!(replica.role.as_str(), "joining" | "leaving")) {
        return Err(format!("shard {number} has {votes} voters of {wanted}"));
    }
    match shard.replicas.iter().find(|replica| replica.missing_segments > 0) {
        Some(replica) => Err(format!("replica {} of shard {number} misses segments", replica.replica)),
        None => Ok(()),
    }
}
