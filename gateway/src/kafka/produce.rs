//! Produce: record batches go to the broker as they came, as slices of the request.

use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use stratalog_broker::Pipeline;
use stratalog_proto::{Offset, PartitionId};

use super::answer::Answered;
use super::api::Request;
use super::connection::Client;
use super::requests::produce::{Asked, Partition, Topic, one_batch, read};
use super::wire::{Malformed, Writer};
use super::{Node, errors};

/// The oldest version whose records are batches as we keep them.
const OLDEST_WITH_BATCHES: i16 = 3;

/// What became of a batch.
#[derive(Clone, Debug)]
struct Outcome {
    error: i16,
    base_offset: i64,
    message: Option<StrBytes>,
}

pub(super) async fn answer(node: &Node, client: &Client, request: &Request) -> Result<Answered, Malformed> {
    let asked = read(request)?;
    let refusal = refusal(&asked, request.version);
    let turn = client.produces.lock().await;
    let number = client.pipeline.begin();
    let answered = |pieces| Answered { pieces, held: None, produce: Some(number) };
    for topic in &asked.topics {
        // So that what follows begins at once; if it is not there, the look below says so.
        let _ = node.shared.broker.find_topic(&topic.name).await;
    }
    let produced = asked.topics.iter().flat_map(|topic| {
        let refusal = &refusal;
        topic.partitions.iter().map(move |partition| async move {
            match refusal {
                Some(refusal) => refusal.clone(),
                None => produce(node, (&client.pipeline, number), &topic.name, partition).await,
            }
        })
    });
    let mut produced = std::pin::pin!(join_all(produced));
    // Batches join the queues of their partitions when they are looked at for the first time: then it is the next one's turn.
    let begun = futures::poll!(&mut produced);
    drop(turn);
    let outcomes = match begun {
        Poll::Ready(outcomes) => outcomes,
        Poll::Pending => produced.await,
    };
    if asked.acks != 0 {
        return Ok(answered(Some(write(request, &asked.topics, outcomes))));
    }
    // Who wants no answer hears of a failure by losing the connection, as from Kafka.
    match outcomes.into_iter().find(|outcome| outcome.error != 0) {
        None => Ok(answered(None)),
        Some(failed) => {
            let why = failed.message.unwrap_or_default();
            Err(Malformed::new(format!("with acks=0 it wants no answer, and failed: {why}")))
        }
    }
}

/// Why nothing of the request is done.
fn refusal(asked: &Asked, version: i16) -> Option<Outcome> {
    if version < OLDEST_WITH_BATCHES {
        let message = "message formats before Kafka 0.11 are not taken: use Produce of version 3 or later";
        return Some(refused(ResponseError::UnsupportedForMessageFormat, message));
    }
    if !matches!(asked.acks, -1..=1) {
        return Some(refused(ResponseError::InvalidRequiredAcks, "acks is 0, 1 or all"));
    }
    let message = "transactions are not built yet: produce without a transactional.id";
    asked.is_transactional.then(|| refused(ResponseError::UnsupportedVersion, message))
}

fn refused(error: ResponseError, message: &'static str) -> Outcome {
    Outcome { error: error.code(), base_offset: -1, message: Some(StrBytes::from_static_str(message)) }
}

async fn produce(node: &Node, request: (&Arc<Pipeline>, u64), topic: &str, asked: &Partition) -> Outcome {
    let records = match one_batch(asked) {
        Ok(records) => records,
        Err((error, message)) => return refused(error, message),
    };
    // A negative partition is none.
    let partition = PartitionId(u32::try_from(asked.index).unwrap_or(u32::MAX));
    match node.shared.broker.produce_in(request, topic, partition, records).await {
        Ok(produced) => {
            let Offset(base_offset) = produced.base_offset;
            Outcome { error: 0, base_offset: base_offset as i64, message: None }
        }
        Err(error) => {
            Outcome { error: errors::number(error.code), base_offset: -1, message: Some(errors::message(&error)) }
        }
    }
}

/// `outcomes` are those of all partitions, in the order of the request.
fn write(request: &Request, topics: &[Topic], outcomes: Vec<Outcome>) -> Vec<Bytes> {
    let version = request.version;
    let mut writer = Writer::new(request.is_flexible(), 64 + 48 * outcomes.len());
    let mut outcomes = outcomes.into_iter();
    writer.count(topics.len());
    for topic in topics {
        writer.text(&topic.name);
        writer.count(topic.partitions.len());
        for (partition, outcome) in topic.partitions.iter().zip(&mut outcomes) {
            writer.i32(partition.index);
            writer.i16(outcome.error);
            writer.i64(outcome.base_offset);
            if version >= 2 {
                // The time of the append: batches keep the times of their producers.
                writer.i64(-1);
            }
            if version >= 5 {
                // Where the log begins: not known here.
                writer.i64(-1);
            }
            if version >= 8 {
                // Records that are at fault: a batch is taken or refused as a whole.
                writer.count(0);
                writer.nullable_text(outcome.message.as_deref());
            }
            writer.tags();
        }
        writer.tags();
    }
    if version >= 1 {
        writer.i32(0);
    }
    writer.tags();
    writer.finish()
}
