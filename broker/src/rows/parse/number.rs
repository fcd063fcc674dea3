//! Numbers by their text.

use super::column::Value;

/// The number that `text` is by the grammar of JSON, in the narrowest form that keeps it; `None` if it is none.
pub(super) fn number(text: &str) -> Option<Value<'_>> {
    is_number(text.as_bytes()).then(|| checked_number(text))
}

/// As [`number`], of a text that a parser has found to be one.
pub(super) fn checked_number(text: &str) -> Value<'_> {
    let is_integer = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_integer && text != "-0" {
        return text.parse().map_or(Value::Digits(text), Value::Int);
    }
    match text.parse::<f64>() {
        Ok(float) if float.is_finite() => Value::Float(float),
        _ => Value::Digits(text),
    }
}

/// RFC 8259, §6.
fn is_number(text: &[u8]) -> bool {
    let rest = text.strip_prefix(b"-").unwrap_or(text);
    let rest = match rest {
        [b'0', rest @ ..] => rest,
        [b'1'..=b'9', ..] => after_digits(rest),
        _ => return false,
    };
    let rest = match rest {
        [b'.', fraction @ ..] if fraction.first().is_some_and(u8::is_ascii_digit) => after_digits(fraction),
        [b'.', ..] => return false,
        _ => rest,
    };
    match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => {
            !exponent.is_empty() && after_digits(exponent).is_empty()
        }
        _ => false,
    }
}

fn after_digits(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|byte| byte.is_ascii_digit()).count()..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_value_in_the_narrowest_form() {
        let cases = [
            ("0", Some(Value::Int(0))),
            ("-7", Some(Value::Int(-7))),
            ("9223372036854775807", Some(Value::Int(i64::MAX))),
            ("9223372036854775808", Some(Value::Digits("9223372036854775808"))),
            ("1.50", Some(Value::Float(1.5))),
            ("-0", Some(Value::Float(-0.0))),
            ("2e3", Some(Value::Float(2000.0))),
            ("2E-3", Some(Value::Float(0.002))),
            ("1e400", Some(Value::Digits("1e400"))),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn what_json_does_not_call_a_number_is_none() {
        for text in ["", "-", "01", "+1", ".5", "1.", "1e", "1e+", "0x10", "1_000", "NaN", "inf", "1 ", "1.2.3", "--1"]
        {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
