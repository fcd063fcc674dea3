//! Requests off the socket: each is a length and as many bytes.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::PollSemaphore;

/// The largest request, as Kafka's `socket.request.max.bytes`.
pub(in crate::kafka) const MAX_FRAME_BYTES: usize = 100 << 20;
/// Memory that is taken at once, whatever a frame claims; more follows as its bytes come.
const STEP_BYTES: usize = 2 << 20;
/// What is read at once between frames. Larger ones take their place in the budget of all connections.
const READ_BYTES: usize = 64 << 10;
/// The least that a client sends of a large request in a second.
const BYTES_PER_SECOND: usize = 1 << 20;

/// Why there is no further request.
#[derive(Debug)]
pub(in crate::kafka) enum Ended {
    /// The client left, or the connection broke.
    Gone,
    /// A request has begun and did not come in time.
    Slow,
    /// The client does not speak Kafka, or asks for too much.
    Refused { why: String, answer: &'static [u8] },
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A request as it came, without its length.
#[derive(Debug)]
pub(in crate::kafka) struct Frame {
    pub(in crate::kafka) bytes: Bytes,
    /// Its place in the budget; the memory counts until this is dropped.
    pub(in crate::kafka) place: Option<OwnedSemaphorePermit>,
}

/// Reads frames. A read that is dropped loses nothing.
pub(in crate::kafka) struct Frames<R> {
    socket: R,
    buffer: BytesMut,
    /// In KiB. It remembers where this connection stands in the queue for it.
    budget: PollSemaphore,
    /// Within what time a frame comes, and more if it is large.
    within: Duration,
    /// When the frame began that is not whole yet.
    begun: Option<Instant>,
    /// The place of the frame that is not whole yet.
    place: Option<OwnedSemaphorePermit>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Large frames take their places in `budget`, in KiB. One that has begun is whole `within` this time, and later if it is large.
    pub(in crate::kafka) fn new(socket: R, budget: Arc<Semaphore>, within: Duration) -> Self {
        let budget = PollSemaphore::new(budget);
        Self { socket, buffer: BytesMut::new(), budget, within, begun: None, place: None }
    }

    /// When the frame has to be whole that has begun. The wait for its place in the budget does not count.
    fn due(&self) -> Option<Instant> {
        let claimed = self.buffer.first_chunk::<4>().and_then(|head| length(*head).ok()).unwrap_or(0);
        self.begun.map(|begun| begun + self.within + Duration::from_secs((claimed / BYTES_PER_SECOND) as u64))
    }

    /// Whether nothing of a further frame has come.
    pub(in crate::kafka) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Nothing is read for a while, and the client is not to blame.
    pub(in crate::kafka) fn pause(&mut self) {
        self.begun = None;
    }

    /// The next frame.
    ///
    /// # Errors
    /// There is none.
    pub(in crate::kafka) async fn next(&mut self) -> Result<Frame, Ended> {
        // Of what came with the frame before.
        if !self.buffer.is_empty() {
            self.begun.get_or_insert_with(Instant::now);
        }
        let length = loop {
            if let Some(head) = self.buffer.first_chunk::<4>() {
                break length(*head)?;
            }
            self.fill(READ_BYTES).await?;
        };
        if length > READ_BYTES && self.place.is_none() {
            let (kib, budget) = ((length / 1024 + 1) as u32, &mut self.budget);
            self.place = poll_fn(move |cx| budget.poll_acquire_many(cx, kib)).await;
            self.begun = Some(Instant::now());
        }
        while self.buffer.len() < 4 + length {
            let missing = 4 + length - self.buffer.len();
            self.fill(missing.min(STEP_BYTES.max(self.buffer.len()))).await?;
        }
        let mut bytes = self.buffer.split_to(4 + length).freeze();
        drop(bytes.split_to(4));
        self.begun = None;
        Ok(Frame { bytes, place: self.place.take() })
    }

    /// Reads some bytes, with room for so many.
    async fn fill(&mut self, room: usize) -> Result<(), Ended> {
        if self.buffer.capacity() - self.buffer.len() < room {
            self.buffer.reserve(room.max(READ_BYTES));
        }
        let due = self.due();
        let read = self.socket.read_buf(&mut self.buffer);
        let read = match due {
            Some(due) => timeout_at(due, read).await.map_err(|_| Ended::Slow)?,
            None => read.await,
        };
        match read? {
            0 => Err(Ended::Gone),
            _ => {
                self.begun.get_or_insert_with(Instant::now);
                Ok(())
            }
        }
    }
}

/// The length that a frame begins with, or what came instead.
fn length(head: [u8; 4]) -> Result<usize, Ended> {
    let length = u32::from_be_bytes(head) as usize;
    if (8..=MAX_FRAME_BYTES).contains(&length) {
        return Ok(length);
    }
    let (why, answer): (String, &[u8]) = match &head {
        [0x16, 0x03, ..] => {
            ("it speaks TLS, which this listener does not: set security.protocol=PLAINTEXT".to_owned(), b"")
        }
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"DELE" | b"OPTI" | b"PATC" | b"PRI " => {
            ("it speaks HTTP, which is answered on another port".to_owned(), NOT_HTTP)
        }
        _ => (format!("its request claims {length} bytes; they have 8 to {MAX_FRAME_BYTES}"), b""),
    };
    Err(Ended::Refused { why, answer })
}

const NOT_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 59\r\nConnection: close\r\n\r\n\
This port speaks Kafka's protocol; HTTP is on another port.";

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const BUDGET_KIB: usize = 200 << 10;
    const WITHIN: Duration = Duration::from_secs(10);

    fn budget() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(BUDGET_KIB))
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes()[..], body].concat()
    }

    #[tokio::test]
    async fn frames_come_whole_however_their_bytes_come() {
        let bodies: Vec<Vec<u8>> = [8, 9, 70_000, 3 << 20, 8].iter().map(|n| vec![*n as u8; *n]).collect();
        let bytes = bodies.iter().flat_map(|body| frame(body)).collect::<Vec<_>>();
        for step in [1_000, 65_536, bytes.len()] {
            let mut parts = in_steps(&bytes, step);
            let mut frames = Frames::new(&mut parts, budget(), WITHIN);
            for body in &bodies {
                assert_eq!(frames.next().await.unwrap().bytes, body[..]);
            }
            assert!(matches!(frames.next().await, Err(Ended::Gone)));
        }
    }

    /// Gives at most `step` bytes at once.
    fn in_steps(bytes: &[u8], step: usize) -> impl AsyncRead + Unpin + '_ {
        struct Steps<'a>(&'a [u8], usize);
        impl AsyncRead for Steps<'_> {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                let count = self.0.len().min(self.1).min(buf.remaining());
                let (now, later) = self.0.split_at(count);
                buf.put_slice(now);
                self.0 = later;
                std::task::Poll::Ready(Ok(()))
            }
        }
        Steps(bytes, step)
    }

    #[tokio::test]
    async fn a_read_that_is_dropped_loses_nothing() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut frames = Frames::new(server, budget(), WITHIN);
        for part in frame(b"12345678").chunks(5) {
            let early = tokio::time::timeout(Duration::from_millis(5), frames.next()).await;
            assert!(early.is_err(), "it is not whole yet");
            client.write_all(part).await.unwrap();
        }
        assert_eq!(frames.next().await.unwrap().bytes, b"12345678"[..]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_has_to_come_in_time() {
        // The length of 20 MiB, by itself and behind a frame that is whole.
        let begun = (20_u32 << 20).to_be_bytes();
        for bytes in [begun.to_vec(), [frame(b"12345678"), begun.to_vec()].concat()] {
            let (mut client, server) = tokio::io::duplex(64);
            let mut frames = Frames::new(server, budget(), WITHIN);
            let silent = tokio::time::timeout(Duration::from_secs(3_600), frames.next()).await;
            assert!(silent.is_err(), "nothing has begun");
            client.write_all(&bytes).await.unwrap();
            if bytes.len() > 4 {
                frames.next().await.unwrap();
            }
            let since = Instant::now();
            assert!(matches!(frames.next().await, Err(Ended::Slow)));
            assert_eq!(since.elapsed().as_secs(), 30, "with a second for each MiB");
        }
    }

    #[tokio::test]
    async fn x1_large_frames_of_all_connections_share_a_budget() {
        let budget = budget();
        let large = frame(&[1; 1 << 20]);
        let mut frames = Frames::new(&large[..], Arc::clone(&budget), WITHIN);
        let held = Arc::clone(&budget).acquire_many_owned(BUDGET_KIB as u32 - 512).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(5), frames.next()).await.is_err());
        drop(held);
        let whole = frames.next().await.unwrap();
        assert_eq!(budget.available_permits(), BUDGET_KIB - 1025, "with the rest of its last KiB");
        drop(whole);
        assert_eq!(budget.available_permits(), BUDGET_KIB);
    }

    #[tokio::test]
    async fn x1_what_is_no_request_is_named_and_takes_no_memory() {
        let cases: [(&[u8], &str); 5] = [
            (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
            (&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01], "TLS"),
            (&[0x7f, 0xff, 0xff, 0xff], "2147483647"),
            (&[0xff, 0xff, 0xff, 0xff], "4294967295"),
            (&[0, 0, 0, 7], "7 bytes"),
        ];
        for (bytes, word) in cases {
            let mut frames = Frames::new(bytes, budget(), WITHIN);
            let Err(Ended::Refused { why, answer }) = frames.next().await else { panic!("{word}") };
            assert!(why.contains(word), "{why}");
            assert_eq!(!answer.is_empty(), word == "HTTP");
        }
        let (_, body) = std::str::from_utf8(NOT_HTTP).unwrap().split_once("\r\n\r\n").unwrap();
        assert!(std::str::from_utf8(NOT_HTTP).unwrap().contains(&format!("Content-Length: {}\r\n", body.len())));
        let mut claims = Frames::new(&[0x06, 0x00, 0x00, 0x00, 1, 2, 3][..], budget(), WITHIN);
        assert!(matches!(claims.next().await, Err(Ended::Gone)));
        assert!(claims.buffer.capacity() <= 2 * STEP_BYTES, "100 MiB were claimed, and three bytes came");
    }
}
