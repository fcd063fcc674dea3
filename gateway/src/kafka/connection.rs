//! One connection: its requests are begun in the order in which they came, and answered in that order.
//!
//! As many are under way as fit the bounds below; then nothing is read, and the client is held back by its socket. Produce
//! requests take turns until their batches have joined the queues of their partitions: so the batches of a producer stay in
//! order though many requests are in flight, and it is noted which of them are answered: what is behind a batch that has to be
//! sent again waits for that. Requests about groups take turns until they are answered, so that the last of
//! several commits is the one that stays.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use stratalog_broker::groups::Refusal;
use stratalog_broker::{Connection, Pipeline};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Node;
use super::answer::{Answered, answer, most_answered};
use super::api::{Asked, Request};
use super::frames::{Ended, Frames};
use super::wire::Malformed;

/// Requests under way on one connection, answers that the client has not taken included.
const MAX_IN_FLIGHT: usize = 128;
/// What they and their answers may hold, in KiB; one request may go beyond.
const MAX_IN_FLIGHT_KIB: u32 = 64 << 10;
/// What each of them counts at least, so that there are no more than may be: then an answer never waits for room in the queue
/// to the socket, and whoever else waits for a request of this connection is not held up by its client.
const LEAST_KIB: u32 = MAX_IN_FLIGHT_KIB / MAX_IN_FLIGHT as u32;
/// The least that a client takes of an answer in a second.
const BYTES_PER_SECOND: usize = 64 << 10;
/// Before each request.
const LENGTH_BYTES: usize = 4;
/// Pieces of an answer that are given to the operating system at once.
const MAX_PIECES: usize = 64;

/// Who is at the other end.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: SocketAddr,
    /// Where it reached this node.
    pub(super) local: SocketAddr,
    /// Cancelled when nobody waits for records any more: the client has gone, or the node stops.
    pub(super) leaving: CancellationToken,
    /// As `system.connections` shows it.
    pub(super) shown: Connection,
    /// Held by a produce until its batches have joined the queues of their partitions.
    pub(super) produces: Mutex<()>,
    /// Which produces have begun, and which are answered.
    pub(super) pipeline: Arc<Pipeline>,
    /// Held by a request about groups until it is answered: they take effect one after the other.
    pub(super) groups: Mutex<()>,
    /// The log has it already.
    pub(super) was_refused_sasl: AtomicBool,
}

impl Client {
    /// What a group answers, unless the client goes away before, or the node stops: then another one will coordinate.
    ///
    /// # Errors
    /// The refusal of the group.
    pub(super) async fn unless_leaving<T>(
        &self,
        waiting: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        tokio::select! {
            answer = waiting => answer,
            () = self.leaving.cancelled() => Err(Refusal::NotCoordinator),
        }
    }
}

/// An answer, with its place among those in flight.
struct Answer {
    /// `None`: the client wants none.
    pieces: Option<Vec<Bytes>>,
    /// The number of a produce.
    produce: Option<u64>,
    _places: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

/// Serves a connection until the client leaves, misbehaves or is idle, or the node stops.
pub(super) async fn serve(node: Arc<Node>, socket: TcpStream, [peer, local]: [SocketAddr; 2]) {
    let leaving = node.shared.stopping.child_token();
    let shown = node.shared.broker.connections().open("kafka", peer);
    let client = Client {
        peer,
        local,
        leaving,
        shown,
        produces: Mutex::new(()),
        pipeline: Pipeline::new(),
        groups: Mutex::new(()),
        was_refused_sasl: AtomicBool::new(false),
    };
    let (reader, writer) = socket.into_split();
    let (answers, queue) = mpsc::channel(MAX_IN_FLIGHT);
    let stall = node.shared.options.stall_timeout;
    let frames = Frames::new(reader, Arc::clone(&node.shares.budget), node.shared.options.read_timeout);
    let intake = Intake { frames, begun: None, places: places() };
    let ((), end) =
        futures::join!(read_all(&node, intake, &client, answers), write_all(writer, queue, stall, &client.pipeline));
    if let Err(why) = end {
        tracing::debug!(%peer, why, "a Kafka connection ended early");
    }
}

fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_IN_FLIGHT_KIB as usize))
}

/// Where requests come from.
struct Intake<R> {
    frames: Frames<R>,
    /// A request that waits for its place, and how many bytes it has.
    begun: Option<(usize, Asked)>,
    /// In KiB.
    places: Arc<Semaphore>,
}

/// A request that may begin.
struct Begun {
    /// Bytes of the request.
    bytes: usize,
    asked: Asked,
    place: OwnedSemaphorePermit,
}

impl<R: AsyncRead + Unpin> Intake<R> {
    /// Whether nothing of a further request has come.
    fn is_empty(&self) -> bool {
        self.begun.is_none() && self.frames.is_empty()
    }

    /// The next request, once there is a place for it. Dropping the future loses nothing.
    ///
    /// # Errors
    /// There is none.
    async fn next(&mut self) -> Result<Begun, Ended> {
        if self.begun.is_none() {
            let frame = self.frames.next().await?;
            let bytes = frame.bytes.len();
            let asked = Request::read(frame);
            let asked =
                asked.map_err(|why| Ended::Refused { why: format!("its request is refused: {why}"), answer: b"" })?;
            self.begun = Some((bytes, asked));
        }
        let kib = self.begun.as_ref().map_or(0, |(bytes, asked)| (bytes + most_answered(asked)) / 1024 + 1);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX).clamp(LEAST_KIB, MAX_IN_FLIGHT_KIB);
        let place = Arc::clone(&self.places).acquire_many_owned(kib).await.expect("it is never closed");
        let (bytes, asked) = self.begun.take().expect("it was put there above");
        Ok(Begun { bytes, asked, place })
    }
}

