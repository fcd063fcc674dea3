//! Times and durations as people write them on the command line.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use stratalog_proto::config::{DURATION_FORM, parse_duration_ns};

use crate::failure::Failure;

const TIME_FORM: &str = "write RFC 3339 such as 2026-11-21T08:00:00Z, a date, or a time before now such as -2h";

/// Reads a time: RFC 3339, a date or date-time in UTC, `now`, or `-DURATION` before now; in nanoseconds.
///
/// # Errors
/// [`Failure::Usage`], naming what was read and the forms that are known.
pub(crate) fn parse_time_ns(text: &str) -> Result<i64, Failure> {
    let unknown = || Failure::Usage(format!("`{text}` is not a time: {TIME_FORM}"));
    let time = absolute(text).or_else(|| relative(text)).ok_or_else(unknown)?;
    time.timestamp_nanos_opt().ok_or_else(unknown)
}

/// Reads a duration such as `90m`, in nanoseconds.
///
/// # Errors
/// [`Failure::Usage`], naming what was read.
pub(crate) fn parse_duration(text: &str) -> Result<u64, Failure> {
    parse_duration_ns(text).ok_or_else(|| Failure::Usage(format!("`{text}` is not a duration: {DURATION_FORM}")))
}

/// Now, in nanoseconds since the epoch.
pub(crate) fn now_ns() -> i64 {
    Utc::now().timestamp_nanos_opt().expect("the clock is before 2262")
}

/// Writes a time as RFC 3339 with as many digits as it needs.
pub(crate) fn format_time_ns(ns: i64) -> String {
    DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn absolute(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let moment = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let midnight = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    moment.or_else(midnight).map(|time| time.and_utc())
}

fn relative(text: &str) -> Option<DateTime<Utc>> {
    if text == "now" {
        return Some(Utc::now());
    }
    let before = parse_duration_ns(text.strip_prefix('-')?)?;
    Utc::now().checked_sub_signed(chrono::TimeDelta::nanoseconds(i64::try_from(before).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_a_zone_are_utc() {
        let expected = parse_time_ns("2026-11-21T08:00:00Z").unwrap();
        for text in ["2026-11-21T08:00", "2026-11-21 08:00:00", "2026-11-21T09:00:00+01:00"] {
            assert_eq!(parse_time_ns(text).unwrap(), expected, "{text}");
        }
        assert_eq!(format_time_ns(expected), "2026-11-21T08:00:00Z");
    }

    #[test]
    fn relative_times_lie_before_now() {
        let ago = now_ns() - parse_time_ns("-2h").unwrap();
        assert!((ago - 7_200_000_000_000).abs() < 60_000_000_000);
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_forms() {
        for text in ["", "yesterday", "12", "-2x", "9999-99-99", "-99999999w"] {
            assert!(matches!(parse_time_ns(text), Err(Failure::Usage(_))), "{text}");
        }
    }
}
