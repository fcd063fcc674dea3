//! Writing a history while it happens.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use parking_lot::Mutex;

use super::{End, Header, Line, Micros};

/// Takes lines of many tasks; what is not written yet is at most one buffer.
#[derive(Debug)]
pub(crate) struct Writer {
    started: Instant,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: BufWriter<File>,
    lines: u64,
    /// The first failure. Operations go on; the history has no end then.
    failed: Option<io::Error>,
}

impl Writer {
    /// Makes the file, with its first line. Times count from now.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn create(path: &Path, header: Header) -> io::Result<Self> {
        let open = Open { file: BufWriter::with_capacity(1 << 20, File::create(path)?), lines: 0, failed: None };
        let writer = Self { started: Instant::now(), open: Mutex::new(open) };
        writer.note(&Line::Begin(Box::new(header)));
        Ok(writer)
    }

    /// Microseconds since the run began.
    pub(crate) fn now(&self) -> Micros {
        Micros::try_from(self.started.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    /// Adds a line.
    pub(crate) fn note(&self, line: &Line) {
        self.open.lock().add(line);
    }

    /// Adds the last line, with why the run was broken off if it was, and brings everything to the disk.
    ///
    /// # Errors
    /// The first failure of any write: the history is cut short.
    pub(crate) fn finish(self, broken_off: Option<String>) -> io::Result<()> {
        let mut open = self.open.into_inner();
        let lines = open.lines;
        open.add(&Line::End(End { lines, broken_off }));
        match open.failed {
            Some(error) => Err(error),
            None => open.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all(),
        }
    }
}

impl Open {
    fn add(&mut self, line: &Line) {
        if self.failed.is_some() {
            return;
        }
        let written = serde_json::to_writer(&mut self.file, line).map_err(io::Error::from);
        match written.and_then(|()| self.file.write_all(b"\n")) {
            Ok(()) => self.lines += 1,
            Err(error) => self.failed = Some(error),
        }
    }
}
