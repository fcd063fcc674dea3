use bytes::{Buf, Bytes};
use proptest::prelude::*;
use stratalog_proto::{Code, Error};

use super::*;

fn bytes_of(message: Message) -> Vec<u8> {
    let mut encoded = Encoded::new(message);
    encoded.copy_to_bytes(encoded.remaining()).to_vec()
}

/// Gives `bytes` in pieces of `step`, and collects what comes out.
fn decode(bytes: &[u8], step: usize) -> Result<Vec<Message>, Malformed> {
    let (mut decoder, mut messages) = (Decoder::new(), Vec::new());
    for piece in bytes.chunks(step.max(1)) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(message) = decoder.take(&mut piece)? {
            messages.push(message);
        }
    }
    decoder.finish().map(|()| messages)
}

fn message() -> impl Strategy<Value = Message> {
    let buffer = || prop::collection::vec(any::<u8>(), 0..9_000).prop_map(Bytes::from);
    let frame = (buffer(), prop::collection::vec(buffer(), 0..8)).prop_map(|(head, parts)| Frame { head, parts });
    let error = (prop::sample::select(Code::ALL), ".{0,40}").prop_map(|(code, words)| Error::new(code, words));
    prop_oneof![frame.prop_map(Message::Frame), error.prop_map(Message::Error)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_come_out_as_they_went_in(messages in prop::collection::vec(message(), 0..4), step in 1_usize..20_000) {
        let bytes: Vec<u8> = messages.iter().cloned().flat_map(bytes_of).collect();
        prop_assert_eq!(decode(&bytes, step), Ok(messages));
    }

    #[test]
    fn hostile_bytes_are_refused_without_memory(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..64) {
        let mut decoder = Decoder::new();
        for piece in bytes.chunks(step) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Ok(Some(_)) = decoder.take(&mut piece) {}
        }
        prop_assert!(decoder.reserved() <= 1 << 20);
    }

    #[test]
    fn a_flipped_or_cut_frame_never_panics(message in message(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = bytes_of(message);
        let at = at.index(bytes.len());
        let _ = decode(&bytes[..at], 1_000);
        bytes[at] ^= 1 << bit;
        let _ = decode(&bytes, 1_000);
    }
}

fn prefix(kind: u8, head: u32, parts: u32) -> Vec<u8> {
    [&[kind][..], &head.to_le_bytes(), &parts.to_le_bytes()].concat()
}

#[test]
fn lies_in_lengths_and_counts_are_refused() {
    assert_eq!(decode(&prefix(2, 0, 0), 100), Err(Malformed::Kind(2)));
    assert_eq!(decode(&prefix(0, 0, u32::MAX), 100), Err(Malformed::Parts(u32::MAX)));
    assert_eq!(decode(&prefix(0, u32::MAX, 0), 100), Err(Malformed::Bytes(u32::MAX.into())));
    assert_eq!(decode(&prefix(1, 1, 0), 100), Err(Malformed::Cut));
    assert_eq!(decode(&[prefix(1, 1, 0), vec![1]].concat(), 100), Err(Malformed::Error));
    assert_eq!(decode(&prefix(1, 2, 1), 100), Err(Malformed::Parts(1)));
    assert_eq!(decode(&prefix(1, 1 << 20, 0), 100), Err(Malformed::Bytes(1 << 20)));
    let lengths = [prefix(0, 1, 2), [u32::MAX.to_le_bytes(), u32::MAX.to_le_bytes()].concat()].concat();
    assert_eq!(decode(&lengths, 100), Err(Malformed::Bytes(2 * u64::from(u32::MAX) + 1)));
}

#[test]
fn an_announced_frame_takes_memory_as_it_comes() {
    let mut decoder = Decoder::new();
    let announced = prefix(0, Frame::MAX_BYTES as u32, 0);
    assert_eq!(decoder.take(&mut Bytes::from([announced, vec![0; 10]].concat())), Ok(None));
    assert!(decoder.reserved() <= 1 << 20, "{} bytes were reserved", decoder.reserved());
}

#[test]
fn large_buffers_are_not_copied_on_their_way_out() {
    let part = Bytes::from(vec![7; 10_000]);
    let frame = Frame { head: Bytes::from_static(b"head"), parts: vec![part.clone(), Bytes::from_static(b"small")] };
    let mut encoded = Encoded::new(Message::Frame(frame));
    encoded.advance(PREFIX_BYTES + 8 + 4);
    assert_eq!(encoded.chunk().as_ptr(), part.as_ptr());
}

#[test]
fn long_errors_are_cut_and_unknown_codes_are_internal() {
    let long = Error::new(Code::Conflict, "ä".repeat(MAX_ERROR_BYTES));
    let messages = decode(&bytes_of(Message::Error(long)), 1 << 20).unwrap();
    let [Message::Error(read)] = &messages[..] else { panic!("one error, not {messages:?}") };
    assert_eq!((read.code, read.message.len()), (Code::Conflict, MAX_ERROR_BYTES - 2));
    let unknown = [prefix(1, 3, 0), vec![0xff, 0xff, b'x']].concat();
    assert_eq!(decode(&unknown, 100), Ok(vec![Message::Error(Error::new(Code::Internal, "x"))]));
}

#[test]
fn frames_over_the_bounds_are_not_sent() {
    assert!(check(&Frame { head: Bytes::new(), parts: vec![Bytes::new(); Frame::MAX_PARTS] }).is_ok());
    assert!(check(&Frame { head: Bytes::new(), parts: vec![Bytes::new(); Frame::MAX_PARTS + 1] }).is_err());
    assert!(check(&Frame::head(vec![0; Frame::MAX_BYTES + 1])).is_err());
}
