//! Values in a search query, read by the type of the column that they are compared with.

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use datafusion::common::ScalarValue;

/// The least and the greatest value that a text stands for; different only for times written without all their parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bounds {
    pub(super) first: ScalarValue,
    pub(super) last: ScalarValue,
}

/// Reads a value; `None` if the type has no such value.
pub(super) fn parse(data_type: &DataType, text: &str) -> Option<Bounds> {
    let one = |value: ScalarValue| Bounds { first: value.clone(), last: value };
    match data_type {
        DataType::Utf8 => Some(one(ScalarValue::Utf8(Some(text.to_owned())))),
        DataType::Boolean => text.to_ascii_lowercase().parse().ok().map(|value| one(ScalarValue::Boolean(Some(value)))),
        // A fraction compared with integers, as in `latency:>1.5`, stays a fraction: the comparison is widened.
        DataType::Int32 | DataType::Int64 => match text.parse::<i64>() {
            Ok(value) => Some(one(ScalarValue::Int64(Some(value)))),
            Err(_) => float(text).map(one),
        },
        DataType::Float64 => float(text).map(one),
        DataType::Timestamp(unit, zone) => {
            let (first, last) = time(text)?;
            let scalar = |ns: i64| match unit {
                TimeUnit::Millisecond => {
                    ScalarValue::TimestampMillisecond(Some(ns.div_euclid(1_000_000)), zone.clone())
                }
                _ => ScalarValue::TimestampNanosecond(Some(ns), zone.clone()),
            };
            Some(Bounds { first: scalar(first), last: scalar(last) })
        }
        _ => None,
    }
}

fn float(text: &str) -> Option<ScalarValue> {
    text.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| ScalarValue::Float64(Some(value)))
}

/// The first and last nanosecond of a time: RFC 3339, or a date with or without a time of day, in UTC, or milliseconds
/// since the epoch. `2026-01-02` is the whole day, `2026-01-02T03:04` the whole minute.
fn time(text: &str) -> Option<(i64, i64)> {
    if let Ok(ms) = text.parse::<i64>() {
        let first = ms.checked_mul(1_000_000)?;
        return Some((first, first.checked_add(999_999)?));
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        let next = day.checked_add_days(Days::new(1))?;
        return span(day.and_hms_opt(0, 0, 0)?, next.and_hms_opt(0, 0, 0)?);
    }
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        let first = instant.with_timezone(&Utc).naive_utc();
        return span(first, first.checked_add_signed(precision(text))?);
    }
    let formats = [("%Y-%m-%dT%H:%M", TimeDelta::minutes(1)), ("%Y-%m-%dT%H:%M:%S%.f", precision(text))];
    let text = text.replacen(' ', "T", 1);
    formats.into_iter().find_map(|(format, width)| {
        let first = NaiveDateTime::parse_from_str(&text, format).ok()?;
        span(first, first.checked_add_signed(width)?)
    })
}

/// A second if the text has no fraction of one, else a nanosecond.
fn precision(text: &str) -> TimeDelta {
    if text.contains('.') { TimeDelta::nanoseconds(1) } else { TimeDelta::seconds(1) }
}

fn span(first: NaiveDateTime, next: NaiveDateTime) -> Option<(i64, i64)> {
    let next = next.and_utc().timestamp_nanos_opt()?;
    Some((first.and_utc().timestamp_nanos_opt()?, next.checked_sub(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str) -> Option<(i64, i64)> {
        time(text)
    }

    #[test]
    fn a_time_without_all_its_parts_is_a_stretch() {
        const SECOND: i64 = 1_000_000_000;
        assert_eq!(ns("1970-01-01"), Some((0, 86_400 * SECOND - 1)));
        assert_eq!(ns("1970-01-01T00:01"), Some((60 * SECOND, 120 * SECOND - 1)));
        assert_eq!(ns("1970-01-01 00:00:01"), Some((SECOND, 2 * SECOND - 1)));
        assert_eq!(ns("1970-01-01T00:00:01Z"), Some((SECOND, 2 * SECOND - 1)));
        assert_eq!(ns("1970-01-01T01:00:00.5+01:00"), Some((SECOND / 2, SECOND / 2)));
        assert_eq!(ns("1500"), Some((1_500_000_000, 1_500_999_999)));
    }

    #[test]
    fn times_that_do_not_exist_or_do_not_fit_are_no_values() {
        for text in
            ["", "yesterday", "1970-13-01", "9999-12-31", "-9999-01-01", "9223372036854775807", "2026-01-01T25:00"]
        {
            assert_eq!(ns(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_by_the_type_of_their_column() {
        assert_eq!(parse(&DataType::Int64, "7").map(|bounds| bounds.first), Some(ScalarValue::Int64(Some(7))));
        assert_eq!(parse(&DataType::Int64, "7.5").map(|bounds| bounds.first), Some(ScalarValue::Float64(Some(7.5))));
        assert_eq!(
            parse(&DataType::Boolean, "TRUE").map(|bounds| bounds.first),
            Some(ScalarValue::Boolean(Some(true)))
        );
        for text in ["", "x", "NaN", "inf", "1e999"] {
            assert_eq!(parse(&DataType::Int64, text), None, "{text}");
            assert_eq!(parse(&DataType::Float64, text), None, "{text}");
        }
    }
}
