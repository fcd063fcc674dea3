//! Settings of topics: as users write them, and as they are replicated.

use prost::Message;
use stratalog_mutation::Decoder;

use crate::config::{TOPIC_CONFIG_KEYS, TopicConfig, check_columns, format_columns, parse_columns};
use crate::internal;

const WORDS: &[&str] = &["\"", "\"\"", ",", " not null", " text", " bigint", " double precision", "_time", "ä", "90m"];

/// Declared columns, as text.
pub const COLUMNS: Decoder =
    Decoder { name: "columns", samples: columns, run: read_columns, words: WORDS, memory_bytes: 1 << 20 };

/// The replicated settings of a topic.
pub const TOPIC_CONFIG: Decoder =
    Decoder { name: "topic_config", samples: configs, run: read_config, words: WORDS, memory_bytes: 1 << 20 };

const TEXTS: [&str; 3] =
    ["status bigint, user.id text not null", "a bool, \"two words\" double precision, \"a \"\"b\"\", c\" float8,", ""];

fn columns() -> Vec<Vec<u8>> {
    TEXTS.map(|text| text.as_bytes().to_vec()).into()
}

fn read_columns(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let mut config = TopicConfig::default();
    for key in TOPIC_CONFIG_KEYS {
        let _ = config.set(key, text);
    }
    let _ = config.check();
    let Ok(columns) = parse_columns(text) else { return false };
    let written = format_columns(&columns);
    assert_eq!(parse_columns(&written).as_ref(), Ok(&columns), "columns are written as they are read");
    true
}

fn configs() -> Vec<Vec<u8>> {
    let config = |text: &str| {
        let mut config = TopicConfig::default();
        let settings = [("format", "text"), ("pattern", "%{IP:client} (?<rest>.*)"), ("retention", "7d")];
        settings.iter().for_each(|(key, value)| config.set(key, value).unwrap());
        config.set("columns", text).unwrap();
        config.to_internal().encode_to_vec()
    };
    TEXTS.map(config).into()
}

fn read_config(bytes: &[u8]) -> bool {
    let Ok(raw) = internal::TopicConfig::decode(bytes) else { return false };
    let Ok(config) = TopicConfig::from_internal(&raw) else { return false };
    assert_eq!(TopicConfig::from_internal(&config.to_internal()).as_ref(), Ok(&config));
    let _ = (config.check(), check_columns(&config.columns), config.to_v1());
    let _ = TopicConfig::default().check_change(&config);
    true
}
