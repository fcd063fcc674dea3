//! How a cluster is shown.

use std::fmt::Write as _;

use serde_json::{Value, json};
use stratalog_proto::v1;

use crate::cli::OutputFormat;
use crate::failure::Failure;
use crate::output::{Fields, Listing, human_bytes, print_object, say};

/// Prints all that there is to say of a cluster.
pub(super) fn print(format: OutputFormat, status: &v1::ClusterStatus) -> Result<(), Failure> {
    match format {
        OutputFormat::Table => print_for_people(status),
        OutputFormat::Csv => shards(status).print(format),
        OutputFormat::Json | OutputFormat::Ndjson => {
            let nodes = status.nodes.iter().map(|node| object(node_fields(node)));
            let shards = status.shards.iter().map(|shard| object(shard_fields(shard)));
            let fields = vec![
                ("cluster", given(&status.cluster)),
                ("answered_by", number(status.answered_by)),
                ("replication", status.replication.into()),
                ("feature_level", status.feature_level.into()),
                ("nodes", nodes.collect()),
                ("shards", shards.collect()),
                ("warnings", status.warnings.clone().into()),
            ];
            print_object(format, &fields)
        }
    }
}

fn print_for_people(status: &v1::ClusterStatus) -> Result<(), Failure> {
    if !status.cluster.is_empty() {
        say!(
            "cluster {}, replication {}, feature level {}, as node {} sees it",
            status.cluster,
            status.replication,
            status.feature_level,
            status.answered_by
        )?;
        nodes(status).without_empty(&["zone", "kafka_address"]).print(OutputFormat::Table)?;
        shards(status).print(OutputFormat::Table)?;
    }
    status.warnings.iter().try_for_each(|warning| say!("warning: {warning}"))
}

fn nodes(status: &v1::ClusterStatus) -> Listing {
    let addresses = ["peer_address", "grpc_address", "http_address", "kafka_address"];
    let columns = [&["node", "state", "zone", "version"], &addresses[..], &["replicas", "leads"]].concat();
    let mut listing = Listing::new(&columns);
    for node in &status.nodes {
        listing.push(vec![
            node.node.into(),
            if node.reachable { node.state.clone() } else { format!("{}, not reached", node.state) }.into(),
            given(&node.zone),
            node.version.clone().into(),
            node.peer_address.clone().into(),
            node.grpc_address.clone().into(),
            node.http_address.clone().into(),
            given(&kafka_addresses(node)),
            node.replicas.into(),
            node.leads.into(),
        ]);
    }
    listing
}

/// Where Kafka clients reach a node: `10.0.0.1:9092, outside: node1.example:9093`.
fn kafka_addresses(node: &v1::ClusterNode) -> String {
    let unnamed = Some(node.kafka_address.clone()).filter(|address| !address.is_empty());
    let named = node.kafka_listeners.iter().map(|listener| format!("{}: {}", listener.name, listener.address));
    unnamed.into_iter().chain(named).collect::<Vec<_>>().join(", ")
}

fn shards(status: &v1::ClusterStatus) -> Listing {
    let columns = ["shard", "leader", "term", "applied", "not_rolled", "size", "partitions", "replicas"];
    let mut listing = Listing::new(&columns);
    for shard in &status.shards {
        listing.push(vec![
            if shard.shard == 0 { "0 (metadata)".into() } else { shard.shard.into() },
            match shard.leader_node {
                0 => "none known".into(),
                node => node.into(),
            },
            shard.term.into(),
            shard.applied.into(),
            shard.applied.saturating_sub(shard.replay_frontier).into(),
            human_bytes(shard.bytes).into(),
            shard.partitions.into(),
            replicas(shard).into(),
        ]);
    }
    listing
}

