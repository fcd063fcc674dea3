//! DeleteRecords: the log of a partition begins later.

use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use stratalog_proto::{Code, Error, Offset, PartitionId};

use super::api::Request;
use super::wire::Malformed;
use super::{Node, errors};

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: DeleteRecordsRequest = request.decode()?;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            partitions.push(delete(node, &topic.name, partition).await);
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    request.encode(&DeleteRecordsResponse::default().with_topics(topics))
}

/// Each partition has its own answer, so each is deleted by itself.
async fn delete(node: &Node, topic: &str, asked: &DeleteRecordsPartition) -> DeleteRecordsPartitionResult {
    let told = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
    match log_start(node, topic, asked).await {
        Ok(start) => told.with_low_watermark(start.0 as i64),
        Err(error) => told.with_low_watermark(-1).with_error_code(errors::number(error.code)),
    }
}

async fn log_start(node: &Node, topic: &str, asked: &DeleteRecordsPartition) -> Result<Offset, Error> {
    let partition = PartitionId(u32::try_from(asked.partition_index).unwrap_or(u32::MAX));
    let before = match asked.offset {
        // All there is.
        -1 => Offset(u64::MAX),
        offset => {
            let out_of_range = |_| Error::new(Code::OffsetOutOfRange, format!("there is no offset {offset}"));
            Offset(u64::try_from(offset).map_err(out_of_range)?)
        }
    };
    let starts = node.shared.broker.delete_records(topic, &[(partition, before)]).await?;
    let nowhere = || Error::new(Code::Internal, "a deletion of records did not say where the log begins");
    starts.first().map(|(_, start)| *start).ok_or_else(nowhere)
}
