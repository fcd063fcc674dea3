//! IncrementalAlterConfigs: some settings of topics by Kafka's names; the others stay.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::Node;
use super::altering::{Resource, Settings, alter, repeated};
use super::api::Request;
use super::errors::Refused;
use super::wire::Malformed;

/// What is done to a setting.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: IncrementalAlterConfigsRequest = request.decode()?;
    let repeated = repeated(asked.resources.iter().map(named));
    let mut responses = Vec::with_capacity(asked.resources.len());
    for asked_for in asked.resources {
        let resource = named(&asked_for);
        let settings: Result<Settings, _> = asked_for.configs.into_iter().map(setting).collect();
        let altered = alter(node, &repeated, &resource, settings, asked.validate_only).await;
        let told = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.kind)
            .with_resource_name(resource.name)
            .with_error_message(None);
        responses.push(match altered {
            Ok(()) => told,
            Err(refused) => told.with_error_code(refused.number).with_error_message(Some(refused.message)),
        });
    }
    request.encode(&IncrementalAlterConfigsResponse::default().with_responses(responses))
}

fn named(resource: &AlterConfigsResource) -> Resource {
    Resource { kind: resource.resource_type, name: resource.resource_name.clone() }
}

fn setting(config: AlterableConfig) -> Result<(StrBytes, Option<StrBytes>), Refused> {
    let name = &*config.name;
    match (config.config_operation, config.value) {
        (SET, Some(value)) => Ok((config.name, Some(value))),
        (DELETE, _) => Ok((config.name, None)),
        (SET, None) => {
            Err(Refused::new(ResponseError::InvalidRequest, &format!("topic setting `{name}` has no value")))
        }
        (operation @ (APPEND | SUBTRACT), _) => {
            let what = if operation == APPEND { "APPEND to" } else { "SUBTRACT from" };
            let message =
                format!("{what} topic setting `{name}` is not possible: no setting here is a list that changes");
            Err(Refused::new(ResponseError::InvalidConfig, &message))
        }
        (other, _) => {
            let message = format!("there is no operation {other} for topic setting `{name}`: 0 is SET, 1 is DELETE");
            Err(Refused::new(ResponseError::InvalidRequest, &message))
        }
    }
}
