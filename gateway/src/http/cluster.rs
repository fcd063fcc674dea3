//! The cluster, and a node that belongs to none yet.

use std::future::ready;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use stratalog_broker::{ClusterStatus, NodeStatus, ReplicaStatus, ShardStatus};

use super::error::HttpError;
use super::params::{NoParams, Params};
use super::{App, health};
use crate::waiting::WaitingNode;

/// `GET /v1/cluster`
pub(super) async fn status(
    State(app): State<App>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Value>, HttpError> {
    Ok(Json(status_value(&app.broker.cluster_status().await?)))
}

/// Every route of a node that waits for a cluster: it lives, and refuses the rest.
pub(crate) fn waiting(node: &WaitingNode) -> Router {
    let warn = {
        let node = node.clone();
        move || {
            ready(Json(status_value(&ClusterStatus { warnings: vec![node.not_formed().message], ..<_>::default() })))
        }
    };
    let node = node.clone();
    Router::new()
        .route("/", get(health::about))
        .route("/healthz", get(health::healthz))
        .route("/v1/cluster", get(warn))
        .fallback(move || ready(HttpError::from(node.not_formed())))
}

fn status_value(status: &ClusterStatus) -> Value {
    json!({
        "cluster": status.cluster.map(|cluster| cluster.to_string()),
        "answered_by": status.cluster.map(|_| status.answered_by.0),
        "replication": status.replication,
        "feature_level": status.feature_level,
        "nodes": status.nodes.iter().map(node_value).collect::<Vec<_>>(),
        "shards": status.shards.iter().map(shard_value).collect::<Vec<_>>(),
        "warnings": status.warnings,
    })
}

fn node_value(node: &NodeStatus) -> Value {
    json!({
        "node": node.node.0,
        "incarnation": node.incarnation.to_string(),
        "peer_address": node.peer_address,
        "grpc_address": node.grpc_address,
        "http_address": node.http_address,
        "kafka_address": node.kafka_address,
        "kafka_listeners": node.kafka_listeners,
        "zone": node.zone,
        "version": node.version,
        "feature_level": node.feature_level,
        "state": node.state.name(),
        "reachable": node.reachable,
        "replicas": node.replicas,
        "leads": node.leads,
        "problem": node.problem,
    })
}

fn shard_value(shard: &ShardStatus) -> Value {
    json!({
        "shard": shard.shard.0,
        "replication": shard.replication,
        "leader": shard.leader.map(|node| node.0),
        "term": shard.term.0,
        "applied": shard.applied.0,
        "replay_frontier": shard.replay_frontier.0,
        "bytes": shard.bytes,
        "partitions": shard.partitions,
        "replicas": shard.replicas.iter().map(replica_value).collect::<Vec<_>>(),
    })
}

fn replica_value(replica: &ReplicaStatus) -> Value {
    json!({
        "replica": replica.replica.0,
        "node": replica.node.0,
        "role": replica.role.name(),
        "applied": replica.applied.0,
        "missing_segments": replica.missing_segments,
        "missing_bytes": replica.missing_bytes,
        "in_doubt": replica.in_doubt,
    })
}
