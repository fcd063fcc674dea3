//! Produce: record batches go to the broker as they came, as slices of the request.

use std::task::Poll;

use bytes::Bytes;
use futures::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use stratalog_proto::batch::HEADER_BYTES;
use stratalog_proto::{Offset, PartitionId};

use super::api::Request;
use super::connection::Client;
use super::wire::{Malformed, Reader, Writer};
use super::{Node, errors};

/// The oldest version whose records are batches as we keep them.
const OLDEST_WITH_BATCHES: i16 = 3;
/// Where a batch has the version of its format, and the one that we keep.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;

/// A request, as it was read.
#[derive(Debug)]
struct Asked {
    is_transactional: bool,
    acks: i16,
    topics: Vec<Topic>,
}

#[derive(Debug)]
struct Topic {
    name: StrBytes,
    partitions: Vec<Partition>,
}

#[derive(Debug)]
struct Partition {
    index: i32,
    /// `None`: null.
    records: Option<Bytes>,
}

/// What became of a batch.
#[derive(Clone, Debug)]
struct Outcome {
    error: i16,
    base_offset: i64,
    message: Option<StrBytes>,
}

pub(super) async fn answer(node: &Node, client: &Client, request: &Request) -> Result<Option<Vec<Bytes>>, Malformed> {
    let asked = read(request)?;
    let refusal = refusal(&asked, request.version);
    let turn = client.produces.lock().await;
    for topic in &asked.topics {
        // So that what follows begins at once; if it is not there, the look below says so.
        let _ = node.shared.broker.find_topic(&topic.name).await;
    }
    let produced = asked.topics.iter().flat_map(|topic| {
        let refusal = &refusal;
        topic.partitions.iter().map(move |partition| async move {
            match refusal {
                Some(refusal) => refusal.clone(),
                None => produce(node, &topic.name, partition).await,
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
        return Ok(Some(write(request, &asked.topics, outcomes)));
    }
    // Who wants no answer hears of a failure by losing the connection, as from Kafka.
    match outcomes.into_iter().find(|outcome| outcome.error != 0) {
        None => Ok(None),
        Some(failed) => {
            let why = failed.message.unwrap_or_default();
            Err(Malformed::new(format!("with acks=0 it wants no answer, and failed: {why}")))
        }
    }
}

fn read(request: &Request) -> Result<Asked, Malformed> {
    let mut reader = Reader::new(request.body.clone(), request.is_flexible());
    let transactional_id = if request.version >= 3 { reader.nullable_text()? } else { None };
    let acks = reader.i16()?;
    // How long to wait for acknowledgements: the broker has its own bound, and says when it is over.
    reader.i32()?;
    let topics = reader.list(2, |reader| {
        let name = reader.text()?;
        let partitions = reader.list(5, |reader| {
            let partition = Partition { index: reader.i32()?, records: reader.nullable_bytes()? };
            reader.tags().map(|()| partition)
        })?;
        reader.tags().map(|()| Topic { name, partitions })
    })?;
    reader.tags()?;
    reader.end()?;
    Ok(Asked { is_transactional: transactional_id.is_some(), acks, topics })
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

async fn produce(node: &Node, topic: &str, asked: &Partition) -> Outcome {
    let Some(records) = asked.records.clone().filter(|records| records.len() >= HEADER_BYTES) else {
        return refused(ResponseError::InvalidRecord, "a partition comes with one record batch, and this is none");
    };
    if records[MAGIC_AT] != MAGIC {
        return refused(ResponseError::UnsupportedForMessageFormat, "record batches are taken in format 2 only");
    }
    // What follows the base offset and the length itself.
    let length = records[8..12].first_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length));
    if (length as usize).checked_add(12).is_none_or(|length| length < records.len()) {
        return refused(ResponseError::InvalidRecord, "a partition comes with one record batch, and these are several");
    }
    // A negative partition is none.
    let partition = PartitionId(u32::try_from(asked.index).unwrap_or(u32::MAX));
    match node.shared.broker.produce(topic, partition, records).await {
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
