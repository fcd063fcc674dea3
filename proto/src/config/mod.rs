//! The settings of a topic: one structure, its keys as users write them, and its wire form.

mod bytes;
mod check;
mod columns;

use crate::internal;
use crate::{Code, Error};

pub use bytes::{BYTES_FORM, format_bytes, parse_bytes};
pub use columns::{ColumnSpec, ColumnType, MAX_DECLARED_COLUMNS, check_columns, format_columns, parse_columns};

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3_600 * SECOND_NS;

/// How a record's value becomes a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// One JSON object a record; nested fields become dotted columns.
    #[default]
    Json,
    /// One line of text a record, in the column `message`.
    Text,
    /// Opaque bytes: replayable, without rows.
    Raw,
    /// `key=value key2="a value"`; each key a column.
    Logfmt,
}

impl Format {
    /// The name that users write.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Text => "text",
            Format::Raw => "raw",
            Format::Logfmt => "logfmt",
        }
    }
}

/// The settings of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// `format`: how a value becomes a row.
    pub format: Format,
    /// `time.field`: the field of a JSON record that holds its event time; `None`: the record's timestamp.
    pub time_field: Option<String>,
    /// `bucket`: width of a time bucket, in nanoseconds.
    pub bucket_ns: u64,
    /// `retention`: how long rows are kept, in nanoseconds; `None`: for ever.
    pub retention_ns: Option<u64>,
    /// `max.message.bytes`: the largest record batch accepted, in bytes as sent.
    pub max_message_bytes: u32,
    /// `retention.bytes`: how many bytes the topic's segments may take, oldest dropped first; `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// `pattern`: how a `text` value is taken apart, a regular expression with named groups in which `%{NAME}` and
    /// `%{NAME:column}` stand for known patterns. Whoever sets it has compiled it; `None`: it is one column.
    pub pattern: Option<String>,
    /// `multiline`: a regular expression of the lines that begin a record, for whoever makes records of lines; `None`: each.
    pub multiline: Option<String>,
    /// `columns`: declared columns. A value that does not fit one makes its record a dead letter.
    pub columns: Vec<ColumnSpec>,
    /// `replication`: how many copies there are, on as many nodes; fixed when the topic is created. `None`: the cluster's
    /// default.
    pub replication: Option<u32>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            format: Format::Json,
            time_field: None,
            bucket_ns: HOUR_NS,
            retention_ns: None,
            max_message_bytes: 1 << 20,
            retention_bytes: None,
            pattern: None,
            multiline: None,
            columns: Vec::new(),
            replication: None,
        }
    }
}

/// The keys of [`TopicConfig::set`], for help and suggestions.
pub const TOPIC_CONFIG_KEYS: &[&str] = &[
    "format",
    "time.field",
    "bucket",
    "retention",
    "retention.bytes",
    "max.message.bytes",
    "pattern",
    "multiline",
    "columns",
    "replication",
];

/// Bounds of `replication`.
pub const REPLICATION: std::ops::RangeInclusive<u32> = 1..=7;

/// How many voters a shard of a replication is to have on so many nodes. Where there are fewer nodes than were asked for it is
/// an odd number: one voter more that makes it even only adds one whose loss stops the shard.
///
/// ```
/// use stratalog_proto::config::voters;
/// assert_eq!([0, 1, 2, 3, 4, 5].map(|nodes| voters(3, nodes)), [0, 1, 1, 3, 3, 3]);
/// assert_eq!([2, 3, 4].map(|nodes| voters(4, nodes)), [1, 3, 4]);
/// ```
pub fn voters(replication: u32, nodes: usize) -> usize {
    let asked = replication as usize;
    match nodes {
        0 => 0,
        _ if nodes >= asked => asked,
        _ if nodes.is_multiple_of(2) => nodes - 1,
        _ => nodes,
    }
}

/// The longest `pattern` or `multiline`, in bytes.
pub const MAX_PATTERN_BYTES: usize = 4_096;

/// Bounds of `max.message.bytes`.
pub const MAX_MESSAGE_BYTES: std::ops::RangeInclusive<u32> = 1_024..=(16 << 20);
/// The largest produce request that a node reads, in bytes: one batch of the largest size, and room around it.
pub const MAX_PRODUCE_REQUEST_BYTES: usize = *MAX_MESSAGE_BYTES.end() as usize + (64 << 10);
/// Bounds of `bucket`, in nanoseconds: a second to a year.
pub const BUCKET_NS: std::ops::RangeInclusive<u64> = SECOND_NS..=(366 * 24 * HOUR_NS);

