//! The task that sends batches, hears answers, and connects again: to the same node, or to another that can be asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stratalog_proto::config::MAX_PRODUCE_REQUEST_BYTES;
use stratalog_proto::{Code, Error, PartitionId, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::identity::new_identity;
use super::patience::Patience;
use super::queue::{Queue, Ticket};
use super::seal::seal;
use super::shared::{Shared, State};
use super::verdict::Verdict;
use crate::nodes::Node;
use crate::retry::backoff;
use crate::{Client, ClientError};

/// Requests without an answer; more batches wait, and grow meanwhile.
const MAX_REQUESTS: usize = 16;
/// A request takes batches of several partitions up to about this size; a larger batch goes alone.
const REQUEST_BYTES: usize = 4 << 20;
const _: () = assert!(REQUEST_BYTES <= MAX_PRODUCE_REQUEST_BYTES / 2, "what a codec adds fits as well");
/// How long a node may take to open a stream: the only one, and one of several.
const OPEN_TIMEOUTS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(2)];
/// Without anything to wait for, the sender looks up this often.
const IDLE: Duration = Duration::from_secs(60);

/// The task that sends.
pub(super) struct Sender {
    client: Client,
    shared: Arc<Shared>,
    next_request: u64,
    /// Connections lost since the last answer.
    failures: u32,
    patience: Patience,
}

/// One produce stream, and what was sent on it.
struct Link {
    node: Node,
    /// The node cannot serve some batch: nothing more is sent to it, and once it has answered everything it is left.
    leaving: Option<Error>,
    requests: mpsc::Sender<v1::ProduceRequest>,
    answers: Streaming<v1::ProduceResponse>,
    unanswered: BTreeMap<u64, Unanswered>,
}

struct Unanswered {
    batches: Vec<(PartitionId, Ticket)>,
    sent_at: Instant,
}

impl Sender {
    /// What is not idempotent is not sent again after a connection was lost: such a producer waits for a node as long as
    /// for its records.
    pub(super) fn new(client: Client, shared: Arc<Shared>, idempotent: bool) -> Self {
        let nodes = if idempotent { client.node_count() } else { 1 };
        let patience = Patience::new(nodes, shared.limits.deadline + Duration::from_secs(1));
        Self { client, shared, next_request: 0, failures: 0, patience }
    }

    /// Sends until the producer is closed and nothing is on its way any more.
    pub(super) async fn run(mut self) {
        while self.has_work().await {
            let node = self.client.node();
            let Err(error) = self.stream(node.clone()).await else { return };
            self.failures += 1;
            tracing::debug!(topic = self.shared.topic, failures = self.failures, %error, "the produce stream was lost");
            self.connection_lost(error.into());
            self.client.leave(&node);
            // A round through all nodes counts as one failure.
            tokio::time::sleep(backoff(self.failures.div_ceil(self.client.node_count() as u32))).await;
        }
    }

    /// Waits until a record is there; false once there will be none.
    async fn has_work(&self) -> bool {
        loop {
            {
                let mut state = self.shared.lock();
                expire(&mut state, Instant::now());
                if !state.is_empty() {
                    return true;
                }
                if state.closing {
                    return false;
                }
            }
            self.shared.wake.notified().await;
        }
    }

    async fn stream(&mut self, node: Node) -> Result<(), ClientError> {
        let link = self.open(node).await?;
        self.serve(link).await
    }

    async fn open(&self, node: Node) -> Result<Link, ClientError> {
        let (requests, receiver) = mpsc::channel(MAX_REQUESTS);
        let mut service = node.log();
        let within = OPEN_TIMEOUTS[usize::from(self.client.node_count() > 1)];
        let opened = tokio::time::timeout(within, service.produce(ReceiverStream::new(receiver))).await;
        let opened = opened.map_err(|_| {
            let message = format!("{} did not open a produce stream in {within:?}", node.address());
            ClientError::new(Code::Unavailable, message)
        })?;
        let answers = opened?.into_inner();
        Ok(Link { node, leaving: None, requests, answers, unanswered: BTreeMap::new() })
    }

