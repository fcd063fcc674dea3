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

/// Settings by name; those without a value get their defaults.
pub(super) type Settings = Vec<(StrBytes, Option<StrBytes>)>;

/// What a request names more than once: what is to become of it is not clear, and nothing of it is changed.
pub(super) fn repeated<T: Ord + Clone>(names: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut named = BTreeSet::new();
    names.filter(|name| !named.insert(name.clone())).collect()
}

/// Changes settings of a resource as its request says, all or none.
pub(super) async fn alter(
    node: &Node,
    repeated: &BTreeSet<Resource>,
    resource: &Resource,
    settings: Result<Settings, Refused>,
    validate_only: bool,
) -> Result<(), Refused> {
    if repeated.contains(resource) {
        let message = format!("a request names each resource once, and `{}` is there twice", &*resource.name);
        return Err(Refused::new(ResponseError::InvalidRequest, &message));
    }
    alter_topic(node, resource, &settings?, validate_only).await
}

async fn alter_topic(
    node: &Node,
    resource: &Resource,
    settings: &[(StrBytes, Option<StrBytes>)],
    validate_only: bool,
) -> Result<(), Refused> {
    let refused = |error, message: &str| Err(Refused::new(error, message));
    match resource.kind {
        TOPIC => {}
        // Kafka's tools delete what they may have set before: nothing of it ever is.
        BROKER if !settings.is_empty() && settings.iter().all(|(_, value)| value.is_none()) => return Ok(()),
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
