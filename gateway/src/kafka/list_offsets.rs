//! ListOffsets: where partitions begin and end, and where a time is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use stratalog_broker::{FetchRequest, FetchedBatches, OffsetAt, OffsetFound, ReadFrom};
use stratalog_proto::batch::Batch;
use stratalog_proto::{Code, Error, Offset, PartitionId};

use super::api::Request;
use super::wire::Malformed;
use super::{Node, epochs, errors};

/// Times that mean something else.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const LARGEST_TIME: i64 = -3;
/// What the node that is asked has itself: all there is.
const EARLIEST_LOCAL: i64 = -4;
/// From this version on, answers have epochs.
const FIRST_WITH_EPOCHS: i16 = 4;
/// What a record may hold once it is decompressed.
const MAX_CONTENT_BYTES: usize = 256 << 20;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: ListOffsetsRequest = request.decode()?;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let partitions = of_topic(node, &topic, request.version).await;
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    request.encode(&ListOffsetsResponse::default().with_topics(topics))
}

/// The offsets of all partitions of a topic, or why they cannot be told.
type Offsets = Result<BTreeMap<PartitionId, OffsetFound>, Error>;

/// The offsets of all partitions at each time that was asked for: most ask all partitions for the same.
async fn of_topic(node: &Node, asked: &ListOffsetsTopic, version: i16) -> Vec<ListOffsetsPartitionResponse> {
    let claims = asked.partitions.iter().map(|partition| (partition.partition_index, partition.current_leader_epoch));
    let refused = match node.shared.broker.find_topic(&asked.name).await {
        Ok(found) => epochs::refused(node, &found, claims).await,
        // What is wrong with it is told of each partition.
        Err(_) => BTreeMap::new(),
    };
    let mut known: BTreeMap<i64, Offsets> = BTreeMap::new();
    let mut answers = Vec::with_capacity(asked.partitions.len());
    for partition in &asked.partitions {
        if let Some(error) = refused.get(&partition.partition_index) {
            answers.push(nothing(partition).with_error_code(error.code()));
            continue;
        }
        let offsets = match known.entry(partition.timestamp) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(offsets(node, &asked.name, partition.timestamp).await),
        };
        answers.push(of_partition(node, &asked.name, partition, offsets, version >= FIRST_WITH_EPOCHS).await);
    }
    answers
}

async fn offsets(node: &Node, topic: &str, timestamp: i64) -> Offsets {
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
    let found = node.shared.broker.find_offsets(topic, at).await?;
    Ok(found.into_iter().map(|found| (found.partition, found)).collect())
}

/// No offset.
fn nothing(asked: &ListOffsetsPartition) -> ListOffsetsPartitionResponse {
    let told = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
    told.with_timestamp(-1).with_offset(-1)
}

async fn of_partition(
    node: &Node,
    topic: &str,
    asked: &ListOffsetsPartition,
    offsets: &Offsets,
    with_epoch: bool,
) -> ListOffsetsPartitionResponse {
    let told = nothing(asked);
    let offsets = match offsets {
        Ok(offsets) => offsets,
        Err(error) => return told.with_error_code(errors::number(error.code)),
    };
    let partition = u32::try_from(asked.partition_index).ok().map(PartitionId);
    let Some(OffsetFound { partition, offset, epoch }) =
        partition.and_then(|partition| offsets.get(&partition)).copied()
    else {
        return told.with_error_code(ResponseError::UnknownTopicOrPartition.code());
    };
    let found = told.clone().with_offset(offset.0 as i64);
    let epoch = epoch.filter(|_| with_epoch).map(epochs::number);
    let found = epoch.map_or(found.clone(), |epoch| found.with_leader_epoch(epoch));
    if asked.timestamp < 0 && asked.timestamp != LARGEST_TIME {
        return found;
    }
    match time_of(node, topic, partition, offset).await {
        Ok(Some(timestamp)) => found.with_timestamp(timestamp),
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
    let _place = node.shares.lookups.acquire().await;
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