impl TopicConfig {
    /// Sets one key as a user writes it.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`], naming the key, the value and what is allowed.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let invalid = |allowed: &str| {
            Error::new(Code::InvalidConfig, format!("topic setting `{key}` cannot be `{value}`: {allowed}"))
        };
        match key {
            "format" => {
                self.format = match value {
                    "json" => Format::Json,
                    "text" => Format::Text,
                    "raw" => Format::Raw,
                    "logfmt" => Format::Logfmt,
                    "avro" | "protobuf" => {
                        let message = format!("format `{value}` is not built yet; use json, text, logfmt or raw");
                        return Err(Error::new(Code::NotBuilt, message));
                    }
                    _ => return Err(invalid("it is one of json, text, logfmt, raw")),
                }
            }
            "time.field" => {
                if value.len() > 255 {
                    return Err(invalid("a field name has at most 255 bytes"));
                }
                self.time_field = (!value.is_empty()).then(|| value.to_owned());
            }
            "bucket" => {
                let width = parse_duration_ns(value).ok_or_else(|| invalid(DURATION_FORM))?;
                if !BUCKET_NS.contains(&width) {
                    return Err(invalid("a time bucket is 1s to 366d wide"));
                }
                self.bucket_ns = width;
            }
            "retention" => {
                self.retention_ns = match value {
                    "" | "forever" | "-1" => None,
                    _ => Some(parse_duration_ns(value).filter(|ns| *ns > 0).ok_or_else(|| invalid(DURATION_FORM))?),
                }
            }
            "retention.bytes" => {
                self.retention_bytes = match value {
                    "" | "-1" => None,
                    _ => Some(parse_bytes(value).filter(|bytes| *bytes > 0).ok_or_else(|| invalid(BYTES_FORM))?),
                }
            }
            "pattern" | "multiline" => {
                if value.len() > MAX_PATTERN_BYTES {
                    return Err(invalid("a pattern has at most 4096 bytes"));
                }
                let pattern = (!value.is_empty()).then(|| value.to_owned());
                if key == "pattern" { self.pattern = pattern } else { self.multiline = pattern }
            }
            "columns" => self.columns = parse_columns(value).map_err(|why| invalid(&why))?,
            "replication" => {
                self.replication = match value {
                    "" | "-1" => None,
                    _ => {
                        let copies = value.parse().ok().filter(|copies| REPLICATION.contains(copies));
                        Some(copies.ok_or_else(|| invalid("it is a number from 1 to 7"))?)
                    }
                }
            }
            "max.message.bytes" => {
                let bytes = value.parse().ok().filter(|bytes| MAX_MESSAGE_BYTES.contains(bytes));
                self.max_message_bytes = bytes.ok_or_else(|| invalid("it is a number from 1024 to 16777216"))?;
            }
            _ => {
                let keys = TOPIC_CONFIG_KEYS.join(", ");
                let message = format!("there is no topic setting `{key}`; the settings are {keys}");
                return Err(Error::new(Code::InvalidConfig, message));
            }
        }
        Ok(())
    }

    /// The replicated form.
    pub fn to_internal(&self) -> internal::TopicConfig {
        internal::TopicConfig {
            format: match self.format {
                Format::Json => 1,
                Format::Text => 2,
                Format::Raw => 3,
                Format::Logfmt => 4,
            },
            time_field: self.time_field.clone().unwrap_or_default(),
            bucket_ns: self.bucket_ns,
            retention_ns: self.retention_ns.unwrap_or(0),
            max_message_bytes: self.max_message_bytes,
            retention_bytes: self.retention_bytes.unwrap_or(0),
            pattern: self.pattern.clone().unwrap_or_default(),
            multiline: self.multiline.clone().unwrap_or_default(),
            columns: self.columns.iter().map(ColumnSpec::to_internal).collect(),
            replication: self.replication.unwrap_or(0),
        }
    }

    /// Reads the replicated form.
    ///
    /// # Errors
    /// [`Code::NewerVersion`] for a format, or a value out of bounds, that this version does not know.
    pub fn from_internal(config: &internal::TopicConfig) -> Result<Self, Error> {
        let newer = |what: String| Error::new(Code::NewerVersion, format!("topic settings hold {what}"));
        let format = match config.format {
            1 => Format::Json,
            2 => Format::Text,
            3 => Format::Raw,
            4 => Format::Logfmt,
            other => return Err(newer(format!("format {other}, which this node does not know"))),
        };
        if !BUCKET_NS.contains(&config.bucket_ns) {
            return Err(newer(format!("a bucket of {} ns", config.bucket_ns)));
        }
        Ok(Self {
            format,
            time_field: (!config.time_field.is_empty()).then(|| config.time_field.clone()),
            bucket_ns: config.bucket_ns,
            retention_ns: (config.retention_ns > 0).then_some(config.retention_ns),
            max_message_bytes: config.max_message_bytes,
            retention_bytes: (config.retention_bytes > 0).then_some(config.retention_bytes),
            pattern: (!config.pattern.is_empty()).then(|| config.pattern.clone()),
            multiline: (!config.multiline.is_empty()).then(|| config.multiline.clone()),
            columns: config.columns.iter().map(ColumnSpec::from_internal).collect::<Result<_, _>>()?,
            replication: (config.replication > 0).then_some(config.replication),
        })
    }

    /// The public form.
    pub fn to_v1(&self) -> crate::v1::TopicConfig {
        crate::v1::TopicConfig {
            format: self.format.name().to_owned(),
            time_field: self.time_field.clone().unwrap_or_default(),
            bucket_ns: self.bucket_ns,
            retention_ns: self.retention_ns.unwrap_or(0),
            max_message_bytes: self.max_message_bytes,
            retention_bytes: self.retention_bytes.unwrap_or(0),
            pattern: self.pattern.clone().unwrap_or_default(),
            multiline: self.multiline.clone().unwrap_or_default(),
            columns: self.columns.iter().map(ColumnSpec::to_v1).collect(),
            replication: self.replication.unwrap_or(0),
        }
    }
}

