//! Frames, out of the pieces in which a socket gives them.

use bytes::{Buf, Bytes};
use stratalog_mutation::{Decoder, Pieces};
use stratalog_proto::{Code, Error};

use crate::Frame;
use crate::wire::{Decoder as FrameDecoder, Encoded, Malformed, Message};

/// The length of a piece (u8), and frames.
pub const FRAMES: Decoder =
    Decoder { name: "frames", samples: frames, run: read_frames, words: &[], memory_bytes: 2 << 20 };

fn frames() -> Vec<Vec<u8>> {
    let parts = vec![Bytes::from_static(b"one part"), Bytes::new(), Bytes::from(vec![7; 300])];
    let frame = Message::Frame(Frame { head: Bytes::from_static(b"a head"), parts });
    let error = Message::Error(Error::new(Code::NotLeader, "node 3 leads"));
    let together = [bytes_of(frame.clone()), bytes_of(error.clone()), bytes_of(frame.clone())].concat();
    [(255, bytes_of(frame)), (1, bytes_of(error)), (7, together)]
        .map(|(step, bytes)| [&[step], &bytes[..]].concat())
        .into()
}

fn bytes_of(message: Message) -> Vec<u8> {
    let mut encoded = Encoded::new(message);
    encoded.copy_to_bytes(encoded.remaining()).to_vec()
}

fn read_frames(bytes: &[u8]) -> bool {
    let mut pieces = Pieces(bytes);
    let step = usize::from(pieces.byte()).max(1);
    let Ok(messages) = decode(pieces.rest(), step) else { return false };
    let written: Vec<u8> = messages.iter().cloned().flat_map(bytes_of).collect();
    assert_eq!(decode(&written, step).as_ref(), Ok(&messages), "what was read is written as it is read");
    true
}

/// What comes out when `bytes` come in pieces of `step`.
fn decode(bytes: &[u8], step: usize) -> Result<Vec<Message>, Malformed> {
    let (mut decoder, mut messages) = (FrameDecoder::new(), Vec::new());
    for piece in bytes.chunks(step) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(message) = decoder.take(&mut piece)? {
            messages.push(message);
        }
    }
    decoder.finish().map(|()| messages)
}