    /// Sends and hears until all is done, or the connection is lost.
    async fn serve(&mut self, mut link: Link) -> Result<(), ClientError> {
        loop {
            self.renew_identities().await?;
            self.send_due(&mut link).await?;
            link.may_stay()?;
            let Some(next) = self.next_event(&link) else { return Ok(()) };
            tokio::select! {
                answer = link.answers.message() => match answer? {
                    Some(answer) => self.answered(&mut link, answer)?,
                    None => return Err(ClientError::new(Code::Unavailable, "the node closed the produce stream")),
                },
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(next.into()) => self.look_at_the_clock(&link)?,
            }
        }
    }

    /// When to look at the queues again if nothing happens; `None` when all is done.
    fn next_event(&self, link: &Link) -> Option<Instant> {
        let state = self.shared.lock();
        if state.closing && state.is_empty() {
            return None;
        }
        let may_send = link.takes_requests();
        let due = state.queues.values().filter_map(|queue| queue.due().filter(|_| may_send));
        let expires = state.queues.values().filter_map(|queue| queue.expires());
        let hung = link.unanswered.values().map(|request| request.sent_at + self.patience.length());
        due.chain(expires).chain(hung).min().or_else(|| Some(Instant::now() + IDLE))
    }

    fn look_at_the_clock(&mut self, link: &Link) -> Result<(), ClientError> {
        let now = Instant::now();
        expire(&mut self.shared.lock(), now);
        let hung = link.unanswered.values().any(|request| request.sent_at + self.patience.length() <= now);
        if hung {
            self.patience.ended(now);
            let message = format!("{} does not answer on the produce stream", link.node.address());
            return Err(ClientError::new(Code::Unavailable, message));
        }
        Ok(())
    }

