//! Reading a history, line by line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::{FORMAT, Header, Line};

/// The longest line that is read: a poll brings a few megabytes at the most.
const MAX_LINE_BYTES: u64 = 256 << 20;

/// A file that is no history.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error("cannot read {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}, line {line}: {what}")]
    Malformed { path: PathBuf, line: u64, what: String },
}

/// The lines of a file behind its header. It holds one at a time.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    buffer: Vec<u8>,
    lines: u64,
    header: Header,
}

impl Reader {
    /// # Errors
    /// If the file cannot be read, or does not begin with the header of a history of this format.
    pub(crate) fn open(path: &Path) -> Result<Self, HistoryError> {
        let io = |error| HistoryError::Io { path: path.to_owned(), error };
        let file = BufReader::with_capacity(1 << 20, File::open(path).map_err(io)?);
        let mut reader = Self { path: path.to_owned(), file, buffer: Vec::new(), lines: 0, header: Header::empty() };
        let first = reader.read()?;
        let Some(Line::Begin(header)) = first else {
            return Err(reader.malformed("a history begins with a line `begin`"));
        };
        if header.format != FORMAT {
            let what = format!("it is of format {}, and this program reads format {FORMAT}", header.format);
            return Err(reader.malformed(&what));
        }
        reader.header = *header;
        Ok(reader)
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The next line; `None` at the end of the file. A last line that was cut short is not there.
    ///
    /// # Errors
    /// If it is no line of a history.
    pub(crate) fn read(&mut self) -> Result<Option<Line>, HistoryError> {
        self.buffer.clear();
        let mut limited = (&mut self.file).take(MAX_LINE_BYTES);
        let read = limited.read_until(b'\n', &mut self.buffer);
        read.map_err(|error| HistoryError::Io { path: self.path.clone(), error })?;
        if self.buffer.last() != Some(&b'\n') {
            let too_long = self.buffer.len() as u64 == MAX_LINE_BYTES;
            return if too_long { Err(self.malformed("the line is too long")) } else { Ok(None) };
        }
        self.lines += 1;
        serde_json::from_slice(&self.buffer).map(Some).map_err(|error| self.malformed(&error.to_string()))
    }

    fn malformed(&self, what: &str) -> HistoryError {
        HistoryError::Malformed { path: self.path.clone(), line: self.lines.max(1), what: what.to_owned() }
    }
}

impl Iterator for Reader {
    type Item = Result<Line, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Outcome, SendOp, When, Writer};
    use super::*;

    fn sent(value: u64) -> Line {
        let outcome = if value.is_multiple_of(2) { Outcome::Ok(value) } else { Outcome::Info("no answer".to_owned()) };
        Line::Send(SendOp { process: 1, at: When(value, value + 1), partition: 0, value, outcome, placeless: false })
    }

    fn write(path: &Path) {
        let writer = Writer::create(path, Header::empty()).unwrap();
        (0..3).for_each(|value| writer.note(&sent(value)));
        writer.finish(None).unwrap();
    }

    #[test]
    fn what_is_written_is_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("history.jsonl");
        write(&path);
        let reader = Reader::open(&path).unwrap();
        assert_eq!(reader.header(), &Header::empty());
        let lines: Vec<Line> = reader.map(Result::unwrap).collect();
        assert_eq!(lines[..3], [sent(0), sent(1), sent(2)]);
        assert!(matches!(&lines[3], Line::End(end) if end.lines == 4));
    }

    #[test]
    fn a_line_that_was_cut_short_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("history.jsonl");
        write(&path);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(Reader::open(&path).unwrap().map(Result::unwrap).count(), 3);
    }

    #[test]
    fn what_is_no_history_is_refused_with_its_line() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("history.jsonl");
        std::fs::write(&path, "{\"end\":{\"lines\":0}}\n").unwrap();
        let refused = Reader::open(&path).unwrap_err().to_string();
        assert!(refused.contains("line 1: a history begins"), "{refused}");
        write(&path);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"sent\":1}\n");
        std::fs::write(&path, text).unwrap();
        let refused = Reader::open(&path).unwrap().find_map(Result::err).unwrap().to_string();
        assert!(refused.contains("line 6: unknown variant `sent`"), "{refused}");
    }
}
