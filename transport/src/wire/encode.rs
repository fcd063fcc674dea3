//! A frame on its way out: slices that the socket takes as they are.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use stratalog_proto::{Code, Error};

use super::{KIND_ERROR, KIND_MESSAGE, MAX_ERROR_BYTES, Message, PREFIX_BYTES};
use crate::Frame;

/// Buffers below this are copied: that costs less than a slice of their own.
const COPY_BELOW_BYTES: usize = 4 << 10;

/// Whether a frame is within the bounds that a receiver enforces.
///
/// # Errors
/// `InvalidRequest` that says which bound it is over.
pub(crate) fn check(frame: &Frame) -> Result<(), Error> {
    let (parts, bytes) = (frame.parts.len(), frame.bytes());
    let over = if parts > Frame::MAX_PARTS {
        format!("{parts} parts, at most {} fit", Frame::MAX_PARTS)
    } else if bytes > Frame::MAX_BYTES {
        format!("{bytes} bytes, at most {} fit", Frame::MAX_BYTES)
    } else {
        return Ok(());
    };
    Err(Error::new(Code::InvalidRequest, format!("a frame between nodes has {over}")))
}

/// The bytes of one message, in pieces that are never joined.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Encoded {
    /// `message` has been [checked](check), if it is a frame.
    pub(crate) fn new(message: Message) -> Self {
        match message {
            Message::Frame(frame) => Self::frame(frame),
            Message::Error(error) => Self::error(&error),
        }
    }

    fn frame(frame: Frame) -> Self {
        let mut out = Pieces::with_prefix(KIND_MESSAGE, frame.head.len(), frame.parts.len());
        for part in &frame.parts {
            out.scratch.put_u32_le(u32_of(part.len()));
        }
        out.put(frame.head);
        frame.parts.into_iter().for_each(|part| out.put(part));
        out.finish()
    }

    fn error(error: &Error) -> Self {
        let words = &error.message[..error.message.floor_char_boundary(MAX_ERROR_BYTES - 2)];
        let mut out = Pieces::with_prefix(KIND_ERROR, 2 + words.len(), 0);
        out.scratch.put_u16_le(error.code as u16);
        out.scratch.put_slice(words.as_bytes());
        out.finish()
    }
}

fn u32_of(len: usize) -> u32 {
    u32::try_from(len).expect("a frame is bounded far below 4 GiB")
}

/// Small buffers are collected, large ones stay where they are.
struct Pieces {
    pieces: VecDeque<Bytes>,
    scratch: BytesMut,
}

impl Pieces {
    fn with_prefix(kind: u8, head: usize, parts: usize) -> Self {
        let mut scratch = BytesMut::with_capacity(PREFIX_BYTES + 4 * parts + head.min(COPY_BELOW_BYTES));
        scratch.put_u8(kind);
        scratch.put_u32_le(u32_of(head));
        scratch.put_u32_le(u32_of(parts));
        Self { pieces: VecDeque::new(), scratch }
    }

    fn put(&mut self, bytes: Bytes) {
        if bytes.len() < COPY_BELOW_BYTES {
            self.scratch.extend_from_slice(&bytes);
            return;
        }
        self.end_scratch();
        self.pieces.push_back(bytes);
    }

    fn end_scratch(&mut self) {
        if !self.scratch.is_empty() {
            self.pieces.push_back(self.scratch.split().freeze());
        }
    }

    fn finish(mut self) -> Encoded {
        self.end_scratch();
        let remaining = self.pieces.iter().map(Bytes::len).sum();
        Encoded { pieces: self.pieces, remaining }
    }
}

impl Buf for Encoded {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut slices = 0;
        for (slot, piece) in out.iter_mut().zip(&self.pieces) {
            *slot = IoSlice::new(piece);
            slices += 1;
        }
        slices
    }

    fn advance(&mut self, mut bytes: usize) {
        assert!(bytes <= self.remaining, "advance beyond the end of a frame");
        self.remaining -= bytes;
        while bytes > 0 {
            let front = self.pieces.front_mut().expect("remaining is what the pieces hold");
            if front.len() > bytes {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            self.pieces.pop_front();
        }
    }
}