    /// Sends what is due, as few requests as possible.
    async fn send_due(&mut self, link: &mut Link) -> Result<(), ClientError> {
        while link.takes_requests() {
            let mut request = self.next_request();
            let mut sent = Vec::new();
            self.fill(&mut request, &mut sent);
            if sent.is_empty() {
                return Ok(());
            }
            let unanswered = Unanswered { batches: sent, sent_at: Instant::now() };
            link.unanswered.insert(request.request_id, unanswered);
            // There is a place in the channel for each unanswered request.
            let gone = link.requests.try_send(request).is_err();
            if gone {
                return Err(ClientError::new(Code::Unavailable, "the node no longer reads the produce stream"));
            }
            // Compressing took time: let answers and callers have theirs.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn next_request(&mut self) -> v1::ProduceRequest {
        self.next_request += 1;
        v1::ProduceRequest { request_id: self.next_request, topic: self.shared.topic.clone(), batches: Vec::new() }
    }

    /// Takes at most one batch of each partition that has one due, as many as go into one request.
    fn fill(&self, request: &mut v1::ProduceRequest, sent: &mut Vec<(PartitionId, Ticket)>) {
        let now = Instant::now();
        let due = |state: &State| -> Vec<PartitionId> {
            let queues = state.queues.iter();
            queues.filter(|(_, queue)| queue.due().is_some_and(|at| at <= now)).map(|(id, _)| *id).collect()
        };
        let partitions = due(&self.shared.lock());
        let mut bytes = 0;
        for partition in partitions {
            let fits = sent.is_empty() || bytes + self.next_bytes(partition) <= REQUEST_BYTES;
            if !fits {
                return;
            }
            let Some((ticket, batch)) = self.take(partition, now) else { continue };
            bytes += batch.len();
            sent.push((partition, ticket));
            request.batches.push(v1::PartitionBatch { partition: partition.0, batch });
        }
    }

    fn next_bytes(&self, partition: PartitionId) -> usize {
        self.shared.lock().queues.get(&partition).map_or(0, Queue::next_bytes)
    }

    /// Takes the next batch of a partition and compresses it outside of the lock. One that the topic does not accept
    /// ends here.
    fn take(&self, partition: PartitionId, now: Instant) -> Option<(Ticket, Bytes)> {
        let departure = {
            let mut state = self.shared.lock();
            let departure = state.queues.get_mut(&partition)?.depart(now)?;
            state.departed(partition);
            departure
        };
        let ticket = departure.ticket;
        let bytes = seal(departure);
        let mut state = self.shared.lock();
        let queue = state.queues.get_mut(&partition)?;
        if bytes.len() > self.shared.limits.max_message_bytes {
            queue.refuse(ticket, self.too_large(partition, bytes.len()));
            return None;
        }
        queue.keep(ticket, bytes.clone());
        Some((ticket, bytes))
    }

    fn too_large(&self, partition: PartitionId, bytes: usize) -> Error {
        let message = format!(
            "partition {partition} of topic {}: a record batch of {bytes} bytes is over the topic's max.message.bytes of \
             {}; send smaller records, or raise the setting and start another producer",
            self.shared.topic, self.shared.limits.max_message_bytes
        );
        Error::new(Code::MessageTooLarge, message)
    }

    fn answered(&mut self, link: &mut Link, answer: v1::ProduceResponse) -> Result<(), ClientError> {
        let Some(request) = link.unanswered.remove(&answer.request_id) else {
            let message = format!("the node answered request {}, which was not sent", answer.request_id);
            return Err(ClientError::new(Code::Internal, message));
        };
        let matches = request.batches.len() == answer.results.len()
            && request
                .batches
                .iter()
                .zip(&answer.results)
                .all(|((partition, _), result)| partition.0 == result.partition);
        if !matches {
            let message = format!("the answer to request {} names other partitions", answer.request_id);
            // So that these batches, too, are settled when the connection is given up.
            link.unanswered.insert(answer.request_id, request);
            return Err(ClientError::new(Code::Internal, message));
        }
        let now = Instant::now();
        let mut acked = false;
        match wrong_node(&answer).filter(|_| self.client.node_count() > 1) {
            Some(error) => link.leaving = Some(error),
            None => self.failures = 0,
        }
        let mut state = self.shared.lock();
        for ((partition, ticket), result) in request.batches.into_iter().zip(answer.results) {
            let verdict = Verdict::of(result, now);
            if let Verdict::Acked(ack) = &verdict {
                state.acked(ack.token);
                acked = true;
            }
            if let Some(queue) = state.queues.get_mut(&partition) {
                queue.settle(ticket, verdict, now);
            }
        }
        drop(state);
        self.patience.answered(now, now.duration_since(request.sent_at), acked);
        Ok(())
    }

    /// Gives the next epoch to partitions whose sequence was broken by a batch that was given up, and a new producer id
    /// after the last epoch. The log fences copies of an older epoch; it could not tell those of another id.
    async fn renew_identities(&self) -> Result<(), ClientError> {
        loop {
            let wanting = {
                let state = self.shared.lock();
                let outworn = |(partition, queue): (&_, &Queue)| Some((*partition, queue.outworn_identity()?));
                state.queues.iter().find_map(outworn)
            };
            let Some((partition, outworn)) = wanting else { return Ok(()) };
            let identity = match outworn.raised() {
                Some(identity) => identity,
                None => new_identity(&self.client).await?,
            };
            if let Some(queue) = self.shared.lock().queues.get_mut(&partition) {
                queue.renew(identity);
            }
        }
    }

    fn connection_lost(&self, error: Error) {
        let now = Instant::now();
        let mut state = self.shared.lock();
        state.queues.values_mut().for_each(|queue| queue.connection_lost(&error, now));
        expire(&mut state, now);
    }
}

impl Link {
    fn takes_requests(&self) -> bool {
        self.leaving.is_none() && self.unanswered.len() < MAX_REQUESTS
    }

    /// Whether there is a reason to go on with this node.
    fn may_stay(&self) -> Result<(), ClientError> {
        match &self.leaving {
            Some(error) if self.unanswered.is_empty() => Err(error.clone().into()),
            _ => Ok(()),
        }
    }
}

/// Why another node should be asked, if an answer says so of any batch.
fn wrong_node(answer: &v1::ProduceResponse) -> Option<Error> {
    answer.results.iter().find_map(|result| {
        let code = Code::from_number(result.code)?;
        let elsewhere = matches!(code, Code::NotLeader | Code::NotFormed | Code::Unavailable);
        elsewhere.then(|| Error::new(code, result.message.clone()))
    })
}

fn expire(state: &mut State, now: Instant) {
    state.queues.values_mut().for_each(|queue| queue.expire(now));
}
