//! What leaves: segments by their time or by the settings of a topic, and records by their offset.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, Offset, PartitionId, ShardId, internal};
use stratalog_query::TopicInfo;
use stratalog_storage::SegmentMeta;

use super::Broker;
use crate::outcome::CommandResult;
use crate::rows::Gone;
use crate::shard::Shard;

/// What a drop removed, or would remove.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// The column segments.
    pub segments: Vec<(ShardId, Arc<SegmentMeta>)>,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Where the partitions begin then whose log start moves, ascending.
    pub log_starts: Vec<(PartitionId, Offset)>,
    /// Bytes of replay segments that nobody can read any more.
    pub log_bytes: u64,
    /// Of a dry run: rows that are not in a segment yet, and would go, too.
    pub tail_rows: u64,
    /// From the proposal of the commands to their application, without a seal between them.
    pub elapsed: Duration,
}

impl From<Gone> for Dropped {
    fn from(gone: Gone) -> Self {
        let sum = |f: fn(&SegmentMeta) -> u64| gone.segments.iter().map(|(_, meta)| f(meta)).sum();
        Self {
            rows: sum(|meta| meta.rows),
            bytes: sum(|meta| meta.bytes),
            log_starts: gone.log_starts.into_iter().collect(),
            log_bytes: gone.log_bytes,
            tail_rows: gone.tail_rows,
            elapsed: gone.elapsed,
            segments: gone.segments,
        }
    }
}

impl Broker {
    /// Drops every column segment whose time bucket ends at or before `before_ns`, those that the tail has rows for, too.
    /// With `dry_run` it only says what it would drop.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; those of sealing and of proposing: then some of it may be gone already.
    pub async fn drop_before(&self, name: &str, before_ns: i64, dry_run: bool) -> Result<Dropped, Error> {
        let topic = self.topics.get(name)?;
        self.rows.drop_before(&topic, before_ns, dry_run).await.map(Dropped::from)
    }

    /// Drops what `retention` and `retention.bytes` of a topic no longer keep, now instead of in a while. With `dry_run` it
    /// only says what it would drop.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; those of proposing: then some of it may be gone already.
    pub async fn apply_retention(&self, name: &str, dry_run: bool) -> Result<Dropped, Error> {
        let topic = self.topics.get(name)?;
        self.rows.apply_retention(&topic, dry_run).await.map(Dropped::from)
    }

    /// Deletes the records of partitions below an offset of each, with their rows; [`Offset`] 2^64 - 1 stands for the high
    /// watermark, which is all of them. Gives where the log of each begins now, ascending: never lower than before.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], [`Code::UnknownPartition`]; [`Code::InvalidRequest`] without a partition, or with one twice;
    /// [`Code::OffsetOutOfRange`] for an offset above the high watermark. Then nothing is deleted. Those of proposing: some
    /// partitions may begin later already, and it may be tried again.
    pub async fn delete_records(
        &self,
        name: &str,
        before: &[(PartitionId, Offset)],
    ) -> Result<Vec<(PartitionId, Offset)>, Error> {
        let topic = self.topics.get(name)?;
        let mut log_starts = Vec::with_capacity(before.len());
        for (shard, before) in self.deletions(&topic, before)? {
            let delete = internal::DeleteRecords { topic: topic.id.to_bytes(), before };
            if let CommandResult::RecordsDeleted { log_starts: moved, .. } =
                shard.propose(Command::DeleteRecords(delete)).await?
            {
                log_starts.extend(moved);
            }
        }
        log_starts.sort_unstable();
        Ok(log_starts)
    }

    /// What to delete in which shard, checked.
    fn deletions(&self, topic: &TopicInfo, before: &[(PartitionId, Offset)]) -> Result<Vec<Deletion<'_>>, Error> {
        let wanted: BTreeMap<PartitionId, Offset> = before.iter().copied().collect();
        if wanted.is_empty() || wanted.len() < before.len() {
            let what =
                format!("a deletion of records of topic `{}` names each partition once, and at least one", topic.name);
            return Err(Error::new(Code::InvalidRequest, what));
        }
        let mut deletions: BTreeMap<ShardId, Deletion<'_>> = BTreeMap::new();
        for (partition, before) in wanted {
            let shard = self.shard_of(topic, partition)?;
            check_reached(topic, shard, partition, before)?;
            let of_shard = deletions.entry(shard.id()).or_insert_with(|| (shard, Vec::new()));
            of_shard.1.push(internal::PartitionCount { partition: partition.0, value: before.0 });
        }
        Ok(deletions.into_values().collect())
    }
}

/// A shard, and the first offset to keep of some of its partitions.
type Deletion<'a> = (&'a Arc<Shard>, Vec<internal::PartitionCount>);

/// Whether a partition has come to an offset: as in Kafka, what is not yet written cannot be deleted.
fn check_reached(topic: &TopicInfo, shard: &Shard, partition: PartitionId, before: Offset) -> Result<(), Error> {
    let end = shard.read(|state| state.partition(topic.id, partition).map(|state| state.high_watermark()));
    match end {
        Some(end) if before > end && before != Offset(u64::MAX) => {
            let message = format!(
                "cannot delete records of partition {partition} of topic `{}` before offset {before}: it ends at {end}",
                topic.name
            );
            Err(Error::new(Code::OffsetOutOfRange, message))
        }
        _ => Ok(()),
    }
}
