//! The settings of topics by Kafka's names. What we have and Kafka has not keeps its own name.

use stratalog_proto::config::{TOPIC_CONFIG_KEYS, TopicConfig, format_duration_ns};
use stratalog_proto::{Code, Error};

/// Settings that cannot be others.
const FIXED: &[&str] = &[
    "cleanup.policy",
    "compression.type",
    "message.timestamp.type",
    "min.insync.replicas",
    "unclean.leader.election.enable",
];

/// Settings about the inside of Kafka's log, which change nothing that a client could see: they are taken, and mean nothing.
const WITHOUT_MEANING: &[&str] = &[
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "message.downconversion.enable",
    "preallocate",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
];

/// Settings of a topic by Kafka's names that may be others than their defaults.
pub(super) const CHANGEABLE: &[&str] = &["max.message.bytes", "retention.bytes", "retention.ms"];

/// The type of a value, as DescribeConfigs numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

/// A setting of a topic, or of a node, as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) kind: Type,
    /// Whether it is not just the default.
    pub(super) is_set: bool,
    /// Whether it cannot be another.
    pub(super) is_fixed: bool,
}

/// Sets one of Kafka's settings, or one of ours; `copies`: of topics that do not say how many they have.
///
/// # Errors
/// As [`ours`].
pub(super) fn set(config: &mut TopicConfig, name: &str, value: &str, copies: u32) -> Result<(), Error> {
    match ours(config, name, value, copies)? {
        Some((key, value)) => config.set(key, &value),
        None => Ok(()),
    }
}

/// One of Kafka's settings, or one of ours, as one of ours for a topic of these settings; `None` for one that is always so, or
/// has no meaning. `copies` as in [`set`].
///
/// # Errors
/// [`Code::InvalidConfig`], naming the setting, the value and what is allowed. Values of ours are not looked at.
pub(super) fn ours<'a>(
    config: &TopicConfig,
    name: &'a str,
    value: &str,
    copies: u32,
) -> Result<Option<(&'a str, String)>, Error> {
    let invalid =
        |why: &str| Err(Error::new(Code::InvalidConfig, format!("topic setting `{name}` cannot be `{value}`: {why}")));
    match name {
        "retention.ms" => match value.parse::<i64>() {
            Ok(-1) => Ok(Some(("retention", "-1".to_owned()))),
            Ok(1..) => Ok(Some(("retention", format!("{value}ms")))),
            _ => invalid("it is a number of milliseconds above 0, or -1 for ever"),
        },
        "cleanup.policy" if value != "delete" => invalid("it is delete; compaction is not built yet"),
        "compression.type" if value != "producer" => invalid("it is producer: batches are kept as they were sent"),
        "message.timestamp.type" if value != "CreateTime" => {
            invalid("it is CreateTime; when a record came is in the column _ingested_at")
        }
        "unclean.leader.election.enable" if value != "false" => {
            invalid("it is false: nothing acknowledged is given up")
        }
        "min.insync.replicas" => {
            let most = majority(config, copies);
            match value.parse::<u32>() {
                Ok(asked) if (1..=most).contains(&asked) => Ok(None),
                _ => invalid(&format!(
                    "it is at most {most}: every acknowledgement is of that many, and waits for no more"
                )),
            }
        }
        name if FIXED.contains(&name) || WITHOUT_MEANING.contains(&name) => Ok(None),
        name if TOPIC_CONFIG_KEYS.contains(&name) => Ok(Some((name, value.to_owned()))),
        _ => unknown(name, value),
    }
}

/// What a setting by its name is where nobody says anything, as one of ours; `None` as in [`ours`].
///
/// # Errors
/// [`Code::InvalidConfig`] if there is no such setting.
pub(super) fn default_of(name: &str) -> Result<Option<(&str, String)>, Error> {
    let defaults = TopicConfig::default();
    let value = match name {
        "retention.ms" => return Ok(Some(("retention", "-1".to_owned()))),
        "retention" | "retention.bytes" | "replication" => "-1".to_owned(),
        "max.message.bytes" => defaults.max_message_bytes.to_string(),
        "format" => defaults.format.name().to_owned(),
        "bucket" => format_duration_ns(defaults.bucket_ns),
        name if TOPIC_CONFIG_KEYS.contains(&name) => String::new(),
        name if FIXED.contains(&name) || WITHOUT_MEANING.contains(&name) => return Ok(None),
        _ => return unknown(name, ""),
    };
    Ok(Some((name, value)))
}

fn unknown<T>(name: &str, value: &str) -> Result<T, Error> {
    let message = format!(
        "topic setting `{name}` cannot be `{value}`: there is no such setting here; docs/KAFKA.md lists those there are"
    );
    Err(Error::new(Code::InvalidConfig, message))
}

