//! When a cluster that was just started can be used.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use stratalog_client::Client;
use stratalog_proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::LocalNode;
use crate::failure::Failure;

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A start reads logs and rebuilds rows, which takes a while where there is much of them.
const READY_WITHIN: Duration = Duration::from_secs(300);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Of an answer about readiness.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Returns once all nodes are in one cluster and ready, and all shards have the replicas that they are to have.
///
/// # Errors
/// What is still waited for after minutes.
pub(super) async fn wait(nodes: &[LocalNode], mut tell: impl FnMut(&str)) -> Result<(), Failure> {
    let started = Instant::now();
    let mut told = String::new();
    loop {
        let Some(missing) = missing(nodes).await else { return Ok(()) };
        if missing != told {
            tell(&missing);
            told = missing;
        }
        if started.elapsed() > READY_WITHIN {
            return Err(Failure::Refused(format!("the cluster is not ready after {READY_WITHIN:?}: {told}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is not as it should be, the first of it.
async fn missing(nodes: &[LocalNode]) -> Option<String> {
    for node in nodes {
        if let Err(why) = is_ready(&node.http).await {
            return Some(format!("{} is not ready: {why}", node.name));
        }
    }
    let status = match Client::connect(&nodes.first()?.grpc).await {
        Ok(client) => client.cluster().await,
        Err(error) => Err(error),
    };
    match status {
        Ok(status) => lacking(&status, nodes.len()),
        Err(error) => Some(error.to_string()),
    }
}

/// What a cluster of so many nodes still lacks.
fn lacking(status: &v1::ClusterStatus, nodes: usize) -> Option<String> {
    if status.nodes.len() < nodes {
        return Some(format!("{} of {nodes} nodes are in the cluster", status.nodes.len()));
    }
    let joining = |replica: &&v1::ClusterReplica| replica.role == "joining" || replica.role == "leaving";
    let moving = status.shards.iter().flat_map(|shard| &shard.replicas).filter(joining).count();
    let short = status.shards.iter().filter(|shard| voters(shard) < wanted(shard, status)).count();
    if moving + short > 0 {
        let all = status.shards.len();
        return Some(format!("{} of {all} shards have their replicas on other nodes, too", all - short));
    }
    let leaderless = status.shards.iter().find(|shard| shard.leader_node == 0)?;
    Some(format!("shard {} has no leader yet", leaderless.shard))
}

fn voters(shard: &v1::ClusterShard) -> usize {
    let voters = shard.replicas.iter().filter(|replica| replica.role == "voter");
    voters.map(|replica| replica.node).collect::<BTreeSet<_>>().len()
}

/// As many as it is to have, on as many nodes as there are; an even number is one too many.
fn wanted(shard: &v1::ClusterShard, status: &v1::ClusterStatus) -> usize {
    let possible = (shard.replication as usize).min(status.nodes.len());
    if possible.is_multiple_of(2) { possible.saturating_sub(1).max(1) } else { possible }
}

/// Asks `GET /readyz` of a node at `http`, as in `http://127.0.0.1:8080`; the reason if it is not.
async fn is_ready(http: &str) -> Result<(), String> {
    let address = http.trim_start_matches("http://");
    let answer = tokio::time::timeout(ANSWER_WITHIN, ask(address)).await;
    let answer = answer.map_err(|_| "it does not answer".to_owned())?.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    let body: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let message = body.and_then(|body| Some(body["error"]["message"].as_str()?.to_owned()));
    Err(message.unwrap_or_else(|| head.lines().next().unwrap_or_default().to_owned()))
}

async fn ask(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(shard: u32, replication: u32, leader_node: u64, replicas: &[(u64, &str)]) -> v1::ClusterShard {
        let replica = |(node, role): &(u64, &str)| v1::ClusterReplica {
            node: *node,
            role: (*role).to_owned(),
            ..v1::ClusterReplica::default()
        };
        let replicas = replicas.iter().map(replica).collect();
        v1::ClusterShard { shard, replication, leader_node, replicas, ..v1::ClusterShard::default() }
    }

    fn status(nodes: usize, shards: Vec<v1::ClusterShard>) -> v1::ClusterStatus {
        let nodes = vec![v1::ClusterNode::default(); nodes];
        v1::ClusterStatus { nodes, shards, ..v1::ClusterStatus::default() }
    }

    #[test]
    fn a_cluster_lacks_nodes_then_replicas_then_leaders() {
        let voters = [(1, "voter"), (2, "voter"), (3, "voter")];
        let lacks = |status| lacking(&status, 3).unwrap_or_default();
        assert!(lacks(status(2, vec![])).contains("2 of 3 nodes"));
        let joining = [(1, "voter"), (2, "voter"), (3, "joining")];
        assert!(lacks(status(3, vec![shard(0, 3, 1, &voters), shard(1, 3, 1, &joining)])).contains("1 of 2 shards"));
        assert!(lacks(status(3, vec![shard(0, 3, 1, &voters), shard(1, 3, 0, &voters)])).contains("shard 1"));
        assert_eq!(lacks(status(3, vec![shard(0, 3, 1, &voters), shard(1, 3, 2, &voters)])), "");
    }

    #[test]
    fn two_nodes_have_one_voter_of_each_shard() {
        assert_eq!(lacking(&status(2, vec![shard(1, 3, 1, &[(1, "voter")])]), 2), None);
        assert_eq!(lacking(&status(4, vec![shard(1, 1, 1, &[(1, "voter")])]), 4), None);
    }
}
