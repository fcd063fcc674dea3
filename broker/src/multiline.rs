//! Lines that belong together as one record: a stack trace and the line that it belongs to.
//!
//! Lines are joined where records are made of lines, before the log: each record of the log stays one row (S1), and its
//! offset counts what the user sees. A topic's setting `multiline` says which lines begin a record.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use regex::bytes::{Regex, RegexBuilder};
use stratalog_proto::{Code, Error};

/// The most lines of one record. A line beyond begins a record of its own.
const MAX_LINES: usize = 1_000;
/// The most memory of the compiled expression.
const MAX_COMPILED_BYTES: usize = 512 << 10;
/// The most memory of what matching it keeps for each thread.
const MAX_MATCHING_BYTES: usize = 1 << 20;
const MAX_NESTING: u32 = 100;
/// Settings that are kept ready: more than topics that lines are joined for at one time.
const MAX_READY: usize = 256;

static READY: LazyLock<Mutex<HashMap<String, Multiline>>> = LazyLock::new(Mutex::default);

/// Lines of Java logs that go on with the record before: those of a stack trace, and what is indented or empty.
const JAVA_CONTINUES: &str = concat!(
    r"^(?:\s|$|at |Caused by:|Suppressed:|Wrapped by:|\.\.\. \d+ (?:more|common frames omitted)",
    r"|(?:[A-Za-z_$][\w$]*\.)+[A-Za-z_$][\w$]*(?:Exception|Error|Throwable|Failure)\w*(?:[:\s]|$))",
);

/// Which lines begin a record. Clones share what is compiled.
#[derive(Clone, Debug)]
pub struct Multiline {
    lines: Arc<Regex>,
    /// Whether the expression finds lines that begin a record, or those that go on with one.
    finds_first: bool,
}

impl Multiline {
    /// As [`new`](Self::new), of which what is compiled is kept for the next who asks.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn of(setting: &str) -> Result<Self, Error> {
        if let Some(ready) = READY.lock().get(setting) {
            return Ok(ready.clone());
        }
        let made = Self::new(setting)?;
        let mut ready = READY.lock();
        if ready.len() >= MAX_READY {
            ready.clear();
        }
        ready.insert(setting.to_owned(), made.clone());
        Ok(made)
    }

    /// Reads the setting `multiline` of a topic: `java`, or a regular expression of the lines that begin a record.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`], with what is wrong with the expression.
    pub fn new(setting: &str) -> Result<Self, Error> {
        let (expression, finds_first) = match setting {
            "java" => (JAVA_CONTINUES, false),
            expression => (expression, true),
        };
        let lines = RegexBuilder::new(expression)
            .unicode(finds_first)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_MATCHING_BYTES)
            .nest_limit(MAX_NESTING)
            .build()
            .map_err(|error| invalid(setting, &error))?;
        Ok(Self { lines: Arc::new(lines), finds_first })
    }

    /// Whether a line begins a record.
    pub fn begins(&self, line: &[u8]) -> bool {
        self.lines.is_match(line) == self.finds_first
    }
}

fn invalid(setting: &str, error: &regex::Error) -> Error {
    let error = error.to_string();
    let what = error.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let shown = &setting[..setting.floor_char_boundary(200)];
    let message = format!(
        "topic setting `multiline` cannot be `{shown}`: {}; write `java`, or a regular expression of the lines that begin \
         a record",
        what.trim().trim_start_matches("error: "),
    );
    Error::new(Code::InvalidConfig, message)
}

/// Joins lines to records. What was joined is bounded in lines and bytes: a line that would go beyond begins a record of
/// its own, and nothing is lost.
#[derive(Debug)]
pub(crate) struct LineJoiner {
    multiline: Multiline,
    max_bytes: usize,
    open: Option<Open>,
}

/// A record that may get further lines.
#[derive(Debug)]
struct Open {
    text: Text,
    lines: usize,
    /// Empty lines behind it, which belong to it if another line does.
    empty: usize,
}

#[derive(Debug)]
enum Text {
    /// One line, as it came.
    Line(Bytes),
    Joined(BytesMut),
}

impl LineJoiner {
    /// Joins to records of at most `max_bytes`.
    pub(crate) fn new(multiline: Multiline, max_bytes: usize) -> Self {
        Self { multiline, max_bytes, open: None }
    }

    /// Adds a line, which is without its end; gives the record before it, if this line begins another.
    pub(crate) fn push(&mut self, line: Bytes) -> Option<Bytes> {
        if let Some(open) = &mut self.open {
            if line.is_empty() {
                open.empty += 1;
                return None;
            }
            if open.has_room(line.len(), self.max_bytes) && !self.multiline.begins(&line) {
                open.push(&line);
                return None;
            }
        } else if line.is_empty() {
            return None;
        }
        self.open.replace(Open { text: Text::Line(line), lines: 1, empty: 0 }).map(Open::close)
    }

