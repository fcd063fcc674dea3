//! AlterConfigs: the settings of topics by Kafka's names. Those that Kafka has and a request does not name get their defaults;
//! those that only we have stay, since no client of Kafka knows that they are there.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::Node;
use super::altering::{Resource, Settings, alter, repeated};
use super::api::Request;
use super::configs::CHANGEABLE;
use super::errors::Refused;
use super::wire::Malformed;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: AlterConfigsRequest = request.decode()?;
    let repeated = repeated(asked.resources.iter().map(named));
    let mut responses = Vec::with_capacity(asked.resources.len());
    for asked_for in asked.resources {
        let resource = named(&asked_for);
        let altered = alter(node, &repeated, &resource, whole(asked_for), asked.validate_only).await;
        let told = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.kind)
            .with_resource_name(resource.name)
            .with_error_message(None);
        responses.push(match altered {
            Ok(()) => told,
            Err(refused) => told.with_error_code(refused.number).with_error_message(Some(refused.message)),
        });
    }
    request.encode(&AlterConfigsResponse::default().with_responses(responses))
}

fn named(resource: &AlterConfigsResource) -> Resource {
    Resource { kind: resource.resource_type, name: resource.resource_name.clone() }
}

/// All settings that Kafka has and that may change, and what else is named.
fn whole(resource: AlterConfigsResource) -> Result<Settings, Refused> {
    let mut settings = Vec::with_capacity(resource.configs.len());
    for config in resource.configs {
        if config.value.is_none() {
            let message = format!("topic setting `{}` has no value", &*config.name);
            return Err(Refused::new(ResponseError::InvalidRequest, &message));
        }
        settings.push((config.name, config.value));
    }
    for name in CHANGEABLE {
        // Retention has two names.
        let is_named = |given: &str| given == *name || *name == "retention.ms" && given == "retention";
        if !settings.iter().any(|(given, _)| is_named(given)) {
            settings.push((StrBytes::from_static_str(name), None));
        }
    }
    Ok(settings)
}
