//! Offsets by time.

use std::sync::Arc;

use stratalog_proto::{Code, Error, Offset, PartitionId};
use stratalog_query::TopicInfo;

use crate::shard::{BatchSlot, MAX_BATCH_CONTENT_BYTES, Shard};

/// Which offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// The lowest that can be read.
    Earliest,
    /// The one that the next record will get.
    Latest,
    /// The first whose record's timestamp is at or after this, in nanoseconds since the epoch; if there is none, as
    /// `Latest`.
    Time(i64),
}

/// The offset of one partition.
///
/// # Errors
/// [`Code::UnknownTopic`] if the topic was deleted meanwhile; those of reading the log.
pub(crate) async fn offset_at(
    topic: &TopicInfo,
    shard: &Arc<Shard>,
    partition: PartitionId,
    at: OffsetAt,
) -> Result<Offset, Error> {
    let gone = || Error::new(Code::UnknownTopic, format!("topic `{}` was deleted", topic.name));
    let (log_start, latest, candidate) = shard.read(|state| {
        let state = state.partition(topic.id, partition).ok_or_else(gone)?;
        let candidate = match at {
            OffsetAt::Time(ns) => state.batches().find(|slot| slot.max_timestamp_ms >= first_ms(ns)).copied(),
            OffsetAt::Earliest | OffsetAt::Latest => None,
        };
        Ok::<_, Error>((state.log_start(), state.high_watermark(), candidate))
    })?;
    match (at, candidate) {
        (OffsetAt::Earliest, _) => Ok(log_start),
        (OffsetAt::Time(ns), Some(slot)) => {
            let shard = Arc::clone(shard);
            let find = tokio::task::spawn_blocking(move || first_at(&shard, &slot, first_ms(ns)));
            let found = find.await.map_err(|error| Error::new(Code::Internal, error.to_string()))??;
            Ok(found.max(log_start))
        }
        (OffsetAt::Latest | OffsetAt::Time(_), _) => Ok(latest),
    }
}

/// The first millisecond that is not before `ns`: record timestamps are milliseconds.
fn first_ms(ns: i64) -> i64 {
    ns.div_euclid(1_000_000) + i64::from(ns.rem_euclid(1_000_000) > 0)
}

/// The first record of a batch with a timestamp at or after `ms`. Blocks on the disk.
fn first_at(shard: &Shard, slot: &BatchSlot, ms: i64) -> Result<Offset, Error> {
    let batch = shard.batch(slot)?;
    for record in batch.records(MAX_BATCH_CONTENT_BYTES)? {
        let record = record?;
        if record.timestamp_ms >= ms {
            return Ok(Offset(slot.base_offset.0 + record.offset_delta as u64));
        }
    }
    // Its header promises such a record; a client may have written a wrong one.
    Ok(slot.base_offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_up_to_the_milliseconds_of_records() {
        assert_eq!([0, 1, 999_999, 1_000_000, -1].map(first_ms), [0, 1, 1, 1, 0]);
    }
}
