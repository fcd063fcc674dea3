//! Extractors that answer in our own error form: path, query string, times.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use chrono::{DateTime, NaiveDate};
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer};
use stratalog_proto::config::check_topic_name;
use stratalog_proto::{RaftIndex, ShardId, Token};

use super::error::HttpError;
use super::suggest::with_suggestion;

/// Tokens that one query may wait for; there is at most one a shard that means something.
const MAX_TOKENS: usize = 4_096;

/// The `{topic}` of a path, checked.
#[derive(Debug)]
pub(crate) struct TopicName(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for TopicName {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| HttpError::bad_request(rejection.body_text()))?;
        check_topic_name(&name)?;
        Ok(Self(name))
    }
}

/// The query string as `T`.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, HttpError> {
        let parsed = Query::try_from_uri(&parts.uri);
        let Query(params) =
            parsed.map_err(|rejection| HttpError::bad_request(with_suggestion(&rejection.body_text())))?;
        Ok(Self(params))
    }
}

/// No query string is taken here: one that is sent was meant for something.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParams {}

/// A point in time: RFC 3339 text, a date, or a number of nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeNs(pub(crate) i64);

impl TimeNs {
    const FORM: &str =
        "a time is RFC 3339 as in 2026-01-31T12:00:00Z, a date as in 2026-01-31, or nanoseconds since the epoch";

    /// Reads a time; an error is a sentence that says what a time looks like.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let shown = || text.chars().take(40).flat_map(char::escape_default).collect::<String>();
        Self::parse(text).ok_or_else(|| format!("`{}` is not a time: {}", shown(), Self::FORM))
    }

    fn parse(text: &str) -> Option<Self> {
        if let Ok(ns) = text.parse() {
            return Some(Self(ns));
        }
        let instant = match DateTime::parse_from_rfc3339(text) {
            Ok(instant) => instant.to_utc(),
            Err(_) => text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0)?.and_utc(),
        };
        instant.timestamp_nanos_opt().map(Self)
    }
}

impl<'de> Deserialize<'de> for TimeNs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl Visitor<'_> for Form {
            type Value = TimeNs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(TimeNs::FORM)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TimeNs, E> {
                TimeNs::read(text).map_err(E::custom)
            }

            fn visit_i64<E>(self, ns: i64) -> Result<TimeNs, E> {
                Ok(TimeNs(ns))
            }

            fn visit_u64<E: serde::de::Error>(self, ns: u64) -> Result<TimeNs, E> {
                i64::try_from(ns).map(TimeNs).map_err(|_| E::custom(format!("{ns} ns is beyond the year 2262")))
            }
        }

        deserializer.deserialize_any(Form)
    }
}

/// A produce token in a JSON body.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenBody {
    shard: u32,
    index: u64,
}

/// Reads a list of tokens, bounded.
pub(crate) fn tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Token>, D::Error> {
    let tokens = Vec::<TokenBody>::deserialize(deserializer)?;
    if tokens.len() > MAX_TOKENS {
        return Err(D::Error::custom(format!(
            "{} tokens are more than {MAX_TOKENS}; send the highest of each shard",
            tokens.len()
        )));
    }
    Ok(tokens.iter().map(|token| Token { shard: ShardId(token.shard), index: RaftIndex(token.index) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_forms() {
        let cases = [
            ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
            ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500_000_000),
            ("1970-01-02", 86_400_000_000_000),
            ("-5", -5),
        ];
        for (text, ns) in cases {
            assert_eq!(TimeNs::parse(text), Some(TimeNs(ns)), "{text}");
        }
        for text in ["", "yesterday", "2023-11-14T22:13:20", "9999-01-01", "99999999999999999999"] {
            assert_eq!(TimeNs::parse(text), None, "{text}");
        }
        assert_eq!(serde_json::from_str::<TimeNs>("17").unwrap(), TimeNs(17));
        assert!(serde_json::from_str::<TimeNs>("1.5").is_err());
    }
}
