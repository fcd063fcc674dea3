//! Frames out of the pieces in which a socket gives them.

use std::mem;

use bytes::{Buf, Bytes, BytesMut};
use stratalog_proto::{Code, Error};

use super::{KIND_ERROR, KIND_MESSAGE, MAX_ERROR_BYTES, Message, PREFIX_BYTES};
use crate::Frame;

/// Memory that is taken for a frame before its bytes are there; from then on it doubles as they come.
const FIRST_BYTES: usize = 256 << 10;

/// Bytes that are no frame. Whoever sends them is not talked to any longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a frame of kind {0}")]
    Kind(u8),
    #[error("a frame of {0} parts, at most {max} are allowed", max = Frame::MAX_PARTS)]
    Parts(u32),
    #[error("a frame of {0} bytes, at most {max} are allowed", max = Frame::MAX_BYTES)]
    Bytes(u64),
    #[error("an error that cannot be read")]
    Error,
    #[error("a frame that ends early")]
    Cut,
}

/// Takes pieces, gives messages. The buffers of a frame are slices of one buffer of its own.
#[derive(Debug)]
pub(crate) struct Decoder {
    stage: Stage,
    /// What the stage has so far.
    buffer: BytesMut,
}

/// What is being read, and of what is known by then.
#[derive(Debug)]
enum Stage {
    Prefix,
    Lengths { kind: u8, head: usize, parts: usize },
    Body { kind: u8, head: usize, parts: Vec<u32>, bytes: usize },
}

impl Stage {
    /// Bytes that it consists of.
    fn bytes(&self) -> usize {
        match self {
            Stage::Prefix => PREFIX_BYTES,
            Stage::Lengths { parts, .. } => 4 * parts,
            Stage::Body { bytes, .. } => *bytes,
        }
    }
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { stage: Stage::Prefix, buffer: BytesMut::new() }
    }

    /// The next message, taken from the front of `piece`. `None`: all of the piece was taken, and there is more to come.
    ///
    /// # Errors
    /// The bytes are no frame; nothing more may be given.
    pub(crate) fn take(&mut self, piece: &mut Bytes) -> Result<Option<Message>, Malformed> {
        loop {
            let missing = self.stage.bytes() - self.buffer.len();
            let taken = missing.min(piece.len());
            self.reserve(missing, taken);
            self.buffer.extend_from_slice(&piece[..taken]);
            piece.advance(taken);
            if taken < missing {
                return Ok(None);
            }
            if let Some(message) = self.finish_stage()? {
                return Ok(Some(message));
            }
        }
    }

    /// The bytes of the frame that is being taken, once it has said how many they are.
    pub(crate) fn announced(&self) -> Option<usize> {
        match &self.stage {
            Stage::Body { bytes, .. } => Some(*bytes),
            Stage::Prefix | Stage::Lengths { .. } => None,
        }
    }

    /// Whether nothing of a further frame was taken yet.
    ///
    /// # Errors
    /// [`Malformed::Cut`]: the bytes end within a frame.
    pub(crate) fn finish(&self) -> Result<(), Malformed> {
        let whole = matches!(self.stage, Stage::Prefix) && self.buffer.is_empty();
        if whole { Ok(()) } else { Err(Malformed::Cut) }
    }

    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.buffer.capacity()
    }

    /// Takes memory by what has come, not by what is announced (X1).
    fn reserve(&mut self, missing: usize, taken: usize) {
        if self.buffer.capacity() - self.buffer.len() < taken {
            self.buffer.reserve(missing.min(taken.max(self.buffer.len()).max(FIRST_BYTES)));
        }
    }

    /// The buffer holds the whole stage: goes on to the next.
    fn finish_stage(&mut self) -> Result<Option<Message>, Malformed> {
        let buffer = mem::take(&mut self.buffer);
        match mem::replace(&mut self.stage, Stage::Prefix) {
            Stage::Prefix => self.stage = read_prefix(&buffer)?,
            Stage::Lengths { kind, head, .. } => self.stage = read_lengths(kind, head, &buffer)?,
            Stage::Body { kind, head, parts, .. } => return read_body(kind, head, &parts, buffer.freeze()).map(Some),
        }
        Ok(None)
    }
}

fn read_prefix(mut bytes: &[u8]) -> Result<Stage, Malformed> {
    let (kind, head, parts) = (bytes.get_u8(), bytes.get_u32_le(), bytes.get_u32_le());
    let (max_head, max_parts) = match kind {
        KIND_MESSAGE => (Frame::MAX_BYTES, Frame::MAX_PARTS),
        KIND_ERROR => (MAX_ERROR_BYTES, 0),
        _ => return Err(Malformed::Kind(kind)),
    };
    if parts as usize > max_parts {
        return Err(Malformed::Parts(parts));
    }
    if head as usize > max_head {
        return Err(Malformed::Bytes(head.into()));
    }
    Ok(Stage::Lengths { kind, head: head as usize, parts: parts as usize })
}

fn read_lengths(kind: u8, head: usize, bytes: &[u8]) -> Result<Stage, Malformed> {
    let parts: Vec<u32> = bytes.chunks_exact(4).map(|mut length| length.get_u32_le()).collect();
    let total = parts.iter().fold(head as u64, |sum, part| sum + u64::from(*part));
    if total > Frame::MAX_BYTES as u64 {
        return Err(Malformed::Bytes(total));
    }
    Ok(Stage::Body { kind, head, parts, bytes: total as usize })
}

fn read_body(kind: u8, head: usize, parts: &[u32], mut bytes: Bytes) -> Result<Message, Malformed> {
    let head = bytes.split_to(head);
    if kind == KIND_ERROR {
        return read_error(&head).map(Message::Error).ok_or(Malformed::Error);
    }
    let parts = parts.iter().map(|part| bytes.split_to(*part as usize)).collect();
    Ok(Message::Frame(Frame { head, parts }))
}

/// A code that this version does not know is a defect of the peer's, as far as this node can tell.
fn read_error(bytes: &[u8]) -> Option<Error> {
    let (code, words) = bytes.split_first_chunk::<2>()?;
    let code = Code::from_number(u16::from_le_bytes(*code).into()).unwrap_or(Code::Internal);
    Some(Error::new(code, str::from_utf8(words).ok()?))
}
