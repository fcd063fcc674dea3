//! Reading records: nothing is copied and nothing allocated for one.

use std::borrow::Cow;
use std::iter::FusedIterator;
use std::ops::Range;

use bytes::Bytes;

use super::varint::Cursor;
use super::{BatchError, BatchHeader};

/// The shortest record: seven fields of a byte each, one of them the length.
const MIN_RECORD_BYTES: usize = 7;
/// The shortest header of a record: two lengths.
const MIN_HEADER_BYTES: usize = 2;

/// One record. Its bytes are slices of the batch's, or of the buffer into which that was decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset, less the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds since the epoch: the producer's clock, or the log's for a batch with log append time.
    pub timestamp_ms: i64,
    /// `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// Its headers, in order; keys may repeat.
    pub headers: Headers,
}

/// The records of a batch, in order: exactly as many as its header says, or an error and then nothing more. Their offset
/// deltas ascend, and are their places in a batch of which no record was erased.
#[derive(Clone, Debug)]
pub struct Records {
    data: Bytes,
    at: usize,
    next: u32,
    count: u32,
    /// The lowest offset delta that the next record may have.
    next_delta: i64,
    last_delta: i64,
    base_timestamp_ms: i64,
    append_time_ms: Option<i64>,
    done: bool,
}

impl Records {
    /// Starts on decompressed records.
    pub(super) fn new(header: &BatchHeader, data: Bytes) -> Result<Self, BatchError> {
        let count = header.record_count as u32;
        if data.len() / MIN_RECORD_BYTES < count as usize {
            let index = (data.len() / MIN_RECORD_BYTES) as u32;
            return Err(BatchError::Record { index, reason: "the batch has too few bytes for its record count" });
        }
        Ok(Self {
            data,
            at: 0,
            next: 0,
            count,
            next_delta: 0,
            last_delta: header.last_offset_delta.into(),
            base_timestamp_ms: header.base_timestamp_ms,
            append_time_ms: header.is_log_append_time().then_some(header.max_timestamp_ms),
            done: false,
        })
    }

    /// Bytes of all records, decompressed.
    pub fn total_bytes(&self) -> usize {
        self.data.len()
    }

    /// Where the next record begins, in bytes of the decompressed records.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The bytes of the records from a position on, up to the next record.
    pub(super) fn bytes_from(&self, position: usize) -> &[u8] {
        &self.data[position..self.at]
    }

    /// The bytes from a position on, up to the end.
    pub(super) fn rest_from(&self, position: usize) -> Bytes {
        self.data.slice(position..)
    }

    fn read(&mut self) -> Result<Record, &'static str> {
        let mut outer = Cursor::new(&self.data, self.at);
        let length = outer.varint()?;
        let body = outer.take(length)?;
        let mut cursor = Cursor::new(&self.data[..body.end], body.start);
        let _attributes = cursor.u8()?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        // Those that follow need offsets, too: in a batch without gaps this leaves exactly one.
        let highest = self.last_delta - i64::from(self.count - self.next - 1);
        if !(self.next_delta..=highest).contains(&i64::from(offset_delta)) {
            return Err("its offset delta is not its place in the batch");
        }
        let key = cursor.nullable()?;
        let value = cursor.nullable()?;
        let headers = self.read_headers(&mut cursor)?;
        if cursor.remaining() > 0 {
            return Err("it is longer than its fields");
        }
        self.at = body.end;
        self.next_delta = i64::from(offset_delta) + 1;
        Ok(Record {
            offset_delta,
            timestamp_ms: self.timestamp_ms(timestamp_delta),
            key: key.map(|range| self.data.slice(range)),
            value: value.map(|range| self.data.slice(range)),
            headers,
        })
    }

    /// Walks the headers once, so that iterating over them later cannot fail.
    fn read_headers(&self, cursor: &mut Cursor<'_>) -> Result<Headers, &'static str> {
        let count = usize::try_from(cursor.varint()?).map_err(|_| "its header count is negative")?;
        if count == 0 {
            return Ok(Headers::default());
        }
        if count > cursor.remaining() / MIN_HEADER_BYTES {
            return Err("it has too few bytes for its header count");
        }
        let start = cursor.at();
        for _ in 0..count {
            read_header(cursor)?;
        }
        Ok(Headers { data: self.data.slice(start..cursor.at()), count: count as u32 })
    }

    /// Wraps around like Java does, so that any two timestamps survive a batch.
    fn timestamp_ms(&self, delta: i64) -> i64 {
        self.append_time_ms.unwrap_or_else(|| self.base_timestamp_ms.wrapping_add(delta))
    }

    fn step(&mut self) -> Option<Result<Record, BatchError>> {
        if self.next == self.count {
            self.done = true;
            let bytes = self.data.len() - self.at;
            return (bytes > 0).then_some(Err(BatchError::LeftOver { bytes }));
        }
        let index = self.next;
        let record = self.read().map_err(|reason| BatchError::Record { index, reason });
        self.done = record.is_err();
        self.next += 1;
        Some(record)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done { None } else { self.step() }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = if self.done { 0 } else { (self.count - self.next) as usize };
        (left.min(1), Some(left + usize::from(!self.done)))
    }
}

impl FusedIterator for Records {}

/// The headers of one record, still encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// `count` times: length, key, length, value. Walked once when the record was read.
    data: Bytes,
    count: u32,
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// UTF-8 by Kafka's rules, which its brokers do not enforce.
    pub key: Bytes,
    /// `None` is Kafka's null.
    pub value: Option<Bytes>,
}

impl Header {
    /// The key as text; bytes that are not UTF-8 become U+FFFD.
    pub fn key_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

impl Headers {
    /// How many.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers, in order.
    pub fn iter(&self) -> HeaderIter<'_> {
        HeaderIter { headers: self, at: 0 }
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = Header;
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// Iterates over the headers of one record.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    headers: &'a Headers,
    at: usize,
}

impl Iterator for HeaderIter<'_> {
    type Item = Header;

    fn next(&mut self) -> Option<Header> {
        let data = &self.headers.data;
        if self.at == data.len() {
            return None;
        }
        let mut cursor = Cursor::new(data, self.at);
        let (key, value) = read_header(&mut cursor).ok()?;
        self.at = cursor.at();
        Some(Header { key: data.slice(key), value: value.map(|range| data.slice(range)) })
    }
}

/// Where the key and the value of the next header lie.
fn read_header(cursor: &mut Cursor<'_>) -> Result<(Range<usize>, Option<Range<usize>>), &'static str> {
    let length = cursor.varint()?;
    let key = cursor.take(length)?;
    Ok((key, cursor.nullable()?))
}
