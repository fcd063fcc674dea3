//! Batches arrive once and in order, whatever becomes of leaders and streams.

use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use stratalog_proto::batch::{BatchBuilder, BatchHeader, Compression};
use stratalog_proto::{NodeId, PartitionId, ProducerId, Term, TopicId};
use stratalog_transport::CallError;

use super::super::Links;
use super::super::testing::{FakeLinks, ME, SHARD};
use super::super::wire::{batch_answer, read_batch};
use super::*;
use crate::pipeline::Pipeline;

const OPTIONS: OutboxOptions =
    OutboxOptions { buffer_bytes: 1 << 20, wait: Duration::from_secs(1), timeout: Duration::from_secs(30) };

fn reign(term: u64, number: u64) -> Reign {
    Reign { term: Term(term), number }
}

/// The first byte of each batch that was appended, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Appends all it gets; from the `most`-th on all is refused, with a hint.
    fn serve(&self, most: usize, hint: Option<u64>) -> impl Fn(Frames) -> Frames + Send + Sync + 'static {
        let log = self.clone();
        move |frames| {
            let log = log.clone();
            let answers = frames.map(move |frame| {
                let (number, batch, _) = read_batch(frame.unwrap()).unwrap();
                let mut appended = log.0.lock();
                if appended.len() >= most {
                    let error = Error::new(Code::NotLeader, "not me any more");
                    return Ok(batch_answer(number, Err(error), hint.map(NodeId)));
                }
                appended.push(batch.bytes[0]);
                let at = appended.len() as u64;
                Ok(batch_answer(number, Ok((RaftIndex(at), Offset(u64::from(batch.bytes[0])))), None))
            });
            answers.boxed()
        }
    }

    fn appended(&self) -> Vec<u8> {
        self.0.lock().clone()
    }
}

impl AppendHere for Log {
    fn append_here(&self, frames: Frames) -> Frames {
        self.serve(usize::MAX, None)(frames)
    }
}

fn boxes(links: &Arc<FakeLinks>, here: &Log) -> Outboxes {
    let router = Router::new(Arc::clone(links) as _, CancellationToken::new());
    let boxes = Outboxes::new(Arc::new(router), OPTIONS);
    boxes.append_through(Arc::new(here.clone()));
    boxes
}

/// A batch of partition 0.
fn batch(topic: TopicId, n: u8, bytes: usize) -> Batch {
    Batch { shard: SHARD, topic, partition: PartitionId(0), bytes: Bytes::from(vec![n; bytes]) }
}

/// Sends batches 0.. of one partition, each before the one before is answered.
async fn send(boxes: &Outboxes, count: u8) -> Vec<Result<Offset, Code>> {
    let topic = TopicId::new();
    let sending = (0..count).map(|n| boxes.send(boxes.ticket(), batch(topic, n, 100), None));
    let sent = join_all(sending).await;
    sent.into_iter().map(|sent| sent.map(|(_, offset)| offset).map_err(|error| error.code)).collect()
}

