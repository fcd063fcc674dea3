//! Frames, out of the pieces in which a socket gives them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use stratalog_mutation::{Decoder, Pieces};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Semaphore;

use super::samples::requests;
use crate::kafka::requests::frames::{Ended, Frames, MAX_FRAME_BYTES};

/// The length of a piece (u8), and frames. One that claims the most takes 4 MiB before its bytes come.
pub const FRAMES: Decoder =
    Decoder { name: "kafka_frames", samples: frames, run: split, words: &["GET "], memory_bytes: 7 << 20 };

/// In KiB: what the largest frame needs, and a little more.
const BUDGET_KIB: usize = (MAX_FRAME_BYTES >> 10) + 2;

fn frame(request: &[u8]) -> Vec<u8> {
    [&(request.len() as u32).to_be_bytes()[..], request].concat()
}

fn frames() -> Vec<Vec<u8>> {
    let all = requests();
    let together: Vec<u8> = all.iter().take(5).flat_map(|request| frame(request)).collect();
    let large = frame(&vec![7; 70_000]);
    [(1, frame(&all[0])), (7, together.clone()), (255, together), (255, large)]
        .map(|(step, bytes)| [&[step], &bytes[..]].concat())
        .into()
}

/// A socket that gives at most so many bytes at once.
struct Steps<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl AsyncRead for Steps<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (now, later) = self.bytes.split_at(self.bytes.len().min(self.step).min(into.remaining()));
        into.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

fn split(bytes: &[u8]) -> bool {
    let mut pieces = Pieces(bytes);
    let step = usize::from(pieces.byte()).max(1);
    let bytes = pieces.rest();
    let budget = Arc::new(Semaphore::new(BUDGET_KIB));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let read = runtime.expect("a runtime can be built").block_on(async {
        let mut frames = Frames::new(Steps { bytes, step }, Arc::clone(&budget), Duration::from_secs(60));
        let mut read = Vec::new();
        loop {
            match frames.next().await {
                Ok(frame) => read.push(frame.bytes),
                Err(ended) => return (read, ended),
            }
        }
    });
    assert_eq!(budget.available_permits(), BUDGET_KIB, "X1: what a frame took is given back");
    let (read, ended) = read;
    let (expected, left) = reference(bytes);
    assert_eq!(read, expected, "frames are what lies between lengths");
    match ended {
        Ended::Gone => left.is_empty() && !read.is_empty(),
        Ended::Refused { .. } => {
            let claimed = left.first_chunk::<4>().map_or(0, |head| u32::from_be_bytes(*head) as usize);
            assert!(!(8..=MAX_FRAME_BYTES).contains(&claimed), "a frame of {claimed} bytes was refused");
            false
        }
        Ended::Slow => panic!("nothing is slow here"),
    }
}

/// The frames that are whole, and what lies behind them.
fn reference(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut whole = Vec::new();
    while let Some((head, behind)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*head) as usize;
        if !(8..=MAX_FRAME_BYTES).contains(&length) || behind.len() < length {
            break;
        }
        whole.push(&behind[..length]);
        bytes = &behind[length..];
    }
    (whole, bytes)
}
