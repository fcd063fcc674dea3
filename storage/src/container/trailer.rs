//! The two fixed ends of a file.

use stratalog_proto::{SegmentId, ShardId};

use super::blocks::BLOCK_BYTES;
use super::cursor::{Cursor, Malformed};

pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const TRAILER_BYTES: usize = 64;
/// Bytes of a header that are the same in all kinds of file.
const COMMON_HEADER_BYTES: usize = 32;

const _: () = assert!(BLOCK_BYTES >= (HEADER_BYTES + TRAILER_BYTES) as u64);

/// What tells the files of one kind of segment from those of another.
#[derive(Debug)]
pub(crate) struct FileKind {
    /// As in an error: "a … has at least".
    pub(crate) name: &'static str,
    pub(crate) header_magic: [u8; 8],
    pub(crate) trailer_magic: [u8; 8],
    /// The version that this release writes, and the highest that it reads.
    pub(crate) version: u32,
}

impl FileKind {
    /// The first bytes of a file: whose it is, in case its footer is damaged. Covered by the checksum of block 0.
    pub(crate) fn header(
        &self,
        shard: ShardId,
        id: SegmentId,
        own: &[u8; HEADER_BYTES - COMMON_HEADER_BYTES],
    ) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0..8].copy_from_slice(&self.header_magic);
        header[8..12].copy_from_slice(&self.version.to_le_bytes());
        header[12..16].copy_from_slice(&shard.0.to_le_bytes());
        header[16..32].copy_from_slice(id.as_bytes());
        header[COMMON_HEADER_BYTES..].copy_from_slice(own);
        header
    }
}

/// The last bytes of a file: where the footer is, and the hash of everything before the trailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) blake3: [u8; 32],
    /// Where the footer starts, which is where the blocks end.
    pub(crate) footer_start: u64,
    pub(crate) footer_len: u32,
    pub(crate) footer_crc: u32,
    pub(crate) version: u32,
}

impl Trailer {
    pub(crate) fn encode(&self, magic: [u8; 8]) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[0..32].copy_from_slice(&self.blake3);
        bytes[32..40].copy_from_slice(&self.footer_start.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.footer_len.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.footer_crc.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.version.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..52]);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
        bytes[56..64].copy_from_slice(&magic);
        bytes
    }

    /// Reads the last [`TRAILER_BYTES`] of a file. The version is for the caller to judge.
    pub(crate) fn decode(bytes: &[u8], magic: [u8; 8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let trailer = Self {
            blake3: cursor.array()?,
            footer_start: cursor.u64()?,
            footer_len: cursor.u32()?,
            footer_crc: cursor.u32()?,
            version: cursor.u32()?,
        };
        let crc = cursor.u32()?;
        if cursor.array()? != magic {
            return Err(Malformed("the file does not end as one of its kind does"));
        }
        cursor.finish()?;
        if crc32fast::hash(&bytes[..52]) != crc {
            return Err(Malformed("the trailer's checksum does not match"));
        }
        Ok(trailer)
    }
}
