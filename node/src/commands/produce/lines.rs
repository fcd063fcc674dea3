//! Lines of a file or of standard input, as slices of the blocks that were read.

use std::io::Read;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use crate::failure::Failure;

/// No record can be larger than this (`max.message.bytes` has the same upper bound).
pub(super) const MAX_LINE_BYTES: usize = 16 << 20;
const READ_BYTES: usize = 256 << 10;

/// Reads blocks and splits them into lines; a line's feed is not part of it, everything else is.
pub(super) struct Lines<R> {
    source: R,
    name: String,
    rest: BytesMut,
    line: u64,
    /// Whether nothing was read yet.
    at_start: bool,
    at_end: bool,
}

/// How files begin that hold no lines before they are unpacked, and what unpacks them to standard output.
const PACKED: [(&[u8], &str, &str); 4] = [
    (b"\x1f\x8b", "gzip", "zcat"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstdcat"),
    (b"BZh", "bzip2", "bzcat"),
    (b"\xfd7zXZ\0", "xz", "xzcat"),
];

/// Opens a file, or standard input for `-`.
///
/// # Errors
/// [`Failure::Refused`], naming the file.
pub(super) fn open(path: &Path) -> Result<Lines<Box<dyn Read + Send>>, Failure> {
    if path == Path::new("-") {
        return Ok(Lines::new(Box::new(std::io::stdin()), "standard input".to_owned()));
    }
    let file = std::fs::File::open(path).map_err(|error| Failure::io("open", path.display(), &error))?;
    Ok(Lines::new(Box::new(file), path.display().to_string()))
}

impl<R: Read> Lines<R> {
    fn new(source: R, name: String) -> Self {
        Self { source, name, rest: BytesMut::new(), line: 0, at_start: true, at_end: false }
    }

    /// The whole lines of the next block; `None` at the end.
    ///
    /// # Errors
    /// [`Failure::Refused`] if reading fails, a line is over [`MAX_LINE_BYTES`], or the input is packed.
    pub(super) fn next_block(&mut self) -> Result<Option<Vec<Bytes>>, Failure> {
        loop {
            if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                let block = self.rest.split_to(end + 1).freeze();
                return Ok(Some(self.split(&block)));
            }
            if self.at_end {
                let last = self.rest.split().freeze();
                return Ok((!last.is_empty()).then(|| vec![last]));
            }
            self.read()?;
            if std::mem::take(&mut self.at_start) {
                self.refuse_packed()?;
            }
        }
    }

    /// A packed file read as lines would be records that nobody wants.
    fn refuse_packed(&self) -> Result<(), Failure> {
        let Some((_, what, unpack)) = PACKED.iter().find(|(magic, _, _)| self.rest.starts_with(magic)) else {
            return Ok(());
        };
        let name = &self.name;
        Err(Failure::Refused(format!(
            "{name} is packed with {what}; unpack it first, as in: {unpack} FILE | stratalog produce TOPIC -"
        )))
    }

    fn split(&mut self, block: &Bytes) -> Vec<Bytes> {
        let mut lines = Vec::new();
        let mut start = 0;
        for (end, _) in block.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            lines.push(block.slice(start..end));
            start = end + 1;
        }
        self.line += lines.len() as u64;
        lines
    }

    fn read(&mut self) -> Result<(), Failure> {
        if self.rest.len() > MAX_LINE_BYTES {
            let message = format!("{} line {} is longer than {MAX_LINE_BYTES} bytes", self.name, self.line + 1);
            return Err(Failure::Refused(message));
        }
        let start = self.rest.len();
        self.rest.resize(start + READ_BYTES, 0);
        let read = loop {
            match self.source.read(&mut self.rest[start..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| Failure::io("read", &self.name, &error))?,
            }
        };
        self.rest.truncate(start + read);
        self.at_end = read == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<Bytes> {
        let mut lines = Lines::new(input, "test".to_owned());
        let mut out = Vec::new();
        while let Some(block) = lines.next_block().unwrap() {
            out.extend(block);
        }
        out
    }

    #[test]
    fn lines_keep_every_byte_but_the_feed() {
        assert_eq!(
            all(b"a\r\n\nb\xff\nlast"),
            ["a\r".into(), Bytes::new(), Bytes::from_static(b"b\xff"), "last".into()]
        );
        assert!(all(b"").is_empty());
    }

    #[test]
    fn lines_longer_than_a_block_are_whole() {
        let long = vec![b'x'; READ_BYTES * 2 + 7];
        let input = [&long[..], b"\n", &long[..], b"\n"].concat();
        assert_eq!(all(&input), [long.clone(), long]);
    }

    #[test]
    fn packed_files_are_refused_with_what_unpacks_them() {
        for (input, unpack) in [(&b"\x1f\x8b\x08\0\n\n"[..], "zcat"), (b"\x28\xb5\x2f\xfdx\n", "zstdcat")] {
            let error = Lines::new(input, "test".to_owned()).next_block().unwrap_err();
            assert!(error.to_string().contains(unpack), "{error}");
        }
        assert_eq!(all(b"B\n\x1f\x8b\n").len(), 2, "only at the beginning");
    }

    #[test]
    fn x1_endless_line_is_refused() {
        let mut lines = Lines::new(std::io::repeat(b'x'), "test".to_owned());
        assert!(lines.next_block().unwrap_err().to_string().contains("line 1 is longer"));
    }
}
