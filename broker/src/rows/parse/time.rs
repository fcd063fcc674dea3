//! Event time: what a time field may hold, in nanoseconds since the epoch, UTC.

use chrono::{DateTime, SecondsFormat};

use super::column::Value;

/// Why a value is no event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadTime {
    /// It is not a time in any form that is known.
    NotATime,
    /// It is a time before 1970, or after the end of 64-bit nanoseconds in April 2262.
    OutOfRange,
}

const SECOND_NS: i128 = 1_000_000_000;

/// Reads a time: RFC 3339 and its common variants (a space for the `T`, a comma before the fraction, slashes in the
/// date, no seconds, no time of day; without a zone it is UTC), RFC 2822, the log format of web servers, or the number
/// of seconds, milliseconds, microseconds or nanoseconds since the epoch, told apart by magnitude.
pub(super) fn event_time(value: Value<'_>) -> Result<i64, BadTime> {
    let time = match value {
        Value::Int(value) => from_epoch(i128::from(value), 0),
        Value::Float(value) => from_float(value)?,
        Value::Text(text) => from_text(text.trim())?,
        Value::Digits(_) => return Err(BadTime::OutOfRange),
        Value::Bool(_) => return Err(BadTime::NotATime),
        Value::Time(time) => i128::from(time),
    };
    in_range(time)
}

/// A time as RFC 3339 in UTC, with as many digits of a fraction as it needs of 0, 3, 6 and 9: what a query shows.
pub(super) fn rfc3339(time_ns: i64) -> String {
    DateTime::from_timestamp_nanos(time_ns).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// The time of a record, from its own timestamp; `None` if that is Kafka's "no timestamp" or absurd.
pub(super) fn record_time(timestamp_ms: i64) -> Option<i64> {
    in_range(i128::from(timestamp_ms) * 1_000_000).ok()
}

fn in_range(time_ns: i128) -> Result<i64, BadTime> {
    i64::try_from(time_ns).ok().filter(|time| *time >= 0).ok_or(BadTime::OutOfRange)
}

/// Nanoseconds in the unit of a number of this size. The limits leave each unit the years from 1973 on; seconds reach
/// to the year 5138, so that a time after 2262 is found out of range and not read in another unit.
fn unit_ns(magnitude: i128) -> i128 {
    match magnitude.unsigned_abs() {
        0..100_000_000_000 => SECOND_NS,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    }
}

/// `whole` units and `fraction_ns` billionths of one.
fn from_epoch(whole: i128, fraction_e9: i128) -> i128 {
    let unit = unit_ns(whole);
    whole * unit + fraction_e9 * unit / SECOND_NS
}

/// A float has about 15 digits: of today's seconds it keeps the microseconds.
fn from_float(value: f64) -> Result<i128, BadTime> {
    if !value.is_finite() || value.abs() >= 1e20 {
        return Err(BadTime::OutOfRange);
    }
    let unit = unit_ns(value.trunc() as i128);
    if unit < 1_000 {
        return Ok(value as i128);
    }
    Ok((value * (unit / 1_000) as f64).round() as i128 * 1_000)
}

fn from_text(text: &str) -> Result<i128, BadTime> {
    if let Some(time) = from_date_time(text.as_bytes()) {
        return Ok(time);
    }
    if let Some(number) = Decimal::parse(text) {
        return number.map(|d| from_epoch(d.whole, d.fraction_e9)).ok_or(BadTime::OutOfRange);
    }
    let other = DateTime::parse_from_rfc2822(text).or_else(|_| DateTime::parse_from_str(text, "%d/%b/%Y:%H:%M:%S %z"));
    let other = other.map_err(|_| BadTime::NotATime)?;
    Ok(i128::from(other.timestamp()) * SECOND_NS + i128::from(other.timestamp_subsec_nanos()))
}

/// A decimal number: its whole part, and its fraction in billionths, both with the number's sign.
struct Decimal {
    whole: i128,
    fraction_e9: i128,
}

impl Decimal {
    /// `None` if this is no number, `Some(None)` if it is one far beyond any time.
    fn parse(text: &str) -> Option<Option<Self>> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        if whole.len() > 20 {
            return Some(None);
        }
        let whole: i128 = whole.parse().ok()?;
        let fraction_e9 = i128::from(nanos(fraction.as_bytes()));
        Some(Some(Self { whole: sign * whole, fraction_e9: sign * fraction_e9 }))
    }
}

