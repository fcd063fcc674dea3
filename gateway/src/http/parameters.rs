//! Values for `$1`, `$2`, … of a statement, as JSON.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use stratalog_query::Parameter;

use super::params::TimeNs;

const FORM: &str = "a parameter is null, a boolean, a number, a text, or an object with one of boolean, bigint, double, text \
                    and timestamp, as in {\"timestamp\": \"2026-01-31T12:00:00Z\"}; a number beyond 64 bits is {\"double\": …}";

/// The least float that is larger than every 64-bit integer.
const BEYOND_BIGINT: f64 = 9_223_372_036_854_775_808.0;

/// More than a statement may have.
const MAX_PARAMETERS: usize = 1_000;

/// Reads a list of parameters.
pub(super) fn parameters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Parameter>, D::Error> {
    deserializer.deserialize_seq(List)
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Vec<Parameter>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of parameters")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Vec<Parameter>, A::Error> {
        let mut parameters = Vec::new();
        // As it is written: an array of a million zeroes, which is no parameter, takes no more than its text (X1).
        while let Some(value) = values.next_element::<Box<RawValue>>()? {
            if parameters.len() == MAX_PARAMETERS {
                return Err(A::Error::custom(format!("a statement has at most {MAX_PARAMETERS} parameters")));
            }
            let none = || A::Error::custom(format!("parameter {} is none: {FORM}", parameters.len() + 1));
            let parameter = parameter(value.get()).ok_or_else(none)?;
            parameters.push(parameter);
        }
        Ok(parameters)
    }
}

/// A parameter of which the type is named.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Typed {
    Boolean(bool),
    Bigint(i64),
    Double(f64),
    Text(String),
    Timestamp(TimeNs),
}

impl From<Typed> for Parameter {
    fn from(typed: Typed) -> Self {
        match typed {
            Typed::Boolean(truth) => Parameter::Boolean(truth),
            Typed::Bigint(integer) => Parameter::Bigint(integer),
            Typed::Double(float) => Parameter::Double(float),
            Typed::Text(text) => Parameter::Text(text),
            Typed::Timestamp(time) => Parameter::Timestamp(time.0),
        }
    }
}

fn parameter(json: &str) -> Option<Parameter> {
    match json.bytes().next()? {
        b'{' => serde_json::from_str::<Typed>(json).ok().map(Parameter::from),
        b'[' => None,
        _ => scalar(serde_json::from_str(json).ok()?),
    }
}

fn scalar(value: Value) -> Option<Parameter> {
    match value {
        Value::Null => Some(Parameter::Null),
        Value::Bool(truth) => Some(Parameter::Boolean(truth)),
        Value::String(text) => Some(Parameter::Text(text)),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Some(Parameter::Bigint(integer)),
            // A larger integer was rounded when it was read, and nobody could tell.
            None => number.as_f64().filter(|float| float.abs() < BEYOND_BIGINT).map(Parameter::Double),
        },
        Value::Object(_) | Value::Array(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_has_the_type_of_its_json_or_the_one_that_it_names() {
        let cases = [
            (json!(null), Parameter::Null),
            (json!(true), Parameter::Boolean(true)),
            (json!(-5), Parameter::Bigint(-5)),
            (json!(1.5), Parameter::Double(1.5)),
            (json!(i64::MIN), Parameter::Bigint(i64::MIN)),
            (json!({"double": u64::MAX}), Parameter::Double(u64::MAX as f64)),
            (json!("x"), Parameter::Text("x".into())),
            (json!({"double": 5}), Parameter::Double(5.0)),
            (json!({"bigint": 5}), Parameter::Bigint(5)),
            (json!({"timestamp": "1970-01-01T00:00:01Z"}), Parameter::Timestamp(1_000_000_000)),
            (json!({"timestamp": 7}), Parameter::Timestamp(7)),
        ];
        for (value, expected) in cases {
            assert_eq!(parameter(&value.to_string()), Some(expected), "{value}");
        }
        for large in ["9223372036854775808", "-99999999999999999999", "1e300"] {
            assert_eq!(parameter(large), None, "{large}");
        }
        for value in [json!([1]), json!({}), json!({"money": 5}), json!({"bigint": "x"}), json!({"text": "a", "x": 1})]
        {
            assert_eq!(parameter(&value.to_string()), None, "{value}");
        }
    }

    #[test]
    fn x1_parameters_take_little_more_than_their_text() {
        let many = format!("[{}0]", "0,".repeat(1 << 20));
        for text in [many.clone(), format!("[{many}]"), format!("[{{\"text\": {many}}}]")] {
            let read = || parameters(&mut serde_json::Deserializer::from_str(&text)).is_err();
            let (refused, held) = stratalog_mutation::peak_of(read);
            assert!(refused && held < 8 << 20, "{held} bytes were held");
        }
    }
}
