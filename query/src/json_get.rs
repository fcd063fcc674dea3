//! `json_get(column, key, …)`: what lies within a text that is JSON, such as an array, `_rest` or `_headers`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

const USAGE: &str = "write json_get(column, 'key') or json_get(column, 0), with further keys and numbers to go deeper";

/// The function. Its answer is a text: a string without its quotes, and anything else as it is written. It is null where
/// there is no such element, where that is null, and where the text is no JSON.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct JsonGet {
    signature: Signature,
}

impl JsonGet {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for JsonGet {
    fn name(&self) -> &str {
        "json_get"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((column, path)) = args.args.split_first().filter(|(_, path)| !path.is_empty()) else {
            return exec_err!("json_get takes a column and at least one key; {USAGE}");
        };
        let path = path.iter().map(step).collect::<Result<Vec<_>>>()?;
        let texts = cast(&column.to_array(args.number_rows)?, &DataType::Utf8)?;
        let mut found = StringBuilder::new();
        for text in texts.as_string::<i32>() {
            found.append_option(text.and_then(|text| get(text, &path)));
        }
        let found = found.finish();
        Ok(match column {
            ColumnarValue::Scalar(_) if found.len() == 1 => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
            }
            _ => ColumnarValue::Array(Arc::new(found)),
        })
    }
}

/// One step down.
#[derive(Debug)]
enum Step {
    Key(String),
    Index(u64),
}

fn step(argument: &ColumnarValue) -> Result<Step> {
    let ColumnarValue::Scalar(value) = argument else {
        return exec_err!("the keys of json_get are the same for each row; {USAGE}");
    };
    match value {
        ScalarValue::Utf8(Some(key)) | ScalarValue::Utf8View(Some(key)) | ScalarValue::LargeUtf8(Some(key)) => {
            Ok(Step::Key(key.clone()))
        }
        ScalarValue::Int64(Some(index)) if *index >= 0 => Ok(Step::Index(*index as u64)),
        other => exec_err!("json_get has no element {other}: a key is a text, and numbers count from 0; {USAGE}"),
    }
}

/// What lies at `path` in a text.
fn get<'a>(text: &'a str, path: &[Step]) -> Option<Cow<'a, str>> {
    let found = path.iter().try_fold(text, |text, step| {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let found = match step {
            Step::Key(key) => deserializer.deserialize_map(Member(key)),
            Step::Index(index) => deserializer.deserialize_seq(Element(*index)),
        };
        // What stands behind it may be damaged, and then so is the whole text.
        found.ok().filter(|_| deserializer.end().is_ok())?.map(RawValue::get)
    })?;
    match found.as_bytes().first()? {
        b'n' => None,
        b'"' if !found.contains('\\') => Some(Cow::Borrowed(&found[1..found.len() - 1])),
        b'"' => serde_json::from_str(found).ok().map(Cow::Owned),
        _ => Some(Cow::Borrowed(found)),
    }
}

/// Finds a member as it is written; of repeated ones the last.
struct Member<'k>(&'k str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Name(name)) = members.next_key()? {
            if name == self.0 {
                found = Some(members.next_value()?);
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

/// Finds an element as it is written.
struct Element(u64);

impl<'de> Visitor<'de> for Element {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut at = 0;
        while let Some(element) = elements.next_element::<&'de RawValue>()? {
            if at == self.0 {
                found = Some(element);
            }
            at += 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, path: &[Step]) -> Option<String> {
        get(text, path).map(Cow::into_owned)
    }

    fn key(key: &str) -> Step {
        Step::Key(key.to_owned())
    }

    #[test]
    fn elements_are_found_by_key_and_number() {
        let text = r#"{"a.b":[1, {"c":"x\ty"}, null, 100000000000000000000001], "a.b2":true, "s":"ä"}"#;
        assert_eq!(at(text, &[key("s")]).as_deref(), Some("ä"));
        assert_eq!(at(text, &[key("a.b2")]).as_deref(), Some("true"));
        assert_eq!(at(text, &[key("a.b"), Step::Index(0)]).as_deref(), Some("1"));
        assert_eq!(at(text, &[key("a.b"), Step::Index(1), key("c")]).as_deref(), Some("x\ty"));
        assert_eq!(at(text, &[key("a.b"), Step::Index(1)]).as_deref(), Some("{\"c\":\"x\\ty\"}"));
        assert_eq!(at(text, &[key("a.b"), Step::Index(3)]).as_deref(), Some("100000000000000000000001"));
        assert_eq!(at(r#"{"a":1,"a":2}"#, &[key("a")]).as_deref(), Some("2"));
    }

    #[test]
    fn what_is_not_there_is_null() {
        let text = r#"{"a":[1,null],"n":null}"#;
        for path in [
            vec![key("b")],
            vec![key("n")],
            vec![Step::Index(0)],
            vec![key("a"), Step::Index(1)],
            vec![key("a"), Step::Index(2)],
            vec![key("a"), key("a")],
        ] {
            assert_eq!(at(text, &path), None, "{path:?}");
        }
        for text in ["", "x", "{", "{\"a\":1}x", "{\"a\":01}", "\"a\"", "1", "null"] {
            assert_eq!(at(text, &[key("a")]), None, "{text}");
        }
    }

    #[test]
    fn x1_nesting_without_end_is_no_overflow() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(at(&deep, &[key("a"), Step::Index(0)]).map(|text| text.len()), Some(1_999_998));
    }
}
