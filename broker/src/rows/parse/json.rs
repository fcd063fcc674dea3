//! A JSON object, streamed into the columns of its fields: no tree of values, and nothing allocated for a field that
//! was met before.
//!
//! The parser delimits and checks each value; what a number or a string says is read from its text here. The parser's
//! own floats can be off by one unit in the last place, and it reads integers beyond 64 bits as floats: neither would
//! keep the value. Objects are scanned once for each level that they lie deep, hence [`MAX_DEPTH`].

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::column::Value;
use super::fields::{Fields, NodeId, ROOT};

/// An object that lies deeper is kept as its text.
const MAX_DEPTH: usize = 32;

/// Puts the fields of one JSON object into `fields`; an array of one object is that object.
///
/// Nested objects become dotted fields, arrays the text of themselves, and so does an object that is the value of a
/// declared column; null and empty objects are no value. Of a key that comes twice, the last value wins.
///
/// # Errors
/// Why this is not one JSON object. What was put until then has to be rolled back.
pub(super) fn read(value: &[u8], fields: &mut Fields) -> Result<(), String> {
    let text =
        std::str::from_utf8(value).map_err(|e| format!("the value is not UTF-8 from byte {} on", e.valid_up_to()))?;
    let (object, first) =
        (ObjectVisitor { fields, parent: ROOT, depth: 1 }, text.trim_ascii_start().as_bytes().first());
    let read = if first == Some(&b'[') { read_array(text, object) } else { read_object(text, object) };
    read.map_err(|error| {
        let another_type = error.classify() == Category::Data && first != Some(&b'{');
        let what = if another_type { "a JSON object" } else { "JSON" };
        format!("the value is not {what}: {error}")
    })
}

fn read_object(text: &str, visitor: ObjectVisitor<'_>) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(visitor)?;
    deserializer.end()
}

fn read_array(text: &str, only: ObjectVisitor<'_>) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_seq(ArrayVisitor { only })?;
    deserializer.end()
}

/// An array of one object, as which some agents write each record.
struct ArrayVisitor<'a> {
    only: ObjectVisitor<'a>,
}

impl<'de> Visitor<'de> for ArrayVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of one object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        array.next_element_seed(self.only)?.ok_or_else(|| A::Error::custom("it is an empty array"))?;
        match array.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("it is an array of several values, and a record is one row")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for ObjectVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

struct ObjectVisitor<'a> {
    fields: &'a mut Fields,
    parent: NodeId,
    depth: usize,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { fields, parent, depth } = self;
        let mut expected = 0;
        while let Some(place) = map.next_key_seed(KeySeed { fields, parent, expected: &mut expected })? {
            let text = map.next_value::<&'de RawValue>()?.get();
            match place {
                Place::Node(node) => put(fields, node, depth, text).map_err(A::Error::custom)?,
                Place::Rest(key) => fields.rest(parent, &key).push_str(text),
            }
        }
        Ok(())
    }
}

/// Where the value of a key goes.
enum Place {
    Node(NodeId),
    Rest(Box<str>),
}

struct KeySeed<'a> {
    fields: &'a mut Fields,
    parent: NodeId,
    expected: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Place;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Place, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Place, E> {
        let node = self.fields.child(self.parent, key, self.expected);
        Ok(node.map_or_else(|| Place::Rest(key.into()), Place::Node))
    }
}

/// Puts a value, by its text: the parser has found it to be JSON.
fn put(fields: &mut Fields, node: NodeId, depth: usize, text: &str) -> serde_json::Result<()> {
    match text.as_bytes().first() {
        Some(b'"') => return put_string(fields, node, text),
        Some(b'{') if depth < MAX_DEPTH && fields.declared_type(node).is_none() => {
            return read_object(text, ObjectVisitor { fields, parent: node, depth: depth + 1 });
        }
        Some(b'{' | b'[') => fields.put_json(node, text),
        Some(b't') => fields.put(node, Value::Bool(true)),
        Some(b'f') => fields.put(node, Value::Bool(false)),
        Some(b'n') | None => {}
        Some(_) => fields.put_number(node, text),
    }
    Ok(())
}

fn put_string(fields: &mut Fields, node: NodeId, text: &str) -> serde_json::Result<()> {
    if text.as_bytes().contains(&b'\\') {
        let unescaped: String = serde_json::from_str(text)?;
        fields.put(node, Value::Text(&unescaped));
    } else {
        fields.put(node, Value::Text(&text[1..text.len() - 1]));
    }
    Ok(())
}