/// The settings of a topic, in the order of their names; `copies` as in [`set`].
pub(super) fn shown(config: &TopicConfig, copies: u32) -> Vec<Shown> {
    let defaults = TopicConfig::default();
    let or_minus_one = |value: Option<u64>| value.map_or_else(|| "-1".to_owned(), |value| value.to_string());
    let set = |name, value: String, kind, is_set| Shown { name, value, kind, is_set, is_fixed: false };
    let fixed = |name, value: &str, kind| Shown { name, value: value.to_owned(), kind, is_set: false, is_fixed: true };
    vec![
        set("bucket", format_duration_ns(config.bucket_ns), Type::Text, config.bucket_ns != defaults.bucket_ns),
        fixed("cleanup.policy", "delete", Type::List),
        fixed("compression.type", "producer", Type::Text),
        set("format", config.format.name().to_owned(), Type::Text, config.format != defaults.format),
        set(
            "max.message.bytes",
            config.max_message_bytes.to_string(),
            Type::Int,
            config.max_message_bytes != defaults.max_message_bytes,
        ),
        fixed("message.timestamp.type", "CreateTime", Type::Text),
        fixed("min.insync.replicas", &majority(config, copies).to_string(), Type::Int),
        set(
            "retention.bytes",
            or_minus_one(config.retention_bytes),
            Type::Long,
            config.retention_bytes != defaults.retention_bytes,
        ),
        set(
            "retention.ms",
            or_minus_one(config.retention_ns.map(|ns| ns / 1_000_000)),
            Type::Long,
            config.retention_ns != defaults.retention_ns,
        ),
        set("time.field", config.time_field.clone().unwrap_or_default(), Type::Text, config.time_field.is_some()),
        fixed("unclean.leader.election.enable", "false", Type::Text),
    ]
}

/// Copies that an acknowledgement is of, where the cluster has as many nodes as the topic asks for.
fn majority(config: &TopicConfig, copies: u32) -> u32 {
    config.replication.unwrap_or(copies) / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[(&str, &str)]) -> Result<TopicConfig, Error> {
        let mut config = TopicConfig::default();
        settings.iter().try_for_each(|(name, value)| set(&mut config, name, value, 3))?;
        Ok(config)
    }

    #[test]
    fn kafkas_names_mean_ours() {
        let config =
            with(&[("retention.ms", "86400000"), ("max.message.bytes", "2048"), ("time.field", "ts")]).unwrap();
        assert_eq!(config.retention_ns, Some(86_400_000_000_000));
        assert_eq!((config.max_message_bytes, config.time_field.as_deref()), (2048, Some("ts")));
        assert_eq!(with(&[("retention.ms", "-1")]).unwrap().retention_ns, None);
        with(&[("segment.bytes", "1"), ("cleanup.policy", "delete"), ("min.insync.replicas", "2")]).unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (name, value) in [
            ("retention.ms", "0"),
            ("retention.ms", "soon"),
            ("cleanup.policy", "compact"),
            ("compression.type", "zstd"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.insync.replicas", "3"),
            ("unclean.leader.election.enable", "true"),
            ("no.such.setting", "1"),
        ] {
            let error = with(&[(name, value)]).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig, "{name}");
            assert!(error.message.contains(name) && error.message.contains(value), "{error}");
        }
    }

    #[test]
    fn defaults_are_those_of_a_topic_that_says_nothing() {
        let mut config =
            with(&[("retention.ms", "5"), ("retention.bytes", "1024"), ("max.message.bytes", "2048")]).unwrap();
        for name in CHANGEABLE {
            let (key, value) = default_of(name).unwrap().unwrap();
            config.set(key, &value).unwrap();
        }
        assert_eq!(config, TopicConfig::default());
        for key in TOPIC_CONFIG_KEYS {
            let (key, value) = default_of(key).unwrap().unwrap();
            config.set(key, &value).unwrap();
        }
        assert_eq!(config, TopicConfig::default());
        assert_eq!(default_of("segment.bytes").unwrap(), None);
        assert!(default_of("no.such.setting").unwrap_err().message.contains("no.such.setting"));
    }

    #[test]
    fn what_is_shown_can_be_set_again() {
        let config = with(&[("retention.ms", "5000"), ("retention.bytes", "1024")]).unwrap();
        let shown = shown(&config, 3);
        assert!(shown.is_sorted_by_key(|setting| setting.name));
        let said: Vec<_> = shown.iter().filter(|setting| setting.is_set).map(|setting| setting.name).collect();
        assert_eq!(said, ["retention.bytes", "retention.ms"]);
        let again: Vec<_> = shown.iter().map(|setting| (setting.name, setting.value.as_str())).collect();
        assert_eq!(with(&again).unwrap(), config);
    }
}
