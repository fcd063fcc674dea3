//! A file taken apart, and put together from any parts under checksums that are right for them: so that a fuzzer gets
//! behind the checksums.
//!
//! The parts are: what is added to the place and to the length of the footer in the trailer (u32 each, 0 in an honest
//! file), the footer without the checksums of the blocks (a length u16, bytes), and the blocks.

use stratalog_mutation::{Pieces, piece};

use super::{BLOCK_BYTES, FileKind, TRAILER_BYTES, Trailer};

/// The parts of a whole file.
///
/// # Panics
/// If it is none of this kind.
pub(crate) fn apart(file: &[u8], kind: &FileKind) -> Vec<u8> {
    let (body, trailer) = file.split_at(file.len() - TRAILER_BYTES);
    let trailer = Trailer::decode(trailer, kind.trailer_magic).unwrap();
    let (blocks, footer) = body.split_at(trailer.footer_start as usize);
    let checksums = 4 + 4 * blocks.len().div_ceil(BLOCK_BYTES as usize);
    [&[0; 8][..], &piece(&footer[..footer.len() - checksums]), blocks].concat()
}

/// The file of these parts. It has what it takes to be looked into, whatever they are.
pub(crate) fn together(parts: &[u8], kind: &FileKind) -> Vec<u8> {
    let mut pieces = Pieces(parts);
    let (start_lie, len_lie) = (pieces.number(), pieces.number());
    let (footer, blocks) = (pieces.piece(), pieces.rest());
    let mut file = blocks.to_vec();
    file.extend_from_slice(footer);
    let checksums: Vec<[u8; 4]> =
        blocks.chunks(BLOCK_BYTES as usize).map(|block| crc32fast::hash(block).to_le_bytes()).collect();
    file.extend_from_slice(&(checksums.len() as u32).to_le_bytes());
    file.extend_from_slice(checksums.as_flattened());
    let trailer = Trailer {
        blake3: *blake3::hash(&file).as_bytes(),
        footer_start: (blocks.len() as u64).wrapping_add_signed(start_lie.cast_signed().into()),
        footer_len: ((file.len() - blocks.len()) as u32).wrapping_add(len_lie),
        footer_crc: crc32fast::hash(&file[blocks.len()..]),
        version: kind.version,
    };
    file.extend_from_slice(&trailer.encode(kind.trailer_magic));
    file
}
