//! Record batches for one shard, appended in the order in which they come.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use futures::stream::{self, FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, Offset, ProducerId, RaftIndex, ShardId, TopicPartition};
use stratalog_query::TopicInfo;
use stratalog_transport::{CallError, Frame, Frames};
use tokio::sync::mpsc;

use super::leader_elsewhere;
use crate::broker::Broker;
use crate::cluster::route::{AppendHere, Batch, Missed, batch_answer, read_batch};
use crate::raft::Reign;

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

/// What was refused of a stream, for as long as its sender has not heard of it: what it sent behind that is refused, too.
#[derive(Default)]
struct Behind {
    refusals: u64,
    /// The number of the last refusal of each producer in a partition, and of those without sequences.
    closed: BTreeMap<Line, u64>,
}

/// Who keeps an order of their own.
type Line = (TopicPartition, Option<ProducerId>);

/// The place of a batch in a stream whose sender says what it has heard of.
struct Place {
    behind: Arc<Mutex<Behind>>,
    line: Line,
    heard: u64,
}

impl Place {
    fn check(&self) -> Result<(), Error> {
        let mut behind = self.behind.lock();
        if self.heard >= behind.refusals {
            behind.closed.clear();
        } else if behind.closed.len() > MAX_IN_FLIGHT {
            // What is sent from now on has heard of as much.
            behind.closed.retain(|_, refusal| self.heard < *refusal);
        }
        match behind.closed.get(&self.line).is_some_and(|refusal| self.heard < *refusal) {
            true => Err(crate::pipeline::behind()),
            false => Ok(()),
        }
    }

    /// The sender counts the same.
    fn settle(&self, answer: &Result<(RaftIndex, Offset), Error>) {
        if let Err(error) = answer
            && Missed::from(error.clone()).is_refused_for_now()
        {
            let mut behind = self.behind.lock();
            behind.refusals += 1;
            let number = behind.refusals;
            behind.closed.insert(self.line, number);
        }
    }
}

/// The shard of a stream, as long as this node leads it without a break.
struct Led {
    shard: ShardId,
    reign: Reign,
    /// Why everything that follows is refused.
    refused: Option<Error>,
}

/// Appends what comes until the sender ends the stream or goes away, or the broker is gone.
async fn run(broker: Weak<Broker>, mut frames: Frames, answers: mpsc::Sender<Frame>) {
    let mut in_flight = FuturesUnordered::new();
    let (mut bytes_in_flight, mut reading) = (0, true);
    let mut led: Option<Led> = None;
    let behind = Arc::default();
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
                let Some(((number, batch, heard), node)) = read(frame).zip(broker.upgrade()) else {
                    reading = false;
                    continue;
                };
                let bytes = batch.bytes.len();
                let place = place_of(&batch, heard, &behind);
                let next = next(&node, &mut led, batch).await;
                bytes_in_flight += bytes;
                // By its first poll a batch joins the queue of its partition. That happens in this order.
                in_flight.push(async move {
                    let answer = match next {
                        Ok(appending) => appending.append(place.as_ref()).await,
                        Err(error) => Err(error),
                    };
                    place.iter().for_each(|place| place.settle(&answer));
                    (bytes, number, answer)
                });
            }
            // Nobody waits for what is in flight, and whether it was written stays open.
            () = answers.closed() => return,
        }
    }
}

/// A batch with its number, and what its sender has heard of; `None` at the end, and for a frame that is none.
fn read(frame: Option<Result<Frame, CallError>>) -> Option<(u64, Batch, Option<u64>)> {
    match read_batch(frame?.ok()?) {
        Ok(read) => Some(read),
        Err(error) => {
            tracing::warn!(%error, "gave up a stream of record batches of another node");
            None
        }
    }
}

fn place_of(batch: &Batch, heard: Option<u64>, behind: &Arc<Mutex<Behind>>) -> Option<Place> {
    let heard = heard?;
    let at = TopicPartition { topic: batch.topic, partition: batch.partition };
    Some(Place { behind: Arc::clone(behind), line: (at, batch.producer()), heard })
}

