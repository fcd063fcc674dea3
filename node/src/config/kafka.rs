//! `[kafka]`: where Kafka clients are listened to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stratalog_gateway::KafkaOptions;

use super::cluster::reachable;
use super::units::Span;
use super::{Bound, Cluster, bounded};
use crate::failure::Failure;

/// More listeners than anybody needs, beside the one without a name.
const MAX_LISTENERS: usize = 16;
/// The longest name of one.
const MAX_NAME_BYTES: usize = 64;

/// `[kafka]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Kafka {
    /// Address and port; empty: there is no listener without a name.
    pub(crate) listen: String,
    /// Whether a topic is created that a client asks for and that is not there, as Kafka does.
    pub(crate) auto_create_topics: bool,
    /// Connections of all listeners; further ones wait until there is room.
    pub(crate) max_connections: u32,
    /// How long a connection may be without a request.
    pub(crate) idle_timeout: Span,
    /// By their names.
    pub(crate) listeners: BTreeMap<String, Listener>,
}

/// `[kafka.listeners.NAME]`: a further listener, whose clients are sent to those of this name on the other nodes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listener {
    /// Address and port.
    pub(crate) listen: String,
    /// Where its clients are sent to; empty: to where it listens.
    pub(crate) advertise: String,
}

impl Default for Kafka {
    fn default() -> Self {
        let KafkaOptions { auto_create_topics, max_connections, idle_timeout, .. } = KafkaOptions::default();
        let max_connections = u32::try_from(max_connections).unwrap_or(u32::MAX);
        Self {
            listen: "127.0.0.1:9092".to_owned(),
            auto_create_topics,
            max_connections,
            idle_timeout: Span(idle_timeout),
            listeners: BTreeMap::new(),
        }
    }
}

impl Kafka {
    /// What the listeners are started with.
    pub(crate) fn options(&self) -> KafkaOptions {
        KafkaOptions {
            auto_create_topics: self.auto_create_topics,
            max_connections: self.max_connections as usize,
            idle_timeout: self.idle_timeout.0,
            ..KafkaOptions::default()
        }
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`Failure::Usage`], naming the key, the value and what is allowed.
    pub(super) fn validate(&self) -> Result<(), Failure> {
        bounded("kafka.max_connections", u64::from(self.max_connections), 1, 1_000_000)?;
        if self.idle_timeout.0 < Duration::from_secs(1) {
            return Err(Failure::Usage("kafka.idle_timeout is shorter than a second".to_owned()));
        }
        bounded("kafka.listeners, its length,", self.listeners.len() as u64, 0, MAX_LISTENERS as u64)?;
        self.listeners.iter().try_for_each(|(name, listener)| listener.validate(name))
    }

    /// Where clients of the listeners that have names are sent to, by these.
    pub(super) fn told(&self, cluster: &Cluster, bound: &Bound) -> BTreeMap<String, String> {
        let named = self.listeners.iter().filter_map(|(name, listener)| {
            let address = cluster.advertised(&listener.advertise, *bound.kafka_listeners.get(name)?);
            (!address.is_empty()).then(|| (name.clone(), address))
        });
        named.collect()
    }
}

impl Listener {
    fn validate(&self, name: &str) -> Result<(), Failure> {
        // The environment knows no capitals, and names are the same on every node.
        let is_allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'-');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_allowed) {
            return Err(Failure::Usage(format!(
                "kafka.listeners.{name}: the name of a listener is lowercase letters, digits, `_` and `-`, at most \
                 {MAX_NAME_BYTES} of them"
            )));
        }
        if self.listen.is_empty() {
            return Err(Failure::Usage(format!("kafka.listeners.{name}.listen is missing: write ADDRESS:PORT")));
        }
        let advertise = &self.advertise;
        if advertise.is_empty() {
            return Ok(());
        }
        reachable(&format!("kafka.listeners.{name}.advertise"), advertise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn settings(toml: &str) -> Settings {
        toml::from_str(toml).unwrap()
    }

    fn refused(toml: &str) -> String {
        settings(toml).validate().unwrap_err().to_string()
    }

    const TWO: &str = "
        [kafka.listeners.inside]
        listen = '127.0.0.1:9093'
        [kafka.listeners.outside]
        listen = '0.0.0.0:9094'
        advertise = 'node1.example:19094'
    ";

    #[test]
    fn listeners_have_names_and_the_one_without_stays() {
        let settings = settings(&format!("insecure = true\n{TWO}"));
        settings.validate().unwrap();
        assert_eq!(settings.kafka_addr().unwrap().unwrap().port(), 9092);
        let named = settings.kafka_addrs().unwrap();
        assert_eq!(
            named.iter().map(|(name, at)| (name.as_str(), at.port())).collect::<Vec<_>>(),
            [("inside", 9093), ("outside", 9094)]
        );
        let written = toml::to_string(&settings).unwrap();
        toml::from_str::<Settings>(&written).unwrap().validate().unwrap();
    }

    #[test]
    fn clients_of_a_listener_are_sent_to_what_it_says() {
        let settings = settings(TWO);
        let any = "127.0.0.1:1".parse().unwrap();
        let bound = |named: &[(&str, &str)]| Bound {
            grpc: any,
            http: any,
            kafka: None,
            kafka_listeners: named.iter().map(|(name, at)| ((*name).to_owned(), at.parse().unwrap())).collect(),
        };
        let told = |named| settings.kafka.told(&settings.cluster, &bound(named));
        let outside = || ("outside".to_owned(), "node1.example:19094".to_owned());
        let both = told(&[("inside", "127.0.0.1:9093"), ("outside", "0.0.0.0:9094")]);
        assert_eq!(both, [("inside".to_owned(), "127.0.0.1:9093".to_owned()), outside()].into());
        let everywhere = told(&[("inside", "0.0.0.0:9093"), ("outside", "0.0.0.0:9094")]);
        assert_eq!(everywhere, [outside()].into(), "every address is none that clients can be sent to");
    }

    #[test]
    fn what_is_no_listener_is_refused_by_its_key() {
        let listener = |name: &str, rest: &str| refused(&format!("[kafka.listeners.\"{name}\"]\n{rest}"));
        let here = "listen = '127.0.0.1:0'";
        assert!(listener("OUTSIDE", here).contains("lowercase"));
        assert!(listener("", here).contains("lowercase"));
        assert!(listener(&"x".repeat(65), here).contains("64"));
        assert!(listener("outside", "").contains("kafka.listeners.outside.listen"));
        assert!(listener("outside", "listen = 'nowhere'").contains("kafka.listeners.outside.listen"));
        assert!(listener("outside", "listen = '0.0.0.0:9093'").contains("--insecure"));
        let advertised = listener("outside", &format!("{here}\nadvertise = '0.0.0.0:1'"));
        assert!(advertised.contains("kafka.listeners.outside.advertise"), "{advertised}");
        let many: String = (0..17).map(|n| format!("[kafka.listeners.l{n}]\n{here}\n")).collect();
        assert!(refused(&many).contains("kafka.listeners"));
    }
}
