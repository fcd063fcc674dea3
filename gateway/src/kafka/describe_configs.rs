//! DescribeConfigs: the settings of topics and of the node that is asked, by Kafka's names.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use stratalog_proto::{Code, Error};

use super::altering::{BROKER, TOPIC};
use super::api::Request;
use super::configs::{Shown, shown};
use super::wire::Malformed;
use super::{Node, errors, node_configs};

/// Sources of a value.
const OF_TOPIC: i8 = 1;
const OF_NODE: i8 = 4;
const DEFAULT: i8 = 5;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: DescribeConfigsRequest = request.decode()?;
    let mut results = Vec::with_capacity(asked.resources.len());
    // Each once: an answer is much larger than a name.
    let mut named = BTreeSet::new();
    for resource in asked.resources {
        if named.insert((resource.resource_type, resource.resource_name.clone())) {
            results.push(describe(node, resource, asked.include_synonyms, request.version).await);
        }
    }
    request.encode(&DescribeConfigsResponse::default().with_results(results))
}

async fn describe(
    node: &Node,
    resource: DescribeConfigsResource,
    synonyms: bool,
    version: i16,
) -> DescribeConfigsResult {
    let told = DescribeConfigsResult::default().with_resource_type(resource.resource_type);
    let found = match resource.resource_type {
        TOPIC => {
            let copies = node.shared.broker.layout().replication();
            node.shared.broker.find_topic(&resource.resource_name).await.map(|topic| shown(&topic.config, copies))
        }
        BROKER => of_node(node, &resource.resource_name),
        other => Err(Error::new(Code::InvalidRequest, format!("resources of type {other} have no settings here"))),
    };
    let wanted = |setting: &Shown| {
        let keys = resource.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.iter().any(|key| **key == *setting.name))
    };
    let told = match found {
        Ok(settings) => {
            let settings = settings.into_iter().filter(wanted);
            let source = if resource.resource_type == BROKER { OF_NODE } else { OF_TOPIC };
            told.with_configs(settings.map(|setting| told_of(setting, source, synonyms, version)).collect())
        }
        Err(error) => {
            told.with_error_code(errors::number(error.code)).with_error_message(Some(errors::message(&error)))
        }
    };
    told.with_resource_name(resource.resource_name)
}

/// The settings of this node; each node tells its own. Without a name those of all nodes are meant that were changed while they
/// ran, and there are none.
fn of_node(node: &Node, name: &str) -> Result<Vec<Shown>, Error> {
    let me = node.shared.broker.layout().me().0.to_string();
    match name {
        "" => Ok(Vec::new()),
        name if name == me => Ok(node_configs::shown(node)),
        _ => Err(Error::new(Code::InvalidRequest, format!("node {me} was asked, which tells its own settings only"))),
    }
}

/// `source`: of what is not just a default.
fn told_of(setting: Shown, source: i8, synonyms: bool, version: i16) -> DescribeConfigsResourceResult {
    let value = Some(StrBytes::from_string(setting.value));
    let name = StrBytes::from_static_str(setting.name);
    let source = if setting.is_set { source } else { DEFAULT };
    let synonym =
        || DescribeConfigsSynonym::default().with_name(name.clone()).with_value(value.clone()).with_source(source);
    let told = DescribeConfigsResourceResult::default()
        .with_read_only(setting.is_fixed)
        .with_config_source(source)
        .with_synonyms(synonyms.then(synonym).into_iter().collect());
    let told = if version >= 3 { told.with_config_type(setting.kind as i8) } else { told };
    told.with_value(value).with_name(name)
}
