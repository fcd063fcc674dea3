//! The task that empties a box.

use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use stratalog_proto::Error;
use stratalog_transport::{CallError, Frame, Frames, Method};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::wire::{batch_frame, read_batch_answer};
use super::super::{Leader, Missed, Router};
use super::AppendHere;
use super::flights::Flights;
use super::parcels::{Outbox, Parcel};
use crate::raft::RoleNow;

/// Batches that are sent and not answered.
const MAX_IN_FLIGHT: usize = 1_024;
/// Frames that the transport has not taken.
const MAX_QUEUED: usize = 4;
/// How long what is in flight here may hold up what is behind it. When leadership is lost all of it has an answer after two
/// seconds, and goes back into the box if it was certainly not written.
const LANDING: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How long a leader that was replaced may take to answer what it got before: one that handed leadership over does so at
/// once, one that was cut off never.
const LAST_ANSWERS: Duration = Duration::from_millis(300);
/// The pause after a stream that was refused as such.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Sends the batches of one shard to whoever leads it.
pub(super) struct Pump {
    pub(super) outbox: Arc<Outbox>,
    pub(super) router: Arc<Router>,
    pub(super) here: Arc<dyn AppendHere>,
    pub(super) flights: Arc<Flights>,
    pub(super) stop: CancellationToken,
}

/// What goes over one stream.
struct Round {
    frames: mpsc::Sender<Result<Frame, Error>>,
    answers: Frames,
    sent: BTreeMap<u64, Parcel>,
    /// Refusals of batches that are ordered, which the leader counts, too.
    heard: u64,
    /// Why nothing more is sent: what was refused goes first on the next stream.
    refused: Option<Missed>,
    /// A batch was appended.
    went_well: bool,
}

impl Pump {
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = self.empty_for_ever() => {}
            () = stop.cancelled() => {}
        }
        self.outbox.close();
    }

    async fn empty_for_ever(&self) {
        let mut tries = self.router.tries(self.outbox.shard, Duration::MAX, true);
        loop {
            self.outbox.filled().await;
            // Only a node that stops ends the search.
            let Ok(leader) = tries.leader().await else { return };
            let mut round = self.begin(leader).await;
            let ended = round.run(&self.outbox, self.led_elsewhere(leader)).await;
            if round.went_well {
                tries = self.router.tries(self.outbox.shard, Duration::MAX, true);
            }
            drop(round);
            if tries.settle(leader, ended).await.is_some_and(|settled: Result<(), _>| settled.is_err()) {
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }

    async fn begin(&self, leader: Leader) -> Round {
        let (frames, outgoing) = mpsc::channel(MAX_QUEUED);
        self.landed().await;
        let answers = match leader {
            Leader::Here => {
                let frames = outgoing.map(|frame: Result<Frame, Error>| frame.map_err(CallError::Refused));
                self.here.append_here(frames.boxed())
            }
            Leader::At(node) => self.router.links.stream(node, Method::Produce, outgoing.boxed()),
        };
        Round { frames, answers, sent: BTreeMap::new(), heard: 0, refused: None, went_well: false }
    }

    /// Waits a while for what this node took to append it itself, in an earlier term, or in this one before it was cut off for
    /// a while: it came before what is in the box.
    async fn landed(&self) {
        let deadline = Instant::now() + LANDING;
        while self.flights.has_any(self.outbox.shard) && Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Returns when this node's replica hears that somebody else leads since. The leader of before may be cut off, and
    /// would be waited for until its connection is given up.
    async fn led_elsewhere(&self, leader: Leader) {
        let (shard, links) = (self.outbox.shard, &self.router.links);
        let (Leader::At(node), Some(mut role)) = (leader, links.watch_role(shard)) else { return pending().await };
        let began = role.borrow().term;
        let is_another = |replica| links.view().node_of(shard, replica).is_some_and(|other| other != node);
        let is_news = |now: &RoleNow| now.term > began && (now.leads || now.leader.is_some_and(is_another));
        let has_stopped = role.wait_for(is_news).await.is_err();
        if has_stopped {
            pending().await
        }
    }
}

impl Round {
    /// Sends what is in the box, until the stream is refused, or breaks.
    async fn run(&mut self, outbox: &Outbox, led_elsewhere: impl Future<Output = ()>) -> Result<(), Missed> {
        let mut led_elsewhere = std::pin::pin!(led_elsewhere);
        let mut end = None;
        loop {
            let may_send = self.refused.is_none() && self.sent.len() < MAX_IN_FLIGHT;
            tokio::select! {
                answer = self.answers.next() => match answer {
                    Some(Ok(frame)) => self.take_answer(outbox, frame),
                    Some(Err(error)) => return self.broken(outbox, Missed::of_call(error)),
                    None => return self.broken(outbox, Missed::Unknown("the stream of batches ended".to_owned())),
                },
                () = ready_to_send(&mut self.frames, outbox), if may_send => self.send(outbox),
                () = &mut led_elsewhere, if end.is_none() => {
                    self.refused.get_or_insert_with(led_by_another);
                    end = Some(Instant::now() + LAST_ANSWERS);
                }
                () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                    return self.broken(outbox, Missed::Unknown("the leader of before does not answer".to_owned()));
                }
            }
            if self.sent.is_empty()
                && let Some(refused) = self.refused.take()
            {
                return Err(refused);
            }
        }
    }

    fn send(&mut self, outbox: &Outbox) {
        let Some((ticket, parcel)) = outbox.take() else { return };
        // It was ready, and only this task sends; a stream that broke just now ends with its answers.
        let heard = parcel.is_ordered().then_some(self.heard);
        let _ = self.frames.start_send(Ok(batch_frame(ticket, &parcel.batch, heard)));
        self.sent.insert(ticket, parcel);
    }

    fn take_answer(&mut self, outbox: &Outbox, frame: Frame) {
        let Ok((ticket, answer)) = read_batch_answer(frame) else { return };
        let Some(parcel) = self.sent.remove(&ticket) else { return };
        match answer {
            Err(missed @ Missed::NotDone { .. }) => {
                outbox.put(ticket, parcel);
                self.refused.get_or_insert(missed);
            }
            answer => {
                self.went_well |= answer.is_ok();
                if answer.as_ref().is_err_and(Missed::is_refused_for_now) && parcel.is_ordered() {
                    self.heard += 1;
                }
                parcel.answer(answer);
            }
        }
    }

    /// What was sent and has no answer when a stream breaks: back in the box if it was certainly not done.
    fn broken(&mut self, outbox: &Outbox, why: Missed) -> Result<(), Missed> {
        for (ticket, parcel) in std::mem::take(&mut self.sent) {
            match &why {
                Missed::NotDone { .. } => outbox.put(ticket, parcel),
                known => parcel.answer(Err(known.clone())),
            }
        }
        Err(why)
    }
}

fn led_by_another() -> Missed {
    Missed::NotDone { why: "another node leads the shard by now".to_owned(), leader: None }
}

/// Returns when there is a batch, and room for it on its way. A stream that is closed never has room.
async fn ready_to_send(frames: &mut mpsc::Sender<Result<Frame, Error>>, outbox: &Outbox) {
    outbox.filled().await;
    if poll_fn(|context| frames.poll_ready(context)).await.is_err() {
        pending().await
    }
}
