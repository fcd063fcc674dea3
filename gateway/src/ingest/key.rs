//! Finds a record's key in its value.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Nested objects that a dotted field may reach through.
const MAX_DEPTH: usize = 16;

/// The key in `value` under `field`: text without its quotes, any other JSON value as it is written. `None` if the value
/// is not a JSON object, or the field is missing or null: the record then has no key.
///
/// A field `a.b` is the member `a.b`, else the member `b` of the object `a`.
pub(super) fn find_key(value: &[u8], field: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?;
    let raw = find(text, field, 0)?;
    match raw.as_bytes().first()? {
        b'n' => None,
        b'"' => serde_json::from_str::<String>(raw).ok().map(String::into_bytes),
        _ => Some(raw.as_bytes().to_vec()),
    }
}

fn find<'a>(object: &'a str, field: &str, depth: usize) -> Option<&'a str> {
    if let Some(found) = member(object, field) {
        return Some(found);
    }
    if depth == MAX_DEPTH {
        return None;
    }
    let (head, rest) = field.split_once('.')?;
    find(member(object, head)?, rest, depth + 1)
}

/// The member of that name as it is written; of repeated ones the last, as JSON parsers do.
fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    if !object.trim_start().starts_with('{') {
        return None;
    }
    let mut deserializer = serde_json::Deserializer::from_str(object);
    let found = deserializer.deserialize_map(Member { name }).ok()?;
    deserializer.end().ok()?;
    found.map(RawValue::get)
}

struct Member<'n> {
    name: &'n str,
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Name(name)) = members.next_key()? {
            if name == self.name {
                found = Some(members.next_value::<&'de RawValue>()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
