//! Where the bytes of a text index come from.

use std::io;
use std::ops::Range;

use bytes::Bytes;

/// Bytes of a text index at rest. Implemented by the reader of the file around it, which verifies checksums before it
/// hands bytes out.
pub trait Source: Send + Sync + 'static {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a range, which the caller keeps within [`len`](Source::len).
    ///
    /// # Errors
    /// When the medium fails or a checksum does not hold.
    fn view(&self, range: Range<u64>) -> io::Result<Bytes>;
}

impl Source for Bytes {
    fn len(&self) -> u64 {
        Bytes::len(self) as u64
    }

    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        let within = range.start <= range.end && range.end <= Bytes::len(self) as u64;
        match within {
            true => Ok(self.slice(range.start as usize..range.end as usize)),
            false => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{range:?} is outside of the text index")))
            }
        }
    }
}