/// The nodes of the replicas, with what is not as it should be: `1, 2 (-40), 3 (joining, 12.0 MiB missing)`.
fn replicas(shard: &v1::ClusterShard) -> String {
    let mut text = String::new();
    let mut by_node: Vec<_> = shard.replicas.iter().collect();
    by_node.sort_by_key(|replica| replica.node);
    for replica in by_node {
        let mut notes = Vec::new();
        if replica.role != "voter" {
            notes.push(replica.role.clone());
        }
        match shard.applied.saturating_sub(replica.applied) {
            0 => {}
            _ if replica.applied == 0 => notes.push("no answer".to_owned()),
            behind => notes.push(format!("-{behind}")),
        }
        if replica.missing_segments > 0 {
            notes.push(format!("{} missing", human_bytes(replica.missing_bytes)));
        }
        if replica.in_doubt {
            notes.push("in doubt".to_owned());
        }
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = match notes.is_empty() {
            true => write!(text, "{comma}{}", replica.node),
            false => write!(text, "{comma}{} ({})", replica.node, notes.join(", ")),
        };
    }
    text
}

/// A node, by the keys of its JSON.
pub(super) fn node_fields(node: &v1::ClusterNode) -> Fields {
    vec![
        ("node", node.node.into()),
        ("incarnation", node.incarnation.clone().into()),
        ("peer_address", node.peer_address.clone().into()),
        ("grpc_address", node.grpc_address.clone().into()),
        ("http_address", node.http_address.clone().into()),
        ("kafka_address", node.kafka_address.clone().into()),
        ("kafka_listeners", kafka_listeners(node)),
        ("zone", node.zone.clone().into()),
        ("version", node.version.clone().into()),
        ("feature_level", node.feature_level.into()),
        ("state", node.state.clone().into()),
        ("reachable", node.reachable.into()),
        ("replicas", node.replicas.into()),
        ("leads", node.leads.into()),
        ("problem", given(&node.problem)),
    ]
}

fn kafka_listeners(node: &v1::ClusterNode) -> serde_json::Value {
    node.kafka_listeners.iter().map(|listener| (listener.name.clone(), Value::from(listener.address.clone()))).collect()
}

fn shard_fields(shard: &v1::ClusterShard) -> Fields {
    let replica = |replica: &v1::ClusterReplica| {
        json!({
            "replica": replica.replica,
            "node": replica.node,
            "role": replica.role,
            "applied": replica.applied,
            "missing_segments": replica.missing_segments,
            "missing_bytes": replica.missing_bytes,
            "in_doubt": replica.in_doubt,
        })
    };
    vec![
        ("shard", shard.shard.into()),
        ("replication", shard.replication.into()),
        ("leader", number(shard.leader_node)),
        ("term", shard.term.into()),
        ("applied", shard.applied.into()),
        ("replay_frontier", shard.replay_frontier.into()),
        ("bytes", shard.bytes.into()),
        ("partitions", shard.partitions.into()),
        ("replicas", shard.replicas.iter().map(replica).collect()),
    ]
}

fn object(fields: Fields) -> Value {
    Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Null for nothing.
fn given(text: &str) -> Value {
    Some(text).filter(|text| !text.is_empty()).into()
}

/// Null for 0, which stands for none.
fn number(node: u64) -> Value {
    Some(node).filter(|node| *node > 0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_told_with_what_is_not_as_it_should_be() {
        let replica = |node, role: &str, applied, missing: u64| v1::ClusterReplica {
            node,
            role: role.to_owned(),
            applied,
            missing_segments: missing.min(1),
            missing_bytes: missing,
            ..v1::ClusterReplica::default()
        };
        let all = vec![
            replica(2, "voter", 60, 0),
            replica(1, "voter", 100, 0),
            replica(3, "voter", 0, 0),
            replica(4, "joining", 100, 2048),
        ];
        let shard = v1::ClusterShard { applied: 100, replicas: all, ..v1::ClusterShard::default() };
        assert_eq!(replicas(&shard), "1, 2 (-40), 3 (no answer), 4 (joining, 2.0 KiB missing)");
    }
}