async fn read_all<R>(node: &Node, mut intake: Intake<R>, client: &Client, answers: mpsc::Sender<Answer>)
where
    R: AsyncRead + Unpin,
{
    let mut in_flight = FuturesOrdered::new();
    // Whoever connects says something soon; later it may be idle.
    let mut idle_until = Instant::now() + node.shared.options.read_timeout;
    let mut reading = true;
    while reading || !in_flight.is_empty() {
        let reads = reading && in_flight.len() < MAX_IN_FLIGHT;
        if !reads {
            intake.frames.pause();
        }
        let is_idle = in_flight.is_empty() && intake.is_empty();
        tokio::select! {
            Some(answered) = in_flight.next() => {
                let answered: Result<Answer, Malformed> = answered;
                let Ok(answer) = answered.inspect_err(|why| refuse(client, why)) else { return };
                if answers.send(answer).await.is_err() {
                    return;
                }
                idle_until = Instant::now() + node.shares.options.idle_timeout;
            }
            begun = intake.next(), if reads => match begun {
                Ok(begun) => in_flight.push_back(handle(node, client, begun)),
                Err(ended @ (Ended::Gone | Ended::Slow)) => {
                    tracing::debug!(peer = %client.peer, ?ended, "a Kafka connection ends");
                    reading = false;
                    client.leaving.cancel();
                }
                Err(Ended::Refused { why, answer }) => {
                    refuse(client, &why);
                    reading = false;
                    if let Ok(place) = Arc::clone(&intake.places).try_acquire_many_owned(0) {
                        let pieces = Some(vec![Bytes::from_static(answer)]);
                        // The client may be gone.
                        let _ = answers.send(Answer { pieces, produce: None, _places: (place, None) }).await;
                    }
                }
            },
            // What has begun meanwhile has a time of its own.
            () = tokio::time::sleep_until(idle_until), if reads && is_idle => if intake.is_empty() {
                tracing::debug!(peer = %client.peer, "a Kafka connection was silent for too long");
                reading = false;
            },
            // What is in flight may still be written; nobody waits for it.
            () = answers.closed() => return,
            () = node.shared.stopping.cancelled(), if reading => reading = false,
        }
    }
}

/// Says once what a client did: it cannot be told in a way that it understands.
fn refuse(client: &Client, why: &dyn fmt::Display) {
    tracing::info!(peer = %client.peer, "a client of the Kafka listener was disconnected: {why}");
}

async fn handle(node: &Node, client: &Client, begun: Begun) -> Result<Answer, Malformed> {
    let Begun { bytes, asked, place } = begun;
    let Answered { pieces, held, produce } = answer(node, client, asked).await?;
    let told: usize = pieces.iter().flatten().map(Bytes::len).sum();
    client.shown.answered(LENGTH_BYTES + bytes, told);
    Ok(Answer { pieces, produce, _places: (place, held) })
}

/// Writes answers in their order, until there are no more.
///
/// # Errors
/// The client is gone, or takes nothing for longer than `stall`.
async fn write_all<W: AsyncWrite + Unpin>(
    mut socket: W,
    mut queue: mpsc::Receiver<Answer>,
    stall: Duration,
    pipeline: &Pipeline,
) -> Result<(), String> {
    while let Some(answer) = queue.recv().await {
        let mut pieces = Pieces::new(answer.pieces.unwrap_or_default());
        let in_all = stall + Duration::from_secs((pieces.remaining() / BYTES_PER_SECOND) as u64);
        let written = timeout_at(Instant::now() + in_all, write(&mut socket, &mut pieces, stall)).await;
        written.unwrap_or_else(|_| Err(format!("the client took too little for {in_all:?}")))?;
        answer.produce.into_iter().for_each(|produce| pipeline.tell(produce));
    }
    // A client that has gone needs no goodbye.
    let _ = socket.shutdown().await;
    Ok(())
}

async fn write<W: AsyncWrite + Unpin>(socket: &mut W, pieces: &mut Pieces, stall: Duration) -> Result<(), String> {
    while pieces.has_remaining() {
        match timeout(stall, socket.write_buf(pieces)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) => return Err("the client takes nothing any more".to_owned()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("the client took nothing for {stall:?}")),
        }
    }
    Ok(())
}

/// What is left of an answer.
struct Pieces {
    /// None is empty.
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Pieces {
    fn new(pieces: Vec<Bytes>) -> Self {
        let pieces: VecDeque<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { bytes: pieces.iter().map(Bytes::len).sum(), pieces }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.pieces.iter().take(MAX_PIECES);
        into.iter_mut().zip(pieces).map(|(slot, piece)| *slot = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while count > 0 {
            let Some(piece) = self.pieces.front_mut() else { return };
            if count < piece.len() {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_go_by_any_steps() {
        let words: [&'static [u8]; 4] = [b"ab", b"", b"cde", b"f"];
        for step in 1..=6 {
            let mut pieces = Pieces::new(words.map(Bytes::from_static).into());
            let mut got = Vec::new();
            while pieces.has_remaining() {
                let mut slots = [IoSlice::new(&[]); 4];
                let filled = pieces.chunks_vectored(&mut slots);
                let all: Vec<u8> = slots[..filled].iter().flat_map(|slot| slot.to_vec()).collect();
                assert_eq!(all.len(), pieces.remaining());
                let count = step.min(all.len());
                got.extend_from_slice(&all[..count]);
                pieces.advance(count);
            }
            assert_eq!(got, b"abcdef");
        }
    }
}
