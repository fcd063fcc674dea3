//! Record batches for one shard, appended in the order in which they come.

use std::sync::{Arc, Weak};

use futures::stream::{self, FuturesUnordered, StreamExt};
use stratalog_proto::{Code, Error, Offset, RaftIndex, ShardId, Term};
use stratalog_transport::{CallError, Frame, Frames};
use tokio::sync::mpsc;

use super::leader_elsewhere;
use crate::broker::Broker;
use crate::cluster::route::{AppendHere, Batch, batch_answer, read_batch};

/// Answers that are not taken, and batches that are not answered, of one stream.
const MAX_IN_FLIGHT: usize = 1_024;
/// Bytes of batches that are not answered, of one stream; one batch may go beyond.
const MAX_IN_FLIGHT_BYTES: usize = 32 << 20;

/// Takes a stream of batches of another node.
pub(in crate::cluster::serve) async fn produce(broker: &Arc<Broker>, frames: Frames) -> Result<Frames, Error> {
    Ok(Intake::new(broker).append_here(frames))
}

/// Appends to the shards that this node leads, as long as the broker is there.
pub(crate) struct Intake(Weak<Broker>);

impl Intake {
    pub(crate) fn new(broker: &Arc<Broker>) -> Self {
        Self(Arc::downgrade(broker))
    }
}

impl AppendHere for Intake {
    fn append_here(&self, frames: Frames) -> Frames {
        let (answers, taken) = mpsc::channel(MAX_IN_FLIGHT);
        tokio::spawn(run(Weak::clone(&self.0), frames, answers));
        stream::unfold(taken, |mut taken| async move { taken.recv().await.map(|frame| (Ok(frame), taken)) }).boxed()
    }
}

/// The shard of a stream, as long as this node leads it in one term.
struct Led {
    shard: ShardId,
    term: Term,
    /// Why everything that follows is refused.
    refused: Option<Error>,
}

/// Appends what comes until the sender ends the stream or goes away, or the broker is gone.
async fn run(broker: Weak<Broker>, mut frames: Frames, answers: mpsc::Sender<Frame>) {
    let mut in_flight = FuturesUnordered::new();
    let (mut bytes_in_flight, mut reading) = (0, true);
    let mut led: Option<Led> = None;
    while reading || !in_flight.is_empty() {
        let has_room = in_flight.len() < MAX_IN_FLIGHT && bytes_in_flight < MAX_IN_FLIGHT_BYTES;
        tokio::select! {
            Some((bytes, number, answer)) = in_flight.next() => {
                bytes_in_flight -= bytes;
                let answer = judged(&broker, &mut led, number, answer);
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
            frame = frames.next(), if reading && has_room => {
                let Some(((number, batch), node)) = read(frame).zip(broker.upgrade()) else {
                    reading = false;
                    continue;
                };
                let bytes = batch.bytes.len();
                let next = next(&node, &mut led, batch).await;
                bytes_in_flight += bytes;
                // By its first poll a batch joins the queue of its partition. That happens in this order.
                in_flight.push(async move {
                    let answer = match next {
                        Ok(appending) => appending.await,
                        Err(error) => Err(error),
                    };
                    (bytes, number, answer)
                });
            }
            // Nobody waits for what is in flight, and whether it was written stays open.
            () = answers.closed() => return,
        }
    }
}

/// A batch with its number; `None` at the end, and for a frame that is none.
fn read(frame: Option<Result<Frame, CallError>>) -> Option<(u64, Batch)> {
    match read_batch(frame?.ok()?) {
        Ok(read) => Some(read),
        Err(error) => {
            tracing::warn!(%error, "gave up a stream of record batches of another node");
            None
        }
    }
}

/// What appends a batch, unless it is refused.
async fn next(
    broker: &Arc<Broker>,
    led: &mut Option<Led>,
    batch: Batch,
) -> Result<impl Future<Output = Result<(RaftIndex, Offset), Error>> + use<>, Error> {
    let led = led.get_or_insert_with(|| Led::begin(broker, batch.shard));
    led.check(broker, &batch)?;
    // Waited for here, since what comes behind it may not overtake it.
    let topic = broker.find_topic_by_id(batch.topic).await?;
    let (broker, term) = (Arc::clone(broker), led.term);
    Ok(async move { broker.append_routed(&topic, batch, term).await })
}

impl Led {
    fn begin(broker: &Broker, shard: ShardId) -> Self {
        let term = broker.router().role(shard).map_or(Term(0), |role| role.term);
        Self { shard, term, refused: None }
    }

    /// Whether a batch may still be appended. Once one was not, none is: it would overtake.
    fn check(&mut self, broker: &Broker, batch: &Batch) -> Result<(), Error> {
        if batch.shard != self.shard {
            let message = format!("a stream of batches for shard {} has one for shard {}", self.shard, batch.shard);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let leads = broker.router().role(self.shard).is_some_and(|role| role.leads && role.term == self.term);
        if !leads && self.refused.is_none() {
            let message = format!("this node does not lead shard {}", self.shard);
            self.refused = Some(Error::new(Code::NotLeader, message));
        }
        self.refused.clone().map_or(Ok(()), Err)
    }
}

/// The frame of an answer. After one that says that this node does not lead, everything is refused.
fn judged(
    broker: &Weak<Broker>,
    led: &mut Option<Led>,
    number: u64,
    answer: Result<(RaftIndex, Offset), Error>,
) -> Frame {
    let mut leader = None;
    if let (Err(error), Some(led)) = (&answer, led)
        && matches!(error.code, Code::NotLeader | Code::Unavailable)
    {
        led.refused.get_or_insert_with(|| error.clone());
        leader = broker.upgrade().and_then(|broker| leader_elsewhere(&broker, led.shard));
    }
    batch_answer(number, answer, leader)
}
