//! What leaves: segments by their time or by the settings of a topic, and records by their offset.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, Offset, PartitionId, ShardId, internal};
use stratalog_query::TopicInfo;
use stratalog_storage::SegmentMeta;

use super::Broker;
use super::read::{shard_of, shards_of};
use crate::cluster::route::{Done, Task};
use crate::outcome::CommandResult;
use crate::rows::Gone;

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
        let topic = self.find_topic(name).await?;
        self.drop_in_all(&topic, Task::DropBefore { before_ns, dry_run }).await
    }

    /// Drops what `retention` and `retention.bytes` of a topic no longer keep, now instead of in a while. With `dry_run` it
    /// only says what it would drop.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; those of proposing: then some of it may be gone already.
    pub async fn apply_retention(&self, name: &str, dry_run: bool) -> Result<Dropped, Error> {
        let topic = self.find_topic(name).await?;
        self.drop_in_all(&topic, Task::ApplyRetention { dry_run }).await
    }

    async fn drop_in_all(&self, topic: &TopicInfo, task: Task) -> Result<Dropped, Error> {
        let mut sum = Gone::default();
        for shard in shards_of(topic) {
            if let Done::Gone(gone) = self.have_done(topic, shard, task).await? {
                sum.segments.extend(gone.segments);
                sum.log_starts.extend(gone.log_starts);
                sum.log_bytes += gone.log_bytes;
                sum.tail_rows += gone.tail_rows;
                sum.elapsed += gone.elapsed;
            }
        }
        Ok(Dropped::from(sum))
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
        let topic = self.find_topic(name).await?;
        check_named_once(&topic, before)?;
        let mut deletions: BTreeMap<ShardId, Vec<internal::PartitionCount>> = BTreeMap::new();
        for (partition, before) in before {
            let count = internal::PartitionCount { partition: partition.0, value: before.0 };
            deletions.entry(shard_of(&topic, *partition)?).or_default().push(count);
        }
        let ends: BTreeMap<_, _> =
            self.partitions(name).await?.into_iter().map(|info| (info.partition, info.high_watermark)).collect();
        before.iter().try_for_each(|(partition, before)| check_reached(&topic, &ends, *partition, *before))?;
        let mut log_starts = Vec::with_capacity(before.len());
        for (shard, mut before) in deletions {
            before.sort_unstable_by_key(|count| count.partition);
            let delete = internal::DeleteRecords { topic: topic.id.to_bytes(), before };
            if let (_, CommandResult::RecordsDeleted { log_starts: moved, .. }) =
                self.propose(shard, Command::DeleteRecords(delete)).await?
            {
                log_starts.extend(moved);
            }
        }
        log_starts.sort_unstable();
        Ok(log_starts)
    }
}

fn check_named_once(topic: &TopicInfo, before: &[(PartitionId, Offset)]) -> Result<(), Error> {
    let named: BTreeSet<PartitionId> = before.iter().map(|(partition, _)| *partition).collect();
    if named.is_empty() || named.len() < before.len() {
        let what =
            format!("a deletion of records of topic `{}` names each partition once, and at least one", topic.name);
        return Err(Error::new(Code::InvalidRequest, what));
    }
    Ok(())
}

/// Whether a partition has come to an offset: as in Kafka, what is not yet written cannot be deleted.
fn check_reached(
    topic: &TopicInfo,
    ends: &BTreeMap<PartitionId, Offset>,
    partition: PartitionId,
    before: Offset,
) -> Result<(), Error> {
    match ends.get(&partition) {
        Some(end) if before > *end && before != Offset(u64::MAX) => {
            let message = format!(
                "cannot delete records of partition {partition} of topic `{}` before offset {before}: it ends at {end}",
                topic.name
            );
            Err(Error::new(Code::OffsetOutOfRange, message))
        }
        _ => Ok(()),
    }
}
