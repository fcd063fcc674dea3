//! The codecs of record batches. Each decompresses into a bounded buffer, whatever the bytes claim.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use bytes::Bytes;
use lz4_flex::frame::{BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{BatchError, snappy};
use crate::{Code, Error};

/// The level of zstd's own command line.
const ZSTD_LEVEL: i32 = 3;
/// A block takes three bytes or more and gives at most 128 KiB.
const ZSTD_MAX_RATIO: u64 = (128 << 10) / 3 + 1;
/// What a buffer of unknown size starts with.
const FIRST_GUESS_BYTES: usize = 64 << 10;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// Gzip.
    Gzip,
    /// Snappy, as snappy-java frames it.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// Every codec, by its number.
    pub const ALL: [Compression; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The name that users write, Kafka's `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Kafka's number, in the low three bits of a batch's attributes.
    pub fn codec(self) -> u8 {
        self as u8
    }

    pub(super) fn from_codec(codec: u8) -> Option<Self> {
        Self::ALL.get(usize::from(codec)).copied()
    }

    /// Appends `data` to `out`, compressed.
    pub(super) fn compress(self, mut out: Vec<u8>, data: &[u8]) -> Vec<u8> {
        match self {
            Self::None => out.extend_from_slice(data),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                let written = encoder.write_all(data).and_then(|()| encoder.finish());
                out = written.expect("writing to memory does not fail");
            }
            Self::Snappy => snappy::compress(&mut out, data),
            Self::Lz4 => {
                // Blocks as Java's producer writes them; its reader refuses dependent ones.
                let info = FrameInfo::new().block_size(BlockSize::Max64KB);
                let mut encoder = FrameEncoder::with_frame_info(info, out);
                encoder.write_all(data).expect("writing to memory does not fail");
                out = encoder.finish().expect("writing to memory does not fail");
            }
            Self::Zstd => {
                let compressed = zstd::bulk::compress(data, ZSTD_LEVEL).expect("zstd takes any bytes");
                out.extend_from_slice(&compressed);
            }
        }
        out
    }

    /// Decompresses into at most `max_bytes`; bytes that are not compressed are returned as they are.
    pub(super) fn decompress(self, data: Bytes, max_bytes: usize) -> Result<Bytes, BatchError> {
        let out = match self {
            Self::None if data.len() > max_bytes => return Err(self.bomb(max_bytes)),
            Self::None => return Ok(data),
            Self::Gzip => self.read_bounded(flate2::bufread::MultiGzDecoder::new(&data[..]), data.len(), max_bytes)?,
            Self::Snappy => snappy::decompress(&data, max_bytes)?,
            Self::Lz4 => self.read_bounded(FrameDecoder::new(&data[..]), data.len(), max_bytes)?,
            Self::Zstd => decompress_zstd(&data, max_bytes)?,
        };
        Ok(out.into())
    }

    fn read_bounded(self, reader: impl Read, compressed: usize, max_bytes: usize) -> Result<Vec<u8>, BatchError> {
        let mut out = Vec::with_capacity(first_guess(compressed, max_bytes));
        let limit = (max_bytes as u64).saturating_add(1);
        let read = reader.take(limit).read_to_end(&mut out);
        read.map_err(|error| self.invalid(error))?;
        if out.len() > max_bytes { Err(self.bomb(max_bytes)) } else { Ok(out) }
    }

    fn bomb(self, limit_bytes: usize) -> BatchError {
        BatchError::Bomb { codec: self, limit_bytes }
    }

    fn invalid(self, error: impl fmt::Display) -> BatchError {
        BatchError::Decompress { codec: self, reason: error.to_string() }
    }
}

fn first_guess(compressed: usize, max_bytes: usize) -> usize {
    compressed.saturating_mul(4).max(FIRST_GUESS_BYTES).min(max_bytes)
}

/// Decompresses in one go instead of as a stream: a stream takes memory for the window that the frame announces, up to
/// 128 MiB for a few bytes, where here the output is the window.
///
/// Java's producer does not announce the size, so a buffer that proves too small grows and the work starts again.
fn decompress_zstd(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let codec = Compression::Zstd;
    let announced = zstd::zstd_safe::get_frame_content_size(data).map_err(|error| codec.invalid(error))?;
    let most = (data.len() as u64).saturating_mul(ZSTD_MAX_RATIO);
    let mut capacity = match announced {
        Some(bytes) if bytes > most => return Err(codec.invalid("the frame announces more bytes than it can hold")),
        Some(bytes) if bytes > max_bytes as u64 => return Err(codec.bomb(max_bytes)),
        Some(bytes) => bytes as usize,
        None => first_guess(data.len(), max_bytes),
    };
    loop {
        let mut out = Vec::with_capacity(capacity);
        match zstd::zstd_safe::decompress(&mut out, data) {
            Ok(_) => return Ok(out),
            Err(code) if !is_too_small(code) => return Err(codec.invalid(zstd::zstd_safe::get_error_name(code))),
            Err(_) if capacity >= max_bytes => return Err(codec.bomb(max_bytes)),
            Err(_) => capacity = capacity.max(FIRST_GUESS_BYTES).saturating_mul(4).min(max_bytes),
        }
    }
}

/// Zstd returns its error codes negated.
fn is_too_small(code: usize) -> bool {
    const DESTINATION_TOO_SMALL: usize = 70;
    code.wrapping_neg() == DESTINATION_TOO_SMALL
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|codec| codec.name() == name);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::new(Code::InvalidConfig, format!("there is no compression `{name}`; it is one of {names}"))
        })
    }
}