/// Sends batch 1 of so many bytes, and batch 0, which was before it and comes back from this node after so long.
async fn send_behind_refused(boxes: &Outboxes, first: (u64, Flight<'_>), second: u64, bytes: usize, after: Duration) {
    let (topic, (ticket, flight)) = (TopicId::new(), first);
    let behind = boxes.send(second, batch(topic, 1, bytes), None);
    let returned = async {
        tokio::time::sleep(after).await;
        boxes.send_on(ticket, batch(topic, 0, 100), None, flight).await
    };
    let (behind, returned) = futures::join!(behind, returned);
    assert_eq!((returned.unwrap().1, behind.unwrap().1), (Offset(0), Offset(1)));
}

/// Of a batch in a request of its client; with a sequence if it is of an idempotent producer.
fn place(pipeline: &Arc<Pipeline>, request: u64, at: TopicPartition, sequence: Option<i32>) -> Place {
    let builder = BatchBuilder::new(Compression::None);
    let mut builder = sequence.into_iter().fold(builder, |builder, first| builder.producer(ProducerId(7), 0, first));
    builder.push(1, None, Some(b"x"), &[]);
    Place::new(pipeline, request, at, &BatchHeader::read(&builder.finish()).unwrap())
}

fn all(count: u8) -> Vec<Result<Offset, Code>> {
    (0..count).map(|n| Ok(Offset(n.into()))).collect()
}

#[tokio::test(start_paused = true)]
async fn batches_keep_their_order_when_the_leader_changes_between_them() {
    let links = FakeLinks::new(false, Some(NodeId(2)));
    let (old, new) = (Log::default(), Log::default());
    links.stream_with(2, old.serve(3, Some(3)));
    links.stream_with(3, new.serve(usize::MAX, None));
    let boxes = boxes(&links, &Log::default());
    assert_eq!(send(&boxes, 50).await, all(50));
    assert_eq!(old.appended(), [0, 1, 2]);
    assert_eq!(new.appended(), (3..50).collect::<Vec<_>>());
    assert!(boxes.is_idle(SHARD));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_down_costs_nothing_but_time() {
    let links = FakeLinks::new(false, Some(NodeId(2)));
    links.note_leader(SHARD, Some(NodeId(2)));
    let log = Log::default();
    links.stream_with(3, log.serve(usize::MAX, None));
    links.lead(Some(NodeId(3)));
    assert_eq!(send(&boxes(&links, &Log::default()), 20).await, all(20));
    assert_eq!(log.appended(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_written_is_not_sent_again() {
    let links = FakeLinks::new(false, Some(NodeId(2)));
    let (log, streams) = (Log::default(), Arc::new(AtomicUsize::new(0)));
    let (serve, counted) = (log.serve(usize::MAX, None), Arc::clone(&streams));
    links.stream_with(2, move |frames| match counted.fetch_add(1, Ordering::SeqCst) {
        // Takes one batch, and breaks without an answer.
        0 => frames.take(1).map(|_| Err(CallError::Unknown("it broke".to_owned()))).boxed(),
        _ => serve(frames),
    });
    let sent = send(&boxes(&links, &Log::default()), 20).await;
    let unknown = sent.iter().filter(|sent| **sent == Err(Code::Timeout)).count();
    assert!((1..20).contains(&unknown), "{sent:?}");
    let written: Vec<u8> = (0..20).filter(|n| sent[usize::from(*n)].is_ok()).collect();
    assert_eq!(log.appended(), written, "nothing twice, and the rest in order");
}

/// Were they taken by the next leader, it would say that they are out of order, and clients take that for a loss.
#[tokio::test(start_paused = true)]
async fn l2_what_is_behind_a_batch_of_unknown_outcome_is_sent_again_behind_it() {
    let links = FakeLinks::new(false, Some(NodeId(2)));
    let (log, streams, pipeline) = (Log::default(), Arc::new(AtomicUsize::new(0)), Pipeline::new());
    let (serve, counted) = (log.serve(usize::MAX, None), Arc::clone(&streams));
    links.stream_with(2, move |frames| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => frames.take(1).map(|_| Err(CallError::Unknown("it broke".to_owned()))).boxed(),
        _ => serve(frames),
    });
    let boxes = boxes(&links, &Log::default());
    let at = TopicPartition { topic: TopicId::new(), partition: PartitionId(0) };
    let send_all = async || {
        let sending = (0..20).map(|n| {
            let place = place(&pipeline, pipeline.begin(), at, Some(n.into()));
            boxes.send(boxes.ticket(), batch(at.topic, n, 100), Some(place))
        });
        let sent = join_all(sending).await;
        sent.into_iter().map(|sent| sent.map(|(_, offset)| offset).map_err(|error| error.code)).collect::<Vec<_>>()
    };
    let sent = send_all().await;
    assert_eq!(sent[0], Err(Code::Timeout));
    assert!(sent.iter().all(|sent| matches!(sent, Err(Code::Timeout | Code::Overloaded))), "{sent:?}");
    assert_eq!(log.appended(), [0; 0], "what was not sent yet stays behind the first");
    assert_eq!(send_all().await, all(20));
}

#[tokio::test(start_paused = true)]
async fn l2_what_is_behind_a_batch_that_is_not_answered_in_time_is_sent_again_behind_it() {
    let links = FakeLinks::new(false, Some(NodeId(2)));
    links.stream_with(2, |frames| frames.filter_map(async |_| None).chain(stream::pending()).boxed());
    let (boxes, pipeline) = (boxes(&links, &Log::default()), Pipeline::new());
    let at = TopicPartition { topic: TopicId::new(), partition: PartitionId(0) };
    let send = async |n: u8| {
        let place = place(&pipeline, pipeline.begin(), at, Some(n.into()));
        let sent = boxes.send(boxes.ticket(), batch(at.topic, n, 100), Some(place)).await;
        sent.map(|(_, offset)| offset).map_err(|error| error.code)
    };
    assert_eq!(send(0).await, Err(Code::Timeout));
    assert_eq!(send(1).await, Err(Code::Overloaded), "nobody asked the leader");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_cut_off_is_not_waited_for() {
    let links = FakeLinks::new(true, Some(NodeId(2)));
    links.set_role(4, Some(NodeId(2)));
    links.stream_with(2, |frames| frames.filter_map(async |_| None).chain(stream::pending()).boxed());
    let log = Log::default();
    links.stream_with(3, log.serve(usize::MAX, None));
    let boxes = boxes(&links, &Log::default());
    let (first, ()) = futures::join!(send(&boxes, 1), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        links.set_role(5, Some(NodeId(3)));
    });
    assert_eq!(first, [Err(Code::Timeout)], "whether it was written is not known");
    assert_eq!(send(&boxes, 3).await, all(3));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_becomes_the_leader_appends_what_lies_in_its_box() {
    let links = FakeLinks::new(true, None);
    let here = Log::default();
    let boxes = boxes(&links, &here);
    let (sent, ()) = futures::join!(send(&boxes, 10), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!boxes.is_idle(SHARD));
        links.set_role(6, Some(ME));
    });
    assert_eq!(sent, all(10));
    assert_eq!(here.appended(), (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn l2_what_this_node_could_not_append_itself_goes_before_what_came_behind_it() {
    let links = FakeLinks::new(false, Some(NodeId(2)));
    let log = Log::default();
    links.stream_with(2, log.serve(usize::MAX, None));
    let boxes = boxes(&links, &Log::default());
    let first = (boxes.ticket(), boxes.fly(SHARD, reign(5, 1)).unwrap());
    // The second one takes all the room there is.
    send_behind_refused(&boxes, first, boxes.ticket(), 1 << 20, Duration::from_millis(100)).await;
    assert_eq!(log.appended(), [0, 1]);
    assert!(boxes.is_idle(SHARD));
}

#[tokio::test(start_paused = true)]
async fn l2_what_was_refused_in_an_earlier_term_goes_before_what_comes_in_the_next_one_of_this_node() {
    let links = FakeLinks::new(true, None);
    let here = Log::default();
    let boxes = boxes(&links, &here);
    links.set_role(5, Some(ME));
    let first = (boxes.ticket(), boxes.fly(SHARD, reign(5, 1)).unwrap());
    // Leadership was lost and is back before whoever waits for the first batch has heard anything.
    links.set_role(7, Some(ME));
    let second = boxes.ticket();
    assert!(boxes.fly(SHARD, reign(7, 2)).is_none(), "it would overtake");
    send_behind_refused(&boxes, first, second, 100, Duration::from_millis(100)).await;
    assert_eq!(here.appended(), [0, 1]);
    let (one, other) = (boxes.fly(SHARD, reign(7, 2)), boxes.fly(SHARD, reign(7, 2)));
    assert!(one.is_some() && other.is_some(), "what is taken in one term keeps its order in the group");
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_a_batch_is_given_back_as_not_written() {
    let links = FakeLinks::new(false, None);
    let boxes = boxes(&links, &Log::default());
    assert_eq!(send(&boxes, 2).await, [Err(Code::NotLeader); 2]);
    assert!(boxes.is_idle(SHARD));
}

#[tokio::test(start_paused = true)]
async fn x1_what_waits_is_bounded() {
    let links = FakeLinks::new(false, None);
    let boxes = boxes(&links, &Log::default());
    let large = |partition| Batch {
        shard: SHARD,
        topic: TopicId::new(),
        partition: PartitionId(partition),
        bytes: Bytes::from(vec![0; 700 << 10]),
    };
    let sent = join_all([0, 1].map(|n| boxes.send(boxes.ticket(), large(n), None))).await;
    let codes: Vec<Code> = sent.into_iter().map(|sent| sent.unwrap_err().code).collect();
    assert_eq!(codes, [Code::NotLeader, Code::Overloaded]);
}

#[tokio::test(start_paused = true)]
async fn l2_what_was_refused_while_this_leader_was_cut_off_goes_before_what_came_behind_it() {
    let links = FakeLinks::new(true, None);
    let here = Log::default();
    let boxes = boxes(&links, &here);
    links.set_role(5, Some(ME));
    let first = (boxes.ticket(), boxes.fly(SHARD, reign(5, 1)).unwrap());
    // It leads on, in the same term.
    assert!(boxes.fly(SHARD, reign(5, 2)).is_none(), "it would overtake");
    send_behind_refused(&boxes, first, boxes.ticket(), 100, Duration::from_millis(1_500)).await;
    assert_eq!(here.appended(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_a_refused_batch_of_its_client_is_refused_and_the_leader_is_told_what_was_heard() {
    let links = FakeLinks::new(false, Some(NodeId(2)));
    let (heard, topic, pipeline) = (Log::default(), TopicId::new(), Pipeline::new());
    let told = heard.clone();
    links.stream_with(2, move |frames| {
        let told = told.clone();
        let answers = frames.map(move |frame| {
            let (number, batch, heard) = read_batch(frame.unwrap()).unwrap();
            told.0.lock().push(heard.unwrap() as u8);
            let answer = match batch.bytes[0] {
                0 => Err(Error::new(Code::Overloaded, "there is no room")),
                n => Ok((RaftIndex(1), Offset(n.into()))),
            };
            Ok(batch_answer(number, answer, None))
        });
        answers.boxed()
    });
    let boxes = boxes(&links, &Log::default());
    let requests = [(); 2].map(|()| pipeline.begin());
    let send = async |n: u8, request, partition| {
        let at = TopicPartition { topic, partition: PartitionId(partition) };
        let batch = Batch { shard: SHARD, topic, partition: at.partition, bytes: Bytes::from(vec![n; 100]) };
        let sent = boxes.send(boxes.ticket(), batch, Some(place(&pipeline, request, at, None))).await;
        sent.map(|(_, offset)| offset).map_err(|error| error.code)
    };
    assert_eq!(send(0, requests[0], 0).await, Err(Code::Overloaded));
    assert_eq!(send(1, requests[1], 0).await, Err(Code::Overloaded), "nobody asked the leader");
    assert_eq!(send(2, requests[1], 1).await, Ok(Offset(2)), "of another partition");
    pipeline.tell(requests[1]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(send(3, pipeline.begin(), 0).await, Ok(Offset(3)));
    assert_eq!(heard.appended(), [0, 1, 1]);
}
