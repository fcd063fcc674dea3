//! What AlterConfigs and IncrementalAlterConfigs have in common.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use stratalog_query::TopicChange;

use super::Node;
use super::configs::{default_of, ours};
use super::errors::Refused;

/// Resource types.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// What is to be changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Resource {
    pub(super) kind: i8,
    pub(super) name: StrBytes,
}

/// Resources of a request that are named more than once: what they are to be is not clear, and nothing of them is changed.
pub(super) fn repeated(resources: impl Iterator<Item = Resource>) -> BTreeSet<Resource> {
    let mut named = BTreeSet::new();
    resources.filter(|resource| !named.insert(resource.clone())).collect()
}

/// Changes settings of a topic by name, all or none; those without a value get their defaults.
pub(super) async fn alter(
    node: &Node,
    resource: &Resource,
    settings: &[(StrBytes, Option<StrBytes>)],
    validate_only: bool,
) -> Result<(), Refused> {
    let refused = |error, message: &str| Err(Refused::new(error, message));
    match resource.kind {
        TOPIC => {}
        BROKER => {
            let message = "the settings of a node are in its file, and count when it starts: docs/CONFIG.md";
            return refused(ResponseError::InvalidRequest, message);
        }
        other => {
            return refused(ResponseError::InvalidRequest, &format!("resources of type {other} have no settings here"));
        }
    }
    let mut named = BTreeSet::new();
    if let Some((twice, _)) = settings.iter().find(|(name, _)| !named.insert(name)) {
        return refused(ResponseError::InvalidRequest, &format!("topic setting `{}` is there twice", &**twice));
    }
    let broker = &node.shared.broker;
    let topic = broker.current_topic(&resource.name).await?;
    let copies = broker.layout().replication();
    let mut change = TopicChange::default();
    for (name, value) in settings {
        let setting = match value {
            Some(value) => ours(&topic.config, name, value, copies)?,
            None => default_of(name)?,
        };
        change.settings.extend(setting.map(|(key, value)| (key.to_owned(), value)));
    }
    match validate_only {
        true => broker.check_change(&resource.name, &change).await?,
        false if change.settings.is_empty() => {}
        false => drop(broker.change_topic(&resource.name, &change).await?),
    }
    Ok(())
}

/// What a resource that is named more than once is told.
pub(super) fn is_repeated(resource: &Resource) -> Refused {
    let message = format!("a request names each resource once, and `{}` is there twice", &*resource.name);
    Refused::new(ResponseError::InvalidRequest, &message)
}
