//! Frames as bytes, as `docs/FORMATS.md` describes them.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use stratalog_proto::Error;

pub(crate) use decode::{Decoder, Malformed};
pub(crate) use encode::{Encoded, check};

use crate::Frame;

/// What the first byte of a frame says.
const KIND_MESSAGE: u8 = 0;
const KIND_ERROR: u8 = 1;
/// Kind, length of the head, number of parts.
const PREFIX_BYTES: usize = 9;
/// The most bytes of an error's head; a sentence that does not fit is cut.
const MAX_ERROR_BYTES: usize = 16 << 10;

/// What a direction of a request carries: frames, and at its end perhaps an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Frame(Frame),
    Error(Error),
}
