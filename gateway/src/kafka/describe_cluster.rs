//! DescribeCluster: the nodes.

use bytes::Bytes;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::Node;
use super::api::Request;
use super::connection::Client;
use super::operations;
use super::places::Places;
use super::wire::Malformed;

pub(super) fn answer(node: &Node, client: &Client, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: DescribeClusterRequest = request.decode()?;
    let places = Places::now(node, client);
    let brokers = places.brokers.iter().map(|place| {
        DescribeClusterBroker::default()
            .with_broker_id(place.id)
            .with_host(place.host.clone())
            .with_port(place.port)
            .with_rack(place.rack.clone())
    });
    let response = DescribeClusterResponse::default()
        .with_cluster_id(places.cluster_id())
        .with_controller_id(places.controller())
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations::if_asked(
            asked.include_cluster_authorized_operations,
            operations::CLUSTER,
        ));
    request.encode(&if request.version >= 1 { response.with_endpoint_type(asked.endpoint_type) } else { response })
}
