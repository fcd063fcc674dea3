//! Writing JSON: headers, and fields beyond the column cap.

use std::fmt::{self, Write};

use super::column::Value;
use super::time::rfc3339;

/// Appends a JSON string.
pub(super) fn push_str(out: &mut String, value: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in value.bytes().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&value[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => push_display(out, format_args!("\\u{byte:04x}")),
        }
    }
    out.push_str(&value[plain..]);
    out.push('"');
}

/// Appends a value of a cell.
pub(super) fn push_value(out: &mut String, value: Value<'_>) {
    match value {
        Value::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Value::Int(value) => push_display(out, value),
        Value::Float(value) => push_float(out, value),
        Value::Text(value) => push_str(out, value),
        Value::Digits(digits) => out.push_str(digits),
        Value::Time(time) => push_str(out, &rfc3339(time)),
    }
}

fn push_float(out: &mut String, value: f64) {
    match serde_json::Number::from_f64(value) {
        Some(number) => push_display(out, number),
        None => out.push_str("null"),
    }
}

fn push_display(out: &mut String, value: impl fmt::Display) {
    write!(out, "{value}").expect("writing to memory does not fail");
}
