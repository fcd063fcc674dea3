//! What it takes to make rows of a topic's records, made ready once for its settings.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use stratalog_proto::config::{ColumnSpec, Format, TopicConfig};

use super::declared::Declared;
use super::pattern::Pattern;

/// Settings that are kept ready: more than topics with patterns or declared columns that are written at one time.
const MAX_READY: usize = 256;

/// How the values of a topic's records are read.
pub(super) enum Reading {
    Json,
    Logfmt,
    /// One column of text.
    Text,
    /// One column of text, and those of its parts.
    Pattern(Pattern),
    /// Not at all, for this reason: the settings are from a version that knows more.
    Unknown(String),
}

/// How rows are made of a topic's records.
pub(super) struct Recipe {
    pub(super) reading: Reading,
    pub(super) declared: Arc<Declared>,
}

/// What a recipe depends on.
type Key = (Format, Option<String>, Vec<ColumnSpec>);

static READY: LazyLock<Mutex<HashMap<Key, Arc<Recipe>>>> = LazyLock::new(Mutex::default);

impl Recipe {
    /// The recipe for these settings. Compiling a pattern takes milliseconds, so that it is done once and kept.
    pub(super) fn of(config: &TopicConfig) -> Arc<Self> {
        if config.pattern.is_none() && config.columns.is_empty() {
            return Arc::new(Self::new(config));
        }
        let key = (config.format, config.pattern.clone(), config.columns.clone());
        if let Some(ready) = READY.lock().get(&key) {
            return Arc::clone(ready);
        }
        let made = Arc::new(Self::new(config));
        let mut ready = READY.lock();
        if ready.len() >= MAX_READY {
            ready.clear();
        }
        ready.insert(key, Arc::clone(&made));
        made
    }

    fn new(config: &TopicConfig) -> Self {
        let reading = match (config.format, &config.pattern) {
            (Format::Json, _) => Reading::Json,
            (Format::Logfmt, _) => Reading::Logfmt,
            (Format::Text, Some(pattern)) => match Pattern::new(pattern) {
                Ok(pattern) => Reading::Pattern(pattern),
                Err(error) => Reading::Unknown(format!("the topic's pattern is none: {}", error.message)),
            },
            (Format::Text | Format::Raw, _) => Reading::Text,
        };
        Self { reading, declared: Arc::new(Declared::new(&config.columns)) }
    }
}