/// The digits after a decimal point, in billionths; what lies beyond them is cut.
fn nanos(digits: &[u8]) -> u32 {
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    padded.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'))
}

/// `2026-01-31T23:59:59.123456789+02:00` and its variants; `None` if this is none of them.
fn from_date_time(text: &[u8]) -> Option<i128> {
    let mut scan = Scan { text, at: 0 };
    let days = scan.date()?;
    let (second, nanos) = if scan.skip(b"Tt ") { scan.time_of_day()? } else { (0, 0) };
    let offset = scan.zone()?;
    if scan.at != text.len() {
        return None;
    }
    Some(i128::from(days * 86_400 + second - offset) * SECOND_NS + i128::from(nanos))
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Steps over one byte if it is one of these.
    fn skip(&mut self, any_of: &[u8]) -> bool {
        let found = self.peek().is_some_and(|byte| any_of.contains(&byte));
        self.at += usize::from(found);
        found
    }

    /// Exactly `count` digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let digits = self.text.get(self.at..self.at + count)?;
        self.at += count;
        digits.iter().try_fold(0, |n, byte| byte.is_ascii_digit().then(|| n * 10 + i64::from(byte - b'0')))
    }

    /// Days since the epoch.
    fn date(&mut self) -> Option<i64> {
        let year = self.digits(4)?;
        let separator = self.peek().filter(|byte| matches!(byte, b'-' | b'/'))?;
        self.at += 1;
        let month = self.digits(2)?;
        if !self.skip(&[separator]) {
            return None;
        }
        let day = self.digits(2)?;
        days_from_civil(year, month, day)
    }

    /// Seconds since midnight, and nanoseconds. A leap second counts as the second after it, as in Unix time.
    fn time_of_day(&mut self) -> Option<(i64, u32)> {
        let hour = self.digits(2).filter(|hour| *hour < 24)?;
        if !self.skip(b":") {
            return None;
        }
        let minute = self.digits(2).filter(|minute| *minute < 60)?;
        let (mut second, mut fraction) = (0, 0);
        if self.skip(b":") {
            second = self.digits(2).filter(|second| *second <= 60)?;
            if self.skip(b".,") {
                fraction = self.fraction()?;
            }
        }
        Some((hour * 3_600 + minute * 60 + second, fraction))
    }

    fn fraction(&mut self) -> Option<u32> {
        let rest = &self.text[self.at..];
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += len;
        (len > 0).then(|| nanos(&rest[..len]))
    }

    /// Seconds east of UTC; nothing, `Z`, `UTC` and `GMT` are 0.
    fn zone(&mut self) -> Option<i64> {
        self.skip(b" ");
        match self.peek() {
            None => return Some(0),
            Some(b'Z' | b'z') => {
                self.at += 1;
                return Some(0);
            }
            Some(b'U' | b'G') => {
                let name = &self.text[self.at..];
                self.at = self.text.len();
                return matches!(name, b"UTC" | b"GMT").then_some(0);
            }
            Some(_) => {}
        }
        let sign = if self.skip(b"-") { -1 } else { i64::from(self.skip(b"+")) };
        let hours = self.digits(2).filter(|hours| sign != 0 && *hours < 24)?;
        self.skip(b":");
        let minutes = if self.at < self.text.len() { self.digits(2).filter(|minutes| *minutes < 60)? } else { 0 };
        Some(sign * (hours * 3_600 + minutes * 60))
    }
}

