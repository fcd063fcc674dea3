//! Records of the log as JSON lines, for readers over HTTP.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use stratalog_broker::FetchedBatches;
use stratalog_proto::batch::{Batch, Record};
use stratalog_proto::{Error, Offset, PartitionId};

use crate::http::rfc3339_ms;

/// Bytes that one batch may decompress to.
const MAX_BATCH_BYTES: usize = 64 << 20;
/// A page ends after the record with which it reaches this size.
const MAX_PAGE_BYTES: usize = 16 << 20;

/// Which records of the fetched batches make the page.
#[derive(Debug)]
pub(crate) struct PageLimits {
    /// The offset that was asked for; a batch may start below it.
    pub(crate) first: Offset,
    /// The most records.
    pub(crate) records: usize,
    /// Whether values that are JSON are shown as JSON.
    pub(crate) json_values: bool,
}

/// One page of records.
#[derive(Debug)]
pub(crate) struct Page {
    /// A JSON object each, without line ends.
    pub(crate) lines: Vec<Vec<u8>>,
    /// Where the next page starts.
    pub(crate) next: Offset,
}

/// Reads a page from fetched batches. Blocks for as long as decompression takes.
///
/// # Errors
/// `CorruptBatch` for a batch that does not decode, or decompresses to more than 64 MiB.
pub(crate) fn page(partition: PartitionId, fetched: &[FetchedBatches], limits: &PageLimits) -> Result<Page, Error> {
    let mut page = Page { lines: Vec::new(), next: limits.first };
    let mut bytes = 0;
    for batch in fetched.iter().flat_map(FetchedBatches::batches) {
        let batch = batch.and_then(Batch::parse_trusted)?;
        if !page.add(partition, &batch, limits, &mut bytes)? {
            break;
        }
    }
    Ok(page)
}

impl Page {
    /// Adds the records of a batch, and to `bytes` those of their lines; whether the page has room for more.
    fn add(
        &mut self,
        partition: PartitionId,
        batch: &Batch,
        limits: &PageLimits,
        bytes: &mut usize,
    ) -> Result<bool, Error> {
        let base = batch.header().base_offset as u64;
        let end = Offset(base + u64::from(batch.offset_count()));
        if batch.header().is_control() {
            self.next = self.next.max(end);
            return Ok(true);
        }
        for record in batch.records(MAX_BATCH_BYTES)? {
            let record = record?;
            let offset = Offset(base + record.offset_delta as u64);
            if offset < limits.first {
                continue;
            }
            if self.lines.len() == limits.records || *bytes >= MAX_PAGE_BYTES {
                return Ok(false);
            }
            let line = line(partition, offset, &record, limits.json_values);
            *bytes += line.len();
            self.lines.push(line);
            self.next = Offset(offset.0 + 1);
        }
        // Its last records may be erased.
        self.next = self.next.max(end);
        Ok(true)
    }
}

/// A record as a reader sees it. `docs/HTTP.md` documents each field.
#[derive(Serialize)]
struct Line<'a> {
    partition: u32,
    offset: u64,
    timestamp: String,
    key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    encoding: &'static str,
    value: Value<'a>,
    headers: Vec<HeaderLine>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Null,
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

#[derive(Serialize)]
struct HeaderLine {
    key: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
}

fn line(partition: PartitionId, offset: Offset, record: &Record, json_values: bool) -> Vec<u8> {
    let (key, key_encoding) = record.key.as_deref().map_or((None, None), |key| {
        let (text, encoding) = text_or_base64(key);
        (Some(text), encoding)
    });
    let (encoding, value) = value(record.value.as_deref(), json_values);
    let headers =
        record.headers.iter().map(|header| header_line(&header.key_text(), header.value.as_deref())).collect();
    let timestamp = rfc3339_ms(record.timestamp_ms);
    let line =
        Line { partition: partition.0, offset: offset.0, timestamp, key, key_encoding, encoding, value, headers };
    let mut bytes = serde_json::to_vec(&line).expect("text and numbers are always JSON");
    // A line end can only be white space of an embedded JSON value: in strings it is escaped.
    bytes.retain(|byte| !matches!(byte, b'\n' | b'\r'));
    bytes
}

fn value(value: Option<&[u8]>, json_values: bool) -> (&'static str, Value<'_>) {
    let Some(value) = value else { return ("null", Value::Null) };
    if json_values && let Ok(raw) = serde_json::from_slice(value) {
        return ("json", Value::Json(raw));
    }
    match text_or_base64(value) {
        (text, None) => ("text", Value::Text(text)),
        (text, Some(encoding)) => (encoding, Value::Text(text)),
    }
}

