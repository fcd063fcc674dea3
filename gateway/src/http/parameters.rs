//! Values for `$1`, `$2`, … of a statement, as JSON.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use stratalog_query::Parameter;

use super::params::TimeNs;

const FORM: &str = "a parameter is null, a boolean, a number, a text, or an object with one of boolean, bigint, double, text \
                    and timestamp, as in {\"timestamp\": \"2026-01-31T12:00:00Z\"}; a number beyond 64 bits is {\"double\": …}";

/// The least float that is larger than every 64-bit integer.
const BEYOND_BIGINT: f64 = 9_223_372_036_854_775_808.0;

/// Reads a list of parameters.
pub(super) fn parameters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Parameter>, D::Error> {
    let values = Vec::<Value>::deserialize(deserializer)?;
    let read = |(at, value): (usize, &Value)| {
        parameter(value).ok_or_else(|| D::Error::custom(format!("parameter {} is none: {FORM}", at + 1)))
    };
    values.iter().enumerate().map(read).collect()
}

fn parameter(value: &Value) -> Option<Parameter> {
    match value {
        Value::Null => Some(Parameter::Null),
        Value::Bool(truth) => Some(Parameter::Boolean(*truth)),
        Value::String(text) => Some(Parameter::Text(text.clone())),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Some(Parameter::Bigint(integer)),
            // A larger integer was rounded when it was read, and nobody could tell.
            None => number.as_f64().filter(|float| float.abs() < BEYOND_BIGINT).map(Parameter::Double),
        },
        Value::Object(typed) if typed.len() == 1 => typed.iter().next().and_then(|(name, value)| of_type(name, value)),
        Value::Object(_) | Value::Array(_) => None,
    }
}

fn of_type(name: &str, value: &Value) -> Option<Parameter> {
    match name {
        "boolean" => value.as_bool().map(Parameter::Boolean),
        "bigint" => value.as_i64().map(Parameter::Bigint),
        "double" => value.as_f64().map(Parameter::Double),
        "text" => value.as_str().map(|text| Parameter::Text(text.to_owned())),
        "timestamp" => TimeNs::deserialize(value).ok().map(|time| Parameter::Timestamp(time.0)),
        _ => None,
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
            assert_eq!(parameter(&value), Some(expected), "{value}");
        }
        let large: Value = serde_json::from_str("[9223372036854775808, -99999999999999999999, 1e300]").unwrap();
        for value in large.as_array().unwrap() {
            assert_eq!(parameter(value), None, "{value}");
        }
        for value in [json!([1]), json!({}), json!({"money": 5}), json!({"bigint": "x"}), json!({"text": "a", "x": 1})]
        {
            assert_eq!(parameter(&value), None, "{value}");
        }
    }
}
