//! Snappy as Kafka clients speak it: Java's stream of blocks ("xerial" framing), which we write, and one raw block
//! (librdkafka), which we read too.
//!
//! ```text
//! stream: 82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version i32 | lowest compatible version i32 | blocks
//! block:  length i32 | raw snappy
//! ```

use super::BatchError;
use super::compression::Compression::Snappy;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const STREAM_HEADER_BYTES: usize = 16;
/// What snappy-java takes for a block.
const BLOCK_BYTES: usize = 32 << 10;
/// Snappy's densest element turns three bytes into 64, so a claim beyond this is a lie.
const MAX_RATIO: usize = 24;

/// Appends `data` to `out` as a stream.
pub(super) fn compress(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for chunk in data.chunks(BLOCK_BYTES) {
        let block = encoder.compress_vec(chunk).expect("snappy takes any 32 KiB");
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&block);
    }
}

/// Decompresses a stream, or one raw block, into at most `max_bytes`.
pub(super) fn decompress(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    if !data.starts_with(&MAGIC) {
        decompress_block(data, max_bytes, &mut out)?;
        return Ok(out);
    }
    let mut rest = data;
    while !rest.is_empty() {
        // Streams may be concatenated: snappy-java reads that too.
        if rest.starts_with(&MAGIC) {
            rest = rest.get(STREAM_HEADER_BYTES..).ok_or_else(|| invalid("the stream header ends too early"))?;
            continue;
        }
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(|| invalid("a block's length is cut"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = behind.get(..length).ok_or_else(|| invalid("a block goes past the end"))?;
        decompress_block(block, max_bytes, &mut out)?;
        rest = &behind[length..];
    }
    Ok(out)
}

fn decompress_block(block: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let claimed = snap::raw::decompress_len(block).map_err(|error| invalid(&error.to_string()))?;
    let start = out.len();
    if claimed > max_bytes - start {
        return Err(BatchError::Bomb { codec: Snappy, limit_bytes: max_bytes });
    }
    if claimed / MAX_RATIO > block.len() {
        return Err(invalid("a block claims more bytes than it can hold"));
    }
    out.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[start..]);
    match written {
        Ok(written) if written == claimed => Ok(()),
        Ok(_) => Err(invalid("a block holds fewer bytes than it claims")),
        Err(error) => Err(invalid(&error.to_string())),
    }
}

fn invalid(reason: &str) -> BatchError {
    BatchError::Decompress { codec: Snappy, reason: reason.to_owned() }
}