/// Days from the epoch to a date of the Gregorian calendar; `None` if there is no such day.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: i64 = 1_000_000_000;
    /// 2026-01-31T23:59:59Z.
    const T: i64 = 1_769_903_999 * S;

    #[test]
    fn times_in_every_form() {
        let cases: &[(&str, i64)] = &[
            ("2026-01-31T23:59:59Z", T),
            ("2026-01-31t23:59:59z", T),
            ("2026-01-31 23:59:59", T),
            ("2026-01-31T23:59:59", T),
            ("2026-01-31T23:59:59.5Z", T + S / 2),
            ("2026-01-31 23:59:59,123", T + 123_000_000),
            ("2026-01-31T23:59:59.1234567891", T + 123_456_789),
            ("2026-02-01T01:59:59+02:00", T),
            ("2026-02-01T01:59:59+0200", T),
            ("2026-02-01T01:59:59 +02", T),
            ("2026-01-31T18:29:59-05:30", T),
            ("2026-01-31 23:59:59 UTC", T),
            ("2026-01-31 23:59:59 GMT", T),
            ("2026/01/31 23:59:59", T),
            ("2026-01-31T23:59", T - 59 * S),
            ("2026-01-31", T - 86_399 * S),
            ("2026-01-31T23:59:60Z", T + S),
            (" 2026-01-31T23:59:59Z\n", T),
            ("31/Jan/2026:23:59:59 +0000", T),
            ("Sat, 31 Jan 2026 23:59:59 +0000", T),
            ("1769903999", T),
            ("1769903999.25", T + S / 4),
            ("1769903999000", T),
            ("1769903999000000", T),
            ("1769903999000000001", T + 1),
            ("0", 0),
            ("1970-01-01", 0),
            ("2262-04-11T23:47:16.854775807Z", i64::MAX),
        ];
        for (text, expected) in cases {
            assert_eq!(event_time(Value::Text(text)), Ok(*expected), "{text}");
        }
    }

    #[test]
    fn numbers_are_told_apart_by_magnitude() {
        let cases = [
            (Value::Int(1_769_903_999), T),
            (Value::Int(1_769_903_999_000), T),
            (Value::Int(1_769_903_999_000_000), T),
            (Value::Int(T), T),
            (Value::Float(1_769_903_999.25), T + S / 4),
            (Value::Float(1_769_903_999_250.5), T + S / 4 + 500_000),
            (Value::Float(1.769903999e15), T),
        ];
        for (value, expected) in cases {
            assert_eq!(event_time(value), Ok(expected), "{value:?}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        use BadTime::{NotATime, OutOfRange};
        let cases = [
            (Value::Text(""), NotATime),
            (Value::Text("yesterday"), NotATime),
            (Value::Text("2026-02-30"), NotATime),
            (Value::Text("2026-13-01"), NotATime),
            (Value::Text("2025-02-29"), NotATime),
            (Value::Text("2026-01-31T24:00:00Z"), NotATime),
            (Value::Text("2026-01-31T23:59:59+"), NotATime),
            (Value::Text("2026-01-31T23:59:59.Z"), NotATime),
            (Value::Text("2026-01-31T23:59:59Zjunk"), NotATime),
            (Value::Text("1.5e9"), NotATime),
            (Value::Bool(true), NotATime),
            (Value::Text("1969-12-31T23:59:59Z"), OutOfRange),
            (Value::Text("2262-04-12"), OutOfRange),
            (Value::Text("9999-12-31T00:00:00Z"), OutOfRange),
            (Value::Text("123456789012345678901234567890"), OutOfRange),
            (Value::Text("-5"), OutOfRange),
            (Value::Int(-1), OutOfRange),
            (Value::Int(9_999_999_999), OutOfRange),
            (Value::Float(1e300), OutOfRange),
            (Value::Float(-0.5), OutOfRange),
            (Value::Digits("18446744073709551615"), OutOfRange),
        ];
        for (value, expected) in cases {
            assert_eq!(event_time(value), Err(expected), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_time_survives_its_rfc_3339_text(time in 0..i64::MAX) {
            let text = DateTime::from_timestamp_nanos(time).to_rfc3339();
            prop_assert_eq!(event_time(Value::Text(&text)), Ok(time));
        }

        #[test]
        fn x1_no_text_panics(text in "\\PC{0,40}") {
            let _ = event_time(Value::Text(&text));
        }
    }
}
