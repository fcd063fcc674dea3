//! Records of lines: the one rule for which lines are records, wherever records are made of lines.
//!
//! A line ends with a line feed, and a carriage return before it is part of the end. What counts as no record depends on
//! the topic's format: see [`RecordLines`].

use bytes::Bytes;
use stratalog_proto::batch::HEADER_BYTES;
use stratalog_proto::config::Format;

use crate::multiline::{LineJoiner, Multiline};

/// Room in a batch for what stands around the value of a record: lengths, times, the frame of a compressed block.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// Makes records of lines.
///
/// A line of white space is no record of a `json` or `logfmt` topic, and an empty one none of a `text` topic; in a `raw`
/// topic each line is a record. Where lines are joined, that holds for what they were joined to, and an empty line between
/// two others belongs to the record of both, if they are in one.
#[derive(Debug)]
pub struct RecordLines {
    format: Format,
    joiner: Option<LineJoiner>,
    skipped: u64,
}

impl RecordLines {
    /// For a topic of this format. Where `multiline` says that a record has several lines, they are joined to records of at
    /// most `max_bytes`, which [`joined_limit`] gives.
    pub fn new(format: Format, multiline: Option<Multiline>, max_bytes: usize) -> Self {
        Self { format, joiner: multiline.map(|multiline| LineJoiner::new(multiline, max_bytes)), skipped: 0 }
    }

    /// Adds a line, which is without its line feed; gives a record that is whole.
    pub fn push(&mut self, line: Bytes) -> Option<Bytes> {
        let end = line.strip_suffix(b"\r").unwrap_or(&line).len();
        let line = line.slice(..end);
        let record = match &mut self.joiner {
            None => Some(line),
            Some(joiner) => joiner.push(line),
        };
        self.unless_blank(record)
    }

    /// The record that no line has ended. What comes behind begins another.
    pub fn finish(&mut self) -> Option<Bytes> {
        let last = self.joiner.as_mut().and_then(LineJoiner::finish);
        self.unless_blank(last)
    }

    /// Whether there is a record that the next line may belong to.
    pub fn is_open(&self) -> bool {
        self.joiner.as_ref().is_some_and(LineJoiner::is_open)
    }

    /// Lines so far that are no records because they are blank.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn unless_blank(&mut self, record: Option<Bytes>) -> Option<Bytes> {
        let is_blank = |record: &Bytes| match self.format {
            Format::Json | Format::Logfmt => record.trim_ascii().is_empty(),
            Format::Text => record.is_empty(),
            Format::Raw => false,
        };
        let blank = record.as_ref().is_some_and(is_blank);
        self.skipped += u64::from(blank);
        record.filter(|_| !blank)
    }
}

/// The most bytes of a joined value, so that a batch of at most `max_batch_bytes` holds it with a key of `key_bytes`, also
/// if compression makes it a little larger.
pub fn joined_limit(max_batch_bytes: usize, key_bytes: usize) -> usize {
    max_batch_bytes.saturating_sub(max_batch_bytes / 256 + HEADER_BYTES + RECORD_OVERHEAD_BYTES + key_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(format: Format, multiline: Option<&str>, body: &str) -> (Vec<String>, u64) {
        let multiline = multiline.map(|setting| Multiline::new(setting).unwrap());
        let mut lines = RecordLines::new(format, multiline, 1 << 20);
        let mut records: Vec<Bytes> = body
            .split_terminator('\n')
            .filter_map(|line| lines.push(Bytes::copy_from_slice(line.as_bytes())))
            .collect();
        records.extend(lines.finish());
        (records.iter().map(|record| String::from_utf8(record.to_vec()).unwrap()).collect(), lines.skipped())
    }

    #[test]
    fn the_format_says_which_lines_are_no_records() {
        let body = "a\r\n\n  \t\r\n\r\nb\r\r\n c ";
        for format in [Format::Json, Format::Logfmt] {
            assert_eq!(records(format, None, body), (["a", "b\r", " c "].map(str::to_owned).to_vec(), 3), "{format:?}");
        }
        let text = ["a", "  \t", "b\r", " c "].map(str::to_owned).to_vec();
        assert_eq!(records(Format::Text, None, body), (text, 2));
        let raw = ["a", "", "  \t", "", "b\r", " c "].map(str::to_owned).to_vec();
        assert_eq!(records(Format::Raw, None, body), (raw, 0));
    }

    #[test]
    fn a_blank_record_of_joined_lines_is_none() {
        let body = "  \r\n\r\n{\r\n\r\n \"a\":1}\r\n\r\n{}\r\n";
        let (found, skipped) = records(Format::Json, Some(r"^\{"), body);
        assert_eq!((found, skipped), (vec!["{\n\n \"a\":1}".to_owned(), "{}".to_owned()], 1));
        assert_eq!(records(Format::Text, Some(r"^\{"), "  \n{").0, ["  ", "{"]);
    }

    #[test]
    fn x1_a_joined_value_fits_its_batch_with_its_key() {
        for max in [1_024, 1 << 20, 16 << 20] {
            assert!(joined_limit(max, max / 8) < max - max / 8 - HEADER_BYTES);
        }
        assert_eq!(joined_limit(1_024, 1_024), 0);
    }
}
