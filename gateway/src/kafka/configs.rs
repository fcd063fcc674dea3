//! The settings of topics by Kafka's names. What we have and Kafka has not keeps its own name.

use stratalog_proto::config::{TOPIC_CONFIG_KEYS, TopicConfig, format_duration_ns};
use stratalog_proto::{Code, Error};

/// Settings about the inside of Kafka's log, which change nothing that a client could see: they are taken, and mean nothing.
const WITHOUT_MEANING: &[&str] = &[
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "index.interval.bytes",
    "message.downconversion.enable",
    "preallocate",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
];

/// The type of a value, as DescribeConfigs numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

/// A setting of a topic as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) kind: Type,
    /// Whether the topic says so itself.
    pub(super) is_set: bool,
    /// Whether it cannot be another.
    pub(super) is_fixed: bool,
}

/// Sets one of Kafka's settings, or one of ours; `copies`: of topics that do not say how many they have.
///
/// # Errors
/// [`Code::InvalidConfig`], [`Code::NotBuilt`], naming the setting, the value and what is allowed.
pub(super) fn set(config: &mut TopicConfig, name: &str, value: &str, copies: u32) -> Result<(), Error> {
    let invalid =
        |why: &str| Err(Error::new(Code::InvalidConfig, format!("topic setting `{name}` cannot be `{value}`: {why}")));
    match name {
        "retention.ms" => match value.parse::<i64>() {
            Ok(-1) => config.set("retention", "-1"),
            Ok(1..) => config.set("retention", &format!("{value}ms")),
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
                Ok(asked) if (1..=most).contains(&asked) => Ok(()),
                _ => invalid(&format!(
                    "it is at most {most}: every acknowledgement is of that many, and waits for no more"
                )),
            }
        }
        "cleanup.policy" | "compression.type" | "message.timestamp.type" | "unclean.leader.election.enable" => Ok(()),
        name if WITHOUT_MEANING.contains(&name) => Ok(()),
        name if TOPIC_CONFIG_KEYS.contains(&name) => config.set(name, value),
        _ => invalid("there is no such setting here; docs/KAFKA.md lists those there are"),
    }
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
