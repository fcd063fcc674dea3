//! ListOffsets: where partitions begin and end, and where a time is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use stratalog_broker::{FetchRequest, FetchedBatches, OffsetAt, ReadFrom};
use stratalog_proto::batch::Batch;
use stratalog_proto::{Code, Error, Offset, PartitionId};

use super::api::Request;
use super::shape::{Field, Kind, always, since};
use super::wire::Malformed;
use super::{Node, errors};

const PARTITION: &[Field] = &[always(Kind::I32), since(Kind::I32, 4), always(Kind::I64)];
const TOPIC: &[Field] = &[always(Kind::Text), always(Kind::List(&Kind::Struct(PARTITION)))];
const SHAPE: &[Field] = &[always(Kind::I32), since(Kind::I8, 2), always(Kind::List(&Kind::Struct(TOPIC)))];

/// Times that mean something else.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const LARGEST_TIME: i64 = -3;
/// What the node that is asked has itself: all there is.
const EARLIEST_LOCAL: i64 = -4;
/// What a record may hold once it is decompressed.
const MAX_CONTENT_BYTES: usize = 256 << 20;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: ListOffsetsRequest = request.decode(SHAPE)?;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let partitions = of_topic(node, &topic).await;
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    request.encode(&ListOffsetsResponse::default().with_topics(topics))
}

/// The offsets of all partitions at each time that was asked for: most ask all partitions for the same.
async fn of_topic(node: &Node, asked: &ListOffsetsTopic) -> Vec<ListOffsetsPartitionResponse> {
    let mut known: BTreeMap<i64, Result<BTreeMap<PartitionId, Offset>, Error>> = BTreeMap::new();
    let mut answers = Vec::with_capacity(asked.partitions.len());
    for partition in &asked.partitions {
        let offsets = match known.entry(partition.timestamp) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(offsets(node, &asked.name, partition.timestamp).await),
        };
        answers.push(of_partition(node, &asked.name, partition, offsets).await);
    }
    answers
}

async fn offsets(node: &Node, topic: &str, timestamp: i64) -> Result<BTreeMap<PartitionId, Offset>, Error> {
    let at = match timestamp {
        LATEST => OffsetAt::Latest,
        EARLIEST | EARLIEST_LOCAL => OffsetAt::Earliest,
        LARGEST_TIME => OffsetAt::LargestTime,
        ms if ms >= 0 => OffsetAt::Time(ms.saturating_mul(1_000_000)),
        other => {
            let message =
                format!("{other} is no time: -1 is the end of a partition, -2 its beginning, -3 its latest time");
            return Err(Error::new(Code::InvalidRequest, message));
        }
    };
    Ok(node.shared.broker.list_offsets(topic, at).await?.into_iter().collect())
}

async fn of_partition(
    node: &Node,
    topic: &str,
    asked: &ListOffsetsPartition,
    offsets: &Result<BTreeMap<PartitionId, Offset>, Error>,
) -> ListOffsetsPartitionResponse {
    let told = ListOffsetsPartitionResponse::default()
        .with_partition_index(asked.partition_index)
        .with_timestamp(-1)
        .with_offset(-1);
    let offsets = match offsets {
        Ok(offsets) => offsets,
        Err(error) => return told.with_error_code(errors::number(error.code)),
    };
    let partition = u32::try_from(asked.partition_index).ok().map(PartitionId);
    let Some((partition, offset)) = partition.and_then(|partition| Some((partition, *offsets.get(&partition)?))) else {
        return told.with_error_code(ResponseError::UnknownTopicOrPartition.code());
    };
    if asked.timestamp < 0 && asked.timestamp != LARGEST_TIME {
        return told.with_offset(offset.0 as i64);
    }
    match time_of(node, topic, partition, offset).await {
        Ok(Some(timestamp)) => told.with_offset(offset.0 as i64).with_timestamp(timestamp),
        // No record is that late, or there is none at all.
        Ok(None) => told,
        Err(error) => told.with_error_code(errors::number(error.code)),
    }
}

/// When the record at an offset says it was, in milliseconds since the epoch; `None` if there is none.
async fn time_of(node: &Node, topic: &str, partition: PartitionId, offset: Offset) -> Result<Option<i64>, Error> {
    let request = FetchRequest {
        topic: topic.to_owned(),
        partitions: vec![(partition, offset)],
        max_bytes: 1,
        max_wait: Duration::ZERO,
        from: ReadFrom::Leader,
    };
    let fetched = node.shared.broker.fetch(request).await?.into_iter().next();
    let Some(batches) = fetched.map(|fetched| fetched.result).transpose()?.and_then(|found| found.into_iter().next())
    else {
        return Ok(None);
    };
    let _place = node.lookups.acquire().await;
    let looked = tokio::task::spawn_blocking(move || time_in(&batches, offset)).await;
    looked.map_err(|error| Error::new(Code::Internal, format!("a look for a time ended early: {error}")))?
}

/// When the first record at or above an offset says it was. Decompresses.
fn time_in(batches: &FetchedBatches, offset: Offset) -> Result<Option<i64>, Error> {
    for batch in batches.batches() {
        let batch = Batch::parse_trusted(batch?)?;
        let base = batch.header().base_offset;
        for record in batch.records(MAX_CONTENT_BYTES)? {
            let record = record?;
            if base + i64::from(record.offset_delta) >= offset.0 as i64 {
                return Ok(Some(record.timestamp_ms));
            }
        }
    }
    Ok(None)
}