fn header_line(key: &str, value: Option<&[u8]>) -> HeaderLine {
    let (value, encoding) =
        value.map(text_or_base64).map_or((None, None), |(text, encoding)| (Some(text.into_owned()), encoding));
    HeaderLine { key: key.to_owned(), value, encoding }
}

fn text_or_base64(bytes: &[u8]) -> (Cow<'_, str>, Option<&'static str>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.into(), None),
        Err(_) => (STANDARD.encode(bytes).into(), Some("base64")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stratalog_proto::batch::{BatchBuilder, Compression, HEADER_BYTES, without};

    use super::*;

    fn fetched(base: u64, values: &[&[u8]]) -> FetchedBatches {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        for value in values {
            builder.push(1_700_000_000_123, Some(b"k"), Some(value), &[("h", Some(&b"\xff"[..])), ("n", None)]);
        }
        let (head, body) = Batch::parse(builder.finish()).unwrap().patched(Offset(base), 0);
        assert_eq!(head.len(), HEADER_BYTES);
        FetchedBatches { head, body }
    }

    /// The batches back to back, as they come from a replay segment.
    fn joined(batches: &[FetchedBatches]) -> FetchedBatches {
        let bytes: Vec<u8> = batches.iter().flat_map(|batch| [&batch.head[..], &batch.body[..]].concat()).collect();
        FetchedBatches { head: Bytes::new(), body: bytes.into() }
    }

    fn lines(batches: &[FetchedBatches], limits: &PageLimits) -> (Vec<serde_json::Value>, u64) {
        let page = page(PartitionId(2), batches, limits).unwrap();
        assert!(page.lines.iter().all(|line| !line.contains(&b'\n')));
        (page.lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect(), page.next.0)
    }

    #[test]
    fn page_starts_within_a_batch_and_ends_at_the_limit() {
        let batches = [fetched(10, &[b"a", b"b", b"c"]), fetched(13, &[b"d", b"e"])];
        let limits = PageLimits { first: Offset(11), records: 3, json_values: true };
        for batches in [&batches[..], &[joined(&batches)]] {
            let (lines, next) = lines(batches, &limits);
            let offsets: Vec<_> = lines.iter().map(|line| line["offset"].as_u64().unwrap()).collect();
            assert_eq!((offsets, next), (vec![11, 12, 13], 14));
        }
    }

    #[test]
    fn a_page_goes_on_behind_erased_records() {
        let whole = fetched(10, &[b"a", b"b", b"c", b"d"]);
        let whole = Batch::parse([whole.head, whole.body].concat().into()).unwrap();
        let erased = without(&whole, |delta| delta != 1, 1 << 20);
        let batches = [FetchedBatches { head: Bytes::new(), body: erased }, fetched(14, &[b"e"])];
        let limits = PageLimits { first: Offset(10), records: 3, json_values: true };
        let (shown, next) = lines(&batches, &limits);
        let offsets: Vec<_> = shown.iter().map(|line| line["offset"].as_u64().unwrap()).collect();
        assert_eq!((offsets, next), (vec![11, 14], 15));
        assert_eq!(lines(&batches[..1], &limits).1, 14);
    }

    #[test]
    fn values_say_how_they_are_written() {
        let batch = [fetched(0, &[b"{\"a\" :\r\n 1.50}", b"not json", b"\xff\x00", b"\"s\""])];
        let limits = PageLimits { first: Offset(0), records: 10, json_values: true };
        let (shown, _) = lines(&batch, &limits);
        let pairs: Vec<_> =
            shown.iter().map(|line| (line["encoding"].as_str().unwrap(), line["value"].to_string())).collect();
        let expected =
            [("json", r#"{"a":1.5}"#), ("text", r#""not json""#), ("base64", r#""/wA=""#), ("json", r#""s""#)];
        assert_eq!(pairs, expected.map(|(encoding, value)| (encoding, value.to_owned())));
        assert_eq!(shown[0]["timestamp"], "2023-11-14T22:13:20.123Z");
        let headers =
            serde_json::json!([{"key": "h", "value": "/w==", "encoding": "base64"}, {"key": "n", "value": null}]);
        assert_eq!(shown[0]["headers"], headers);
        let raw = PageLimits { json_values: false, ..limits };
        assert_eq!(lines(&batch, &raw).0[3]["value"], "\"s\"");
    }

    #[test]
    fn damaged_batches_are_errors() {
        let mut broken = fetched(0, &[b"abc"]);
        broken.body = Bytes::from_static(b"junk");
        assert!(
            page(PartitionId(0), &[broken], &PageLimits { first: Offset(0), records: 1, json_values: true }).is_err()
        );
    }
}
