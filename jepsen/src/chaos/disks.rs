//! Devices without room.

use stratalog_client::Client;

use super::{ANSWERS_WITHIN, Chaos, fault};
use crate::cluster::{Disk, SmallDisk};
use crate::failure::Failure;
use crate::history::When;

pub(crate) const READS_SERVE: &str = "a node whose device is full answers reads";

impl Chaos<'_> {
    /// That of a follower, then that of a leader.
    pub(super) async fn fill_disks(&mut self) -> Result<(), Failure> {
        let (leader, _) = self.some_leader().await?;
        let others = self.others(leader);
        let follower = self.random.choice(others).unwrap_or(leader);
        self.fill("full-follower", follower).await?;
        let (leader, _) = self.some_leader().await?;
        self.fill("full-leader", leader).await
    }

    async fn fill(&mut self, kind: &str, node: u64) -> Result<(), Failure> {
        let partitions = self.partitions_led_by(node).await;
        self.disk(node)?.fill().map_err(Failure)?;
        let began = self.now();
        self.sleep_ms(2_000..4_000).await;
        let answered = self.reads_serve(node).await;
        let detail = format!("node {node}: {}", answered.as_ref().map_or_else(|why| why.as_str(), |()| "it does"));
        self.probe(READS_SERVE, began, answered.is_ok(), detail);
        self.sleep_ms(1_000..3_000).await;
        let ended = self.now();
        self.disk(node)?.empty().map_err(Failure)?;
        let detail = format!("it led partitions {partitions:?}");
        self.note(fault(kind, &[node], When(began, ended), partitions, detail));
        self.wait_whole().await?;
        self.sleep_ms(2_000..4_000).await;
        Ok(())
    }

    fn disk(&self, node: u64) -> Result<&SmallDisk, Failure> {
        match &self.cluster.node(node)?.disk {
            Disk::Small(disk) => Ok(disk),
            _ => Err(Failure(format!("node {node} has no device that can be filled"))),
        }
    }

    async fn reads_serve(&self, node: u64) -> Result<(), String> {
        let (address, topic) = (&self.cluster.node(node).map_err(|error| error.0)?.grpc, &self.shared.load.topic);
        let ask = async { Client::connect_only(address).await?.describe_topic(topic).await };
        let answer = tokio::time::timeout(2 * ANSWERS_WITHIN, ask).await.map_err(|_| "no answer".to_owned())?;
        answer.map(drop).map_err(|error| error.to_string())
    }
}