/// A batch that may be appended in a reign.
struct Appending {
    broker: Arc<Broker>,
    topic: Arc<TopicInfo>,
    batch: Batch,
    reign: Reign,
}

impl Appending {
    async fn append(self, place: Option<&Place>) -> Result<(RaftIndex, Offset), Error> {
        let order = place.map(|place| || place.check());
        self.broker.append_routed(&self.topic, self.batch, self.reign, order).await
    }
}

/// What appends a batch, unless it is refused.
async fn next(broker: &Arc<Broker>, led: &mut Option<Led>, batch: Batch) -> Result<Appending, Error> {
    let led = led.get_or_insert_with(|| Led::begin(broker, batch.shard));
    led.check(broker, &batch)?;
    // Waited for here, since what comes behind it may not overtake it.
    let topic = broker.find_topic_by_id(batch.topic).await?;
    Ok(Appending { broker: Arc::clone(broker), topic, batch, reign: led.reign })
}

impl Led {
    fn begin(broker: &Broker, shard: ShardId) -> Self {
        let reign = broker.router().role(shard).map_or_else(Reign::default, |role| role.reign());
        Self { shard, reign, refused: None }
    }

    /// Whether a batch may still be appended. Once one was not, none is: it would overtake.
    fn check(&mut self, broker: &Broker, batch: &Batch) -> Result<(), Error> {
        if batch.shard != self.shard {
            let message = format!("a stream of batches for shard {} has one for shard {}", self.shard, batch.shard);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let leads = broker.router().role(self.shard).is_some_and(|role| role.is_in(self.reign));
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

#[cfg(test)]
mod tests {
    use stratalog_proto::{PartitionId, TopicId};

    use super::*;

    #[test]
    fn what_was_sent_before_a_refusal_was_heard_of_is_refused_too() {
        let (behind, topic) = (Arc::default(), TopicId::new());
        let of = |partition, producer: Option<i64>, heard| {
            let at = TopicPartition { topic, partition: PartitionId(partition) };
            Place { behind: Arc::clone(&behind), line: (at, producer.map(ProducerId)), heard }
        };
        let place = |partition, heard| of(partition, None, heard);
        let answer = |code| Err(Error::new(code, "no"));
        place(0, 0).settle(&Ok((RaftIndex(1), Offset(1))));
        place(0, 0).settle(&answer(Code::CorruptBatch));
        place(0, 0).settle(&answer(Code::NotLeader));
        assert!(place(0, 0).check().is_ok(), "of these the sender does not count any");
        place(0, 0).settle(&answer(Code::Overloaded));
        let refused = place(0, 0).check().unwrap_err();
        place(0, 0).settle(&Err(refused));
        assert!(place(0, 1).check().is_err(), "it has not heard of the second");
        assert!(place(1, 0).check().is_ok(), "of another partition");
        assert!(of(0, Some(7), 0).check().is_ok(), "of a producer of its own");
        of(0, Some(7), 1).settle(&answer(Code::Overloaded));
        assert!(of(0, Some(7), 2).check().is_err() && of(0, Some(8), 2).check().is_ok());
        assert!(place(0, 2).check().is_ok());
        assert!(place(0, 3).check().is_ok() && behind.lock().closed.is_empty());
    }

    #[test]
    fn x1_of_refusals_no_more_is_remembered_than_nobody_has_heard_of() {
        let (behind, at) = (Arc::default(), TopicPartition { topic: TopicId::new(), partition: PartitionId(0) });
        for number in 0..10 * MAX_IN_FLIGHT as u64 {
            let place = Place {
                behind: Arc::clone(&behind),
                line: (at, Some(ProducerId(number as i64))),
                heard: number.saturating_sub(5),
            };
            assert!(place.check().is_ok());
            place.settle(&Err(Error::new(Code::Overloaded, "no")));
            assert!(behind.lock().closed.len() <= MAX_IN_FLIGHT + 1);
        }
    }
}
