//! From a request to its answer.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use stratalog_proto::Code;
use tokio::sync::OwnedSemaphorePermit;

use super::api::{APIS, Asked, Request, framed};
use super::connection::Client;
use super::room::Room;
use super::wire::Malformed;
use super::{
    Node, alter_configs, alter_partition_reassignments, api_versions, create_partitions, create_topics, delete_groups,
    delete_records, delete_topics, describe_cluster, describe_configs, describe_groups, describe_log_dirs,
    describe_producers, elect_leaders, fetch, find_coordinator, heartbeat, incremental_alter_configs, init_producer_id,
    join_group, leave_group, list_groups, list_offsets, list_partition_reassignments, metadata, offset_commit,
    offset_delete, offset_fetch, offset_for_leader_epoch, produce, requests, sasl_handshake, sync_group,
};

/// An answer, and what it holds until it is sent.
pub(super) struct Answered {
    /// `None`: the client wants none.
    pub(super) pieces: Option<Vec<Bytes>>,
    /// Its place among the records that were read and not sent.
    pub(super) held: Option<OwnedSemaphorePermit>,
    /// The number of a produce in what its client sends.
    pub(super) produce: Option<u64>,
}

impl Answered {
    fn with(pieces: Vec<Bytes>) -> Self {
        Self { pieces: Some(pieces), held: None, produce: None }
    }
}

/// Answers a request.
///
/// # Errors
/// A request that is not what its version says: the connection cannot go on.
pub(super) async fn answer(node: &Node, client: &Client, asked: Asked) -> Result<Answered, Malformed> {
    let mut request = match asked {
        Asked::Known(request) => request,
        Asked::NewerVersions { correlation } => {
            let body = api_versions::which_are_known();
            return Ok(Answered::with(framed(ApiKey::ApiVersions, 0, correlation, body)));
        }
    };
    client.shown.called(&request.client);
    let answered = body(node, client, &mut request).await.map_err(|why| {
        let by: String = request.client.chars().take(60).collect();
        Malformed::new(format!("{:?} of version {} by {by:?}: {why}", request.key, request.version))
    })?;
    node.shared.metrics.kafka(name(request.key));
    let pieces = answered.pieces.map(|body| framed(request.key, request.version, request.correlation, body));
    Ok(Answered { pieces, ..answered })
}

/// The kind of a request as Kafka names it.
fn name(key: ApiKey) -> &'static str {
    APIS.iter().find(|api| api.key == key).map_or("other", |api| api.name)
}

async fn body(node: &Node, client: &Client, request: &mut Request) -> Result<Answered, Malformed> {
    match request.key {
        ApiKey::Produce => return produce::answer(node, client, request).await,
        ApiKey::Fetch => {
            let (pieces, held) = fetch::answer(node, client, request).await?;
            return Ok(Answered { pieces: Some(pieces), held, produce: None });
        }
        ApiKey::ApiVersions => api_versions::answer(client, request),
        ApiKey::SaslHandshake => sasl_handshake::answer(client, request),
        ApiKey::Metadata => metadata::answer(node, client, request).await,
        ApiKey::FindCoordinator => find_coordinator::answer(node, client, request).await,
        ApiKey::ListOffsets => list_offsets::answer(node, request).await,
        ApiKey::CreateTopics => create_topics::answer(node, request).await,
        ApiKey::DeleteTopics => delete_topics::answer(node, request).await,
        ApiKey::DeleteRecords => delete_records::answer(node, request).await,
        ApiKey::InitProducerId => init_producer_id::answer(node, request).await,
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::answer(node, request).await,
        ApiKey::DescribeConfigs => describe_configs::answer(node, request).await,
        ApiKey::AlterConfigs => alter_configs::answer(node, request).await,
        ApiKey::IncrementalAlterConfigs => incremental_alter_configs::answer(node, request).await,
        ApiKey::CreatePartitions => create_partitions::answer(node, request).await,
        ApiKey::DescribeLogDirs => describe_log_dirs::answer(node, request).await,
        ApiKey::DescribeProducers => describe_producers::answer(node, request).await,
        ApiKey::ElectLeaders => elect_leaders::answer(node, request).await,
        ApiKey::AlterPartitionReassignments => alter_partition_reassignments::answer(node, client, request).await,
        ApiKey::ListPartitionReassignments => list_partition_reassignments::answer(request),
        ApiKey::DescribeCluster => describe_cluster::answer(node, client, request),
        ApiKey::OffsetFetch | ApiKey::DescribeGroups | ApiKey::ListGroups => {
            return about_groups(node, client, request).await;
        }
        _ => of_groups(node, client, request).await,
    }
    .map(Answered::with)
}

/// What groups are may be much more than their names: what it takes is counted until it is sent.
async fn about_groups(node: &Node, client: &Client, request: &Request) -> Result<Answered, Malformed> {
    let _turn = client.groups.lock().await;
    let mut room = Room::new(node);
    let pieces = match request.key {
        ApiKey::OffsetFetch => offset_fetch::answer(node, request, &mut room).await?,
        ApiKey::DescribeGroups => describe_groups::answer(node, request, &mut room).await?,
        _ => list_groups::answer(node, request, &mut room)?,
    };
    Ok(Answered { pieces: Some(pieces), held: room.held(), produce: None })
}

async fn of_groups(node: &Node, client: &Client, request: &mut Request) -> Result<Vec<Bytes>, Malformed> {
    let _turn = client.groups.lock().await;
    match request.key {
        ApiKey::JoinGroup => join_group::answer(node, client, request).await,
        ApiKey::SyncGroup => sync_group::answer(node, client, request).await,
        ApiKey::Heartbeat => heartbeat::answer(node, request).await,
        ApiKey::LeaveGroup => leave_group::answer(node, request).await,
        ApiKey::OffsetCommit => offset_commit::answer(node, request).await,
        ApiKey::DeleteGroups => delete_groups::answer(node, request).await,
        ApiKey::OffsetDelete => offset_delete::answer(node, request).await,
        // Only what is in the table gets here.
        key => Err(Malformed::new(format!("{key:?} is announced and not answered: {}", Code::Internal))),
    }
}

/// The most bytes that the answer to a request may hold, apart from what is small in any case.
pub(super) fn most_answered(asked: &Asked) -> usize {
    match asked {
        Asked::Known(request) => match request.key {
            ApiKey::Fetch => requests::fetch::most_bytes(request),
            // What groups and producers are may be much more than their names: one such answer at a time.
            ApiKey::DescribeGroups | ApiKey::ListGroups | ApiKey::OffsetFetch | ApiKey::DescribeProducers => {
                requests::fetch::MAX_BYTES
            }
            _ => 0,
        },
        Asked::NewerVersions { .. } => 0,
    }
}
