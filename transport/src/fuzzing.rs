//! The decoders of this room, as fuzz targets and for a short run of mutations in every test run.

mod frames;
mod handshakes;

#[cfg(test)]
mod tests;

use stratalog_mutation::Decoder;

pub use frames::FRAMES;
pub use handshakes::{ACCEPT, OFFER};

/// All of them.
pub const DECODERS: &[Decoder] = &[FRAMES, ACCEPT, OFFER];