/// What [`parse_duration_ns`] accepts, for error messages.
pub const DURATION_FORM: &str = "write a number and a unit: ms, s, m, h, d or w, as in 90m or 7d";

/// Reads `500ms`, `90s`, `15m`, `1h`, `7d`, `2w`; `None` for anything else.
pub fn parse_duration_ns(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1_000_000,
        "s" => SECOND_NS,
        "m" => 60 * SECOND_NS,
        "h" => HOUR_NS,
        "d" => 24 * HOUR_NS,
        "w" => 7 * 24 * HOUR_NS,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// Writes a duration with the largest unit that divides it, as [`parse_duration_ns`] reads it.
pub fn format_duration_ns(ns: u64) -> String {
    let units = [("d", 24 * HOUR_NS), ("h", HOUR_NS), ("m", 60 * SECOND_NS), ("s", SECOND_NS), ("ms", 1_000_000)];
    let whole = units.iter().find(|(_, width)| ns >= *width && ns.is_multiple_of(*width));
    match whole {
        Some((unit, width)) => format!("{}{unit}", ns / width),
        None => format!("{ns}ns"),
    }
}

/// The longest name of a topic.
pub const MAX_TOPIC_NAME_BYTES: usize = 249;

/// Checks a topic name: `[a-zA-Z0-9._-]{1,249}`, not `.` or `..`.
///
/// # Errors
/// [`Code::InvalidTopicName`], with the name escaped.
pub fn check_topic_name(name: &str) -> Result<(), Error> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=MAX_TOPIC_NAME_BYTES).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".." {
        return Ok(());
    }
    let shown: String = name.chars().take(60).flat_map(char::escape_default).collect();
    let message = format!("`{shown}` is not a topic name: use 1 to 249 of a-z A-Z 0-9 . _ -, and not `.` or `..`");
    Err(Error::new(Code::InvalidTopicName, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        for text in ["500ms", "90s", "15m", "1h", "7d"] {
            assert_eq!(format_duration_ns(parse_duration_ns(text).unwrap()), text);
        }
        for text in ["", "1", "h", "1.5h", "-1h", "99999999999999999999h", "18446744073709551615w"] {
            assert_eq!(parse_duration_ns(text), None, "{text}");
        }
    }

    #[test]
    fn topic_names_that_reach_for_files_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a\0b", "a\r\nb", "ä", &"x".repeat(250)] {
            assert_eq!(check_topic_name(name).unwrap_err().code, Code::InvalidTopicName, "{name:?}");
        }
        for name in ["a", "orders.v1", "_x-Y", &"x".repeat(249)] {
            check_topic_name(name).unwrap();
        }
    }

    #[test]
    fn settings_survive_replication() {
        let mut config = TopicConfig::default();
        let settings = [
            ("format", "text"),
            ("time.field", "ts"),
            ("bucket", "1d"),
            ("retention", "7d"),
            ("retention.bytes", "1000000"),
            ("pattern", r"^(?<level>\w+)"),
            ("multiline", r"^\d{4}-"),
            ("columns", "status bigint, user text not null"),
            ("replication", "3"),
        ];
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        assert_eq!(TopicConfig::from_internal(&config.to_internal()).unwrap(), config);
        assert_eq!(config.set("bukcet", "1h").unwrap_err().code, Code::InvalidConfig);
    }
}
