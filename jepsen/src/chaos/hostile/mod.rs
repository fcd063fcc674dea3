//! Clients that are slow, say nothing, or say what nobody should.

mod garbage;
mod queries;
mod slow;

use std::time::{Duration, Instant};

use super::{ANSWERS_WITHIN, CALM, Chaos, fault};
use crate::failure::Failure;
use crate::history::When;
use stratalog_client::Client;

pub(crate) const CLOSED_IN_TIME: &str = "connections that are idle or slow from the start are closed within 10 s";
pub(crate) const OTHERS_ARE_SERVED: &str = "a client that does nothing wrong is served";
pub(crate) const GARBAGE_IS_REFUSED: &str = "what is no request is refused within bounded memory";
pub(crate) const QUERIES_END: &str = "a statement that asks for too much ends with an error that says so";

/// Half of them say nothing, half of them a byte a second.
const CONNECTIONS: usize = 4_000;
/// How long such a connection may last, and what a machine of few cores takes longer.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);
/// What garbage may cost beside what the load does meanwhile.
const MEMORY_BYTES: u64 = 64 << 20;
/// How long statements are asked that ask for too much.
const QUERIES_FOR: Duration = Duration::from_secs(20);

impl Chaos<'_> {
    /// Thousands of connections to one node that are idle or slow.
    pub(super) async fn slow_clients(&mut self) -> Result<(), Failure> {
        let (node, partitions) = self.some_leader().await?;
        let ports = self.ports(node)?;
        let began = self.now();
        let client_ports = &ports[..2];
        let crowd = slow::Crowd::begin(client_ports, CONNECTIONS).await;
        tokio::time::sleep(CLOSED_WITHIN / 2).await;
        self.others_are_served(node).await?;
        tokio::time::sleep(CLOSED_WITHIN / 2 + GRACE).await;
        let ended = self.now();
        let (opened, open) = (crowd.opened, crowd.still_open());
        drop(crowd);
        let left: usize = open.iter().map(|(_, count)| count).sum();
        let detail =
            format!("of {opened} connections to node {node} are open after {:?}: {open:?}", CLOSED_WITHIN + GRACE);
        self.probe(CLOSED_IN_TIME, began, left == 0, detail);
        if opened >= CONNECTIONS {
            self.note(fault("slow-clients", &[node], When(began, ended), partitions, format!("{opened} connections")));
        }
        self.wait_whole().await?;
        self.sleep_ms(1_000..3_000).await;
        Ok(())
    }

    /// Bytes that are no requests, on all ports of one node.
    pub(super) async fn garbage(&mut self) -> Result<(), Failure> {
        let (node, partitions) = self.some_leader().await?;
        let ports = self.ports(node)?;
        // It is there from the second time on.
        let _ = self.cluster.client().await?.create_topic(garbage::TOPIC, 1, &[]).await;
        let before = self.cluster.node(node)?.memory_bytes()?;
        let began = self.now();
        let sent = garbage::send_all(&ports, &mut self.random).await;
        self.others_are_served(node).await?;
        let ended = self.now();
        let after = self.cluster.node(node)?.memory_bytes()?;
        let grown = after.saturating_sub(before);
        let held = sent.troubles.is_empty() && grown < MEMORY_BYTES;
        let detail = format!("memory of node {node} went from {before} to {after} bytes; {:?}", sent.troubles);
        self.probe(GARBAGE_IS_REFUSED, began, held, detail);
        self.note(fault("garbage", &[node], When(began, ended), partitions, format!("{} messages", sent.messages)));
        self.wait_whole().await?;
        self.sleep_ms(500..2_000).await;
        Ok(())
    }

    /// Statements that ask for more than anybody has, several at once.
    pub(super) async fn hostile_queries(&mut self) -> Result<(), Failure> {
        tokio::time::sleep(CALM).await;
        let (client, topic) = (self.cluster.client().await?, self.shared.load.topic.clone());
        let began = self.now();
        let asked = queries::ask(&client, &topic, Instant::now() + QUERIES_FOR, &mut self.random).await;
        let ended = self.now();
        let detail = format!("{} statements: {:?}", asked.count, asked.ends);
        let troubles = asked.troubles.join("; ");
        self.probe(QUERIES_END, began, asked.troubles.is_empty(), format!("{detail}; {troubles}"));
        // What was ended at its deadline may not go on behind it.
        tokio::time::sleep(CALM).await;
        self.watch_for_ends()?;
        self.probe_memory(began)?;
        let (numbers, partitions) = (self.cluster.numbers(), self.all_partitions());
        self.note(fault("hostile-queries", &numbers, When(began, ended), partitions, detail));
        self.wait_whole().await
    }

    async fn others_are_served(&self, node: u64) -> Result<(), Failure> {
        let began = self.now();
        let (address, topic) = (self.cluster.node(node)?.grpc.clone(), self.shared.load.topic.clone());
        let ask = async move { Client::connect_only(&address).await?.describe_topic(&topic).await };
        let answer = tokio::time::timeout(ANSWERS_WITHIN, ask).await;
        let (held, detail) = match answer {
            Ok(Ok(_)) => (true, String::new()),
            Ok(Err(error)) => (false, format!("node {node}: {error}")),
            Err(_) => (false, format!("node {node} gave no answer within {ANSWERS_WITHIN:?}")),
        };
        self.probe(OTHERS_ARE_SERVED, began, held, detail);
        Ok(())
    }

    /// gRPC, HTTP, other nodes.
    fn ports(&self, node: u64) -> Result<[(&'static str, String); 3], Failure> {
        let node = self.cluster.node(node)?;
        let grpc = node.grpc.trim_start_matches("http://").to_owned();
        Ok([("grpc", grpc), ("http", node.http.clone()), ("peer", node.peer.clone())])
    }
}
