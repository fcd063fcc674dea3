//! Media types: what a body is (`Content-Type`) and what a client wants (`Accept`).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::error::HttpError;

/// The media types that the API reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Ndjson,
    Csv,
    ArrowStream,
    Text,
    Octets,
}

impl Media {
    /// The name in `Content-Type` of an answer.
    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Media::Json => "application/json",
            Media::Ndjson => "application/x-ndjson",
            Media::Csv => "text/csv; charset=utf-8",
            Media::ArrowStream => "application/vnd.apache.arrow.stream",
            Media::Text => "text/plain; charset=utf-8",
            Media::Octets => "application/octet-stream",
        })
    }

    fn essence(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Ndjson => "application/x-ndjson",
            Media::Csv => "text/csv",
            Media::ArrowStream => "application/vnd.apache.arrow.stream",
            Media::Text => "text/plain",
            Media::Octets => "application/octet-stream",
        }
    }

    /// Reads `type/subtype`, in any case and without parameters; the usual aliases of NDJSON count.
    fn from_essence(essence: &str) -> Option<Self> {
        Some(match essence.to_ascii_lowercase().as_str() {
            "application/json" => Media::Json,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                Media::Ndjson
            }
            "text/csv" => Media::Csv,
            "application/vnd.apache.arrow.stream" => Media::ArrowStream,
            "text/plain" => Media::Text,
            "application/octet-stream" => Media::Octets,
            _ => return None,
        })
    }
}

/// The media type of a request's body, which has to be one of `allowed`.
///
/// # Errors
/// 415, naming what is allowed.
pub(crate) fn content_type(headers: &HeaderMap, allowed: &[Media]) -> Result<Media, HttpError> {
    let sent = headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?"));
    let media = Media::from_essence(essence(sent)).filter(|media| allowed.contains(media));
    media.ok_or_else(|| {
        let names = names(allowed);
        let sent: String = sent.chars().take(80).flat_map(char::escape_default).collect();
        let hint = match sent.as_str() {
            "" => "the request has no Content-Type".to_owned(),
            "application/x-www-form-urlencoded" => {
                format!(
                    "Content-Type is `{sent}`, which is what `curl -d` sends unless -H 'Content-Type: …' says otherwise"
                )
            }
            _ => format!("Content-Type is `{sent}`"),
        };
        HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{hint}; send one of {names}"))
    })
}

/// The media type of `offered` that the client likes best; the first one if it has no wish.
///
/// # Errors
/// 406, naming what is offered.
pub(crate) fn negotiate(headers: &HeaderMap, offered: &[Media]) -> Result<Media, HttpError> {
    let mut wishes = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if wishes.peek().is_none() {
        return Ok(offered[0]);
    }
    let ranges: Vec<Range<'_>> = wishes.flat_map(|value| value.split(',')).map(Range::parse).collect();
    let mut best: Option<(f32, Media)> = None;
    for &media in offered {
        let quality = quality_of(media, &ranges);
        if quality > 0.0 && best.is_none_or(|(best, _)| quality > best) {
            best = Some((quality, media));
        }
    }
    best.map(|(_, media)| media).ok_or_else(|| {
        let message = format!("nothing in Accept can be answered here; ask for one of {}", names(offered));
        HttpError::new(StatusCode::NOT_ACCEPTABLE, message)
    })
}

/// The quality that the most specific range gives to `media`; 0 if none matches (RFC 9110, 12.5.1).
fn quality_of(media: Media, ranges: &[Range<'_>]) -> f32 {
    let matching = ranges.iter().filter_map(|range| range.specificity(media).map(|rank| (rank, range.quality)));
    matching.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map_or(0.0, |(_, quality)| quality)
}

/// One element of `Accept`.
struct Range<'a> {
    essence: &'a str,
    quality: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let quality = text
            .split(';')
            .skip(1)
            .find_map(|parameter| parameter.trim().strip_prefix("q="))
            .map_or(1.0, |q| q.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0));
        Self { essence: essence(text), quality }
    }

    fn specificity(&self, media: Media) -> Option<u8> {
        let (kind, _) = media.essence().split_once('/').expect("a media type has a slash");
        match self.essence.split_once('/')? {
            ("*", "*") => Some(0),
            (range, "*") if range.eq_ignore_ascii_case(kind) => Some(1),
            _ => (Media::from_essence(self.essence) == Some(media)).then_some(2),
        }
    }
}

fn essence(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

fn names(media: &[Media]) -> String {
    media.iter().map(|media| media.essence()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERED: &[Media] = &[Media::Json, Media::Ndjson, Media::Csv, Media::ArrowStream];

    fn accept(value: &str) -> Result<Media, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.parse().unwrap());
        negotiate(&headers, OFFERED).map_err(|error| error.status.as_u16())
    }

    #[test]
    fn accept_chooses_by_quality_then_by_our_order() {
        assert_eq!(negotiate(&HeaderMap::new(), OFFERED).unwrap(), Media::Json);
        assert_eq!(accept("*/*"), Ok(Media::Json));
        assert_eq!(accept("text/csv"), Ok(Media::Csv));
        assert_eq!(accept("Text/*;q=0.5, application/*;q=0.1"), Ok(Media::Csv));
        assert_eq!(accept("application/json;q=0.2, application/ndjson"), Ok(Media::Ndjson));
        assert_eq!(accept("text/html, */*;q=0.1"), Ok(Media::Json));
        assert_eq!(accept("application/json;q=0, */*"), Ok(Media::Ndjson));
        assert_eq!(accept("application/vnd.apache.arrow.stream; x=1"), Ok(Media::ArrowStream));
    }

    #[test]
    fn accept_of_nothing_we_write_is_406() {
        for value in ["image/png", "application/json;q=0", "application/json;q=NaN", "garbage", ";;;", ""] {
            assert_eq!(accept(value), Err(406), "{value}");
        }
    }

    #[test]
    fn content_type_ignores_case_and_parameters() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "Application/JSON; charset=utf-8".parse().unwrap());
        assert_eq!(content_type(&headers, &[Media::Json]).unwrap(), Media::Json);
        let error = content_type(&headers, &[Media::Text]).unwrap_err();
        assert_eq!(error.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(error.error.message.contains("text/plain"));
    }
}
