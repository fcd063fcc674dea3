//! Tells a write that a crash cut short from rot, by what the bytes look like.
//!
//! Space that was never written reads as zeroes, and groups start at sector boundaries. So a write that did not reach the
//! medium in full has either ended early (the process was killed: its last bytes are missing) or lacks whole sectors (the
//! power was cut: those read as zeroes). Flipped bits look like neither. Payloads that hold a sector of zeroes by
//! themselves are the one case that cannot be told apart; the group header that follows within
//! [`LaneOptions::mark_after`](super::LaneOptions) closes it.

use super::format::{self, FRAME_HEADER_BYTES, GROUP_END, GROUP_HEADER_BYTES, claimed_payload_bytes};

const SECTOR: usize = format::SECTOR as usize;

/// Whether a write that was cut short explains that the frame at `frame` of this group is not whole.
pub(super) fn explains_frame(group: &[u8], frame: usize) -> bool {
    !group.ends_with(&GROUP_END) || lacks_sector(group, frame)
}

/// Whether a write that was cut short explains a sector that holds no whole group header, in a rest of a file whose last
/// `used_bytes` from here are not all zero.
pub(super) fn explains_header(sector: &[u8], used_bytes: u64) -> bool {
    // A header lies in one sector: it is lost with it, or it is the write's very last bytes.
    is_zero(sector) || used_bytes < GROUP_HEADER_BYTES as u64
}

/// Whether a sector is missing from the frame. Frames are aligned, so the length can be read unless its sector is lost.
fn lacks_sector(group: &[u8], frame: usize) -> bool {
    let payload = claimed_payload_bytes(group.get(frame..).unwrap_or(&[]));
    let sectors = frame / SECTOR..(frame + FRAME_HEADER_BYTES + payload).div_ceil(SECTOR);
    group.chunks(SECTOR).skip(sectors.start).take(sectors.len()).any(is_zero)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
