//! Values that are written in their own way: what nobody may see, and lists that fit an environment variable.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is read and never shown.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hidden(pub(crate) String);

impl Hidden {
    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { "(hidden)" }
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

/// Addresses: a list, or text with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Addresses(pub(crate) Vec<String>);

impl Addresses {
    /// Those of a text with commas between them.
    pub(crate) fn parse(text: &str) -> Self {
        let each = text.split(',').map(str::trim).filter(|address| !address.is_empty());
        Self(each.map(str::to_owned).collect())
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a list of addresses, or text with commas between them")]
        enum Written {
            Text(String),
            List(Vec<String>),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => Self::parse(&text),
            Written::List(list) => Self(list),
        })
    }
}