    /// The record that was not ended by another. What comes behind begins a record.
    pub(crate) fn finish(&mut self) -> Option<Bytes> {
        self.open.take().map(Open::close)
    }

    /// Whether there is a record that was not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

impl Open {
    fn has_room(&self, bytes: usize, max_bytes: usize) -> bool {
        let len = match &self.text {
            Text::Line(line) => line.len(),
            Text::Joined(text) => text.len(),
        };
        self.lines + self.empty < MAX_LINES && len + self.empty + 1 + bytes <= max_bytes
    }

    fn push(&mut self, line: &[u8]) {
        let mut text = match std::mem::replace(&mut self.text, Text::Line(Bytes::new())) {
            Text::Line(first) => BytesMut::from(&first[..]),
            Text::Joined(text) => text,
        };
        text.put_bytes(b'\n', self.empty + 1);
        text.extend_from_slice(line);
        self.lines += self.empty + 1;
        self.empty = 0;
        self.text = Text::Joined(text);
    }

    fn close(self) -> Bytes {
        match self.text {
            Text::Line(line) => line,
            Text::Joined(text) => text.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(setting: &str, max_bytes: usize, lines: &[&str]) -> Vec<String> {
        let mut joiner = LineJoiner::new(Multiline::new(setting).unwrap(), max_bytes);
        let mut records: Vec<Bytes> =
            lines.iter().filter_map(|line| joiner.push(Bytes::copy_from_slice(line.as_bytes()))).collect();
        records.extend(joiner.finish());
        records.iter().map(|record| String::from_utf8(record.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_stack_trace_is_one_record_with_its_line() {
        let lines = [
            "[2016-12-20 00:04:03,231] WARN cannot connect (kafka.controller.RequestSendThread)",
            "java.io.IOException: Connection to kafka1:9092 (id: 1 rack: null) failed",
            "\tat kafka.utils.NetworkClientBlockingOps$.awaitReady$1(NetworkClientBlockingOps.scala:83)",
            "\t... 12 more",
            "Caused by: java.net.ConnectException: refused",
            "",
            "\tat java.net.Socket.connect(Socket.java:1)",
            "[2016-12-20 00:04:04,000] INFO next (kafka.controller.KafkaController)",
            "",
        ];
        let records = joined("java", 1 << 20, &lines);
        assert_eq!(records, [lines[..7].join("\n"), lines[7].to_owned()]);
    }

    #[test]
    fn a_line_that_names_an_exception_is_no_stack_trace() {
        let lines =
            ["12:00:00 ERROR java.io.IOException: x", "Exception in thread \"main\" java.lang.Error", "plain words"];
        assert_eq!(joined("java", 1 << 20, &lines), lines);
    }

    #[test]
    fn an_expression_says_which_lines_begin_a_record() {
        let records = joined(r"^\d{4}-", 1 << 20, &["lost its head", "2026-01-31 a", "b", "2026-01-31 c"]);
        assert_eq!(records, ["lost its head", "2026-01-31 a\nb", "2026-01-31 c"]);
    }

    #[test]
    fn pretty_printed_objects_are_joined() {
        let records = joined(r"^\{", 1 << 20, &["{", "  \"a\": 1", "}", "{", "}"]);
        assert_eq!(records, ["{\n  \"a\": 1\n}", "{\n}"]);
    }

    #[test]
    fn x1_records_are_bounded_in_bytes_and_lines() {
        assert_eq!(joined("^A", 5, &["A", " b", " c", " d"]), ["A\n b", " c\n d"]);
        let many = vec![" x"; 2 * MAX_LINES + 1];
        let lines: Vec<usize> = joined("^A", 1 << 20, &many).iter().map(|record| record.lines().count()).collect();
        assert_eq!(lines, [MAX_LINES, MAX_LINES, 1]);
        let empty = vec![""; MAX_LINES];
        let lines = [&["A"][..], &empty, &[" b"]].concat();
        assert_eq!(joined("^A", 1 << 20, &lines), ["A", " b"]);
    }

    #[test]
    fn a_setting_is_compiled_once() {
        let of = |setting| Multiline::of(setting).unwrap();
        assert!(Arc::ptr_eq(&of("^once").lines, &of("^once").lines));
        assert!(!Arc::ptr_eq(&of("^once").lines, &of("^twice").lines));
        assert!(Multiline::of("(").is_err());
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for setting in ["(", "a{1000}{1000}{1000}", "(?=x)"] {
            let error = Multiline::new(setting).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig, "{setting}");
            assert!(error.message.contains("multiline"), "{error}");
        }
    }
}
