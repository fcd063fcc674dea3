//! Between the messages of `stratalog.v1` and the words of the broker.

use std::collections::HashMap;

use stratalog_broker::{Dropped, TopicRows, VerifiedPartition};
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, ShardId, Token, v1};
use stratalog_query::{Parameter, PartitionInfo, TopicInfo};

use crate::segments::to_v1;

pub(super) fn topic(info: &TopicInfo) -> v1::Topic {
    v1::Topic {
        id: info.id.to_bytes(),
        name: info.name.clone(),
        partitions: info.partitions,
        config: Some(info.config.to_v1()),
    }
}

pub(super) fn partition(info: &PartitionInfo) -> v1::Partition {
    v1::Partition {
        partition: info.partition.0,
        shard: info.shard.0,
        log_start: info.log_start.0,
        high_watermark: info.high_watermark.0,
        bytes: info.bytes,
    }
}

pub(super) fn topic_rows(rows: TopicRows) -> v1::TopicRows {
    v1::TopicRows {
        rows: rows.rows,
        dead_rows: rows.dead_rows,
        tail_rows: rows.tail_rows,
        tail_bytes: rows.tail_bytes,
        segments: rows.segments,
        segment_bytes: rows.segment_bytes,
        lag: rows.lag,
        held: rows.held.into_iter().map(|(_, why)| why.message).collect(),
    }
}

pub(super) fn dropped(dropped: &Dropped) -> v1::DropBeforeResponse {
    v1::DropBeforeResponse {
        dropped: to_v1(&dropped.segments),
        rows: dropped.rows,
        bytes: dropped.bytes,
        elapsed_us: dropped.elapsed.as_micros() as u64,
        log_bytes: dropped.log_bytes,
        log_starts: offsets(&dropped.log_starts),
        tail_rows: dropped.tail_rows,
    }
}

pub(super) fn offsets(offsets: &[(PartitionId, Offset)]) -> Vec<v1::PartitionOffset> {
    let offset =
        |(partition, offset): &(PartitionId, Offset)| v1::PartitionOffset { partition: partition.0, offset: offset.0 };
    offsets.iter().map(offset).collect()
}

pub(super) fn verified(found: VerifiedPartition) -> v1::VerifiedPartition {
    let damage = found.damage.into_iter().map(|damage| v1::Damage {
        first: damage.first.0,
        next: damage.next.0,
        message: damage.what,
    });
    v1::VerifiedPartition {
        partition: found.partition.0,
        log_start: found.log_start.0,
        high_watermark: found.high_watermark.0,
        batches: found.batches,
        records: found.records,
        bytes: found.bytes,
        damaged: found.damaged,
        damage: damage.collect(),
    }
}

pub(super) fn token(token: Token) -> v1::Token {
    v1::Token { shard: token.shard.0, index: token.index.0 }
}

pub(super) fn tokens(tokens: &[v1::Token]) -> Vec<Token> {
    tokens.iter().map(|token| Token { shard: ShardId(token.shard), index: RaftIndex(token.index) }).collect()
}

/// A parameter without a value is null.
pub(super) fn parameter(parameter: v1::Parameter) -> Parameter {
    use v1::parameter::Value;
    match parameter.value {
        None => Parameter::Null,
        Some(Value::Boolean(truth)) => Parameter::Boolean(truth),
        Some(Value::Bigint(integer)) => Parameter::Bigint(integer),
        Some(Value::Double(float)) => Parameter::Double(float),
        Some(Value::Text(text)) => Parameter::Text(text),
        Some(Value::TimestampNs(ns)) => Parameter::Timestamp(ns),
    }
}

/// Settings in the order of their keys, so that the same request always fails at the same one.
pub(super) fn settings(config: HashMap<String, String>) -> Vec<(String, String)> {
    let mut settings: Vec<_> = config.into_iter().collect();
    settings.sort();
    settings
}

/// `count` checked against the most that a request may name.
pub(super) fn bounded(what: &str, count: usize, most: usize) -> Result<(), Error> {
    if count > most {
        let message = format!("a request names at most {most} {what}, not {count}; send several requests");
        return Err(Error::new(Code::InvalidRequest, message));
    }
    Ok(())
}
