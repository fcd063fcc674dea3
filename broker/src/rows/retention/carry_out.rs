//! Carrying plans out, or only telling what they would do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::TimestampNanosecondType;
use stratalog_proto::{Code, Error, Offset, PartitionId, SegmentId, ShardId, TimeBucket};
use stratalog_query::{TailChunk, TopicInfo};
use stratalog_storage::SegmentMeta;
use stratalog_storage::col::system;

use super::plan::{Plan, due, ends_before};
use crate::outcome::CommandResult;
use crate::rows::extent::Extent;
use crate::rows::runtime::Rows;
use crate::rows::shard_rows::ShardRows;

/// What left, or would leave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gone {
    /// Column segments, which live no longer.
    pub(crate) segments: Vec<(ShardId, Arc<SegmentMeta>)>,
    /// Where the partitions begin then whose log start moves, ascending.
    pub(crate) log_starts: BTreeMap<PartitionId, Offset>,
    /// Bytes of replay segments that nobody can read any more.
    pub(crate) log_bytes: u64,
    /// Of a dry run: rows that are not in a segment yet, and would go, too.
    pub(crate) tail_rows: u64,
    /// Spent on the commands, from proposal to application; without a seal between them.
    pub(crate) elapsed: Duration,
}

impl Rows {
    /// Drops every segment of a topic in a shard whose time bucket ends at or before a time, seals the tail, and drops what
    /// that made: at most two Drop commands. A dry run drops and seals nothing.
    ///
    /// # Errors
    /// As [`seal_in`](Self::seal_in), and what proposing a Drop reports; some segments may be dropped already.
    /// [`Code::NotLeader`](stratalog_proto::Code::NotLeader) if the shard is not led here.
    pub(crate) async fn drop_before_in(
        &self,
        shard: ShardId,
        topic: &TopicInfo,
        before_ns: i64,
        dry_run: bool,
    ) -> Result<Gone, Error> {
        let (shard, mut gone) = (self.replicas.led_in(shard)?, Gone::default());
        let ended = || ends_before(&shard.log.extent(topic.id), before_ns);
        if dry_run {
            gone.rehearse(&shard, topic, &ended())?;
            gone.tail_rows += tail_rows_before(&shard, topic, before_ns);
            return Ok(gone);
        }
        // Before anything is sealed: on a full disk this is what makes the room that a seal needs.
        gone.carry_out(&shard, topic, &ended()).await?;
        self.seal_in(shard.log.id(), topic).await?;
        gone.carry_out(&shard, topic, &ended()).await?;
        Ok(gone)
    }

    /// Drops what the settings of a topic say in a shard, now. A dry run drops nothing.
    ///
    /// # Errors
    /// What proposing reports; some of it may be gone already. [`Code::NotLeader`] if the shard is not led here;
    /// [`Code::Unavailable`] if no majority of its voters tells what time it is: nothing is dropped.
    pub(crate) async fn apply_retention_in(
        &self,
        shard: ShardId,
        topic: &TopicInfo,
        dry_run: bool,
    ) -> Result<Gone, Error> {
        let (shard, mut gone) = (self.replicas.led_in(shard)?, Gone::default());
        let clock_ns = match topic.config.retention_ns {
            Some(_) => shard.copies.clock_ns(shard.log.id()).await.ok_or_else(|| no_clock(shard.log.id()))?,
            None => i64::MIN,
        };
        let plan = due(topic, shard.log.id(), &shard.log.extent(topic.id), clock_ns);
        match dry_run {
            true => gone.rehearse(&shard, topic, &plan)?,
            false => gone.carry_out(&shard, topic, &plan).await?,
        }
        Ok(gone)
    }
}

impl Gone {
    /// Adds what left in another shard.
    #[cfg(test)]
    pub(in crate::rows) fn add(&mut self, other: Gone) {
        self.segments.extend(other.segments);
        self.log_starts.extend(other.log_starts);
        self.log_bytes += other.log_bytes;
        self.tail_rows += other.tail_rows;
        self.elapsed += other.elapsed;
    }

    /// Proposes a plan, and adds what it did.
    pub(super) async fn carry_out(&mut self, shard: &ShardRows, topic: &TopicInfo, plan: &Plan) -> Result<(), Error> {
        let commands = plan.commands(topic.id);
        if commands.is_empty() {
            return Ok(());
        }
        let (id, before, started) = (shard.log.id(), shard.log.extent(topic.id), Instant::now());
        for command in commands {
            let (CommandResult::Dropped(dropped) | CommandResult::RecordsDeleted { dropped, .. }) =
                shard.log.propose(command).await?
            else {
                continue;
            };
            self.segments.extend(dropped.into_iter().map(|meta| (id, meta)));
        }
        self.elapsed += started.elapsed();
        self.count(&before, &shard.log.extent(topic.id));
        Ok(())
    }

    /// Adds what a plan would do.
    fn rehearse(&mut self, shard: &ShardRows, topic: &TopicInfo, plan: &Plan) -> Result<(), Error> {
        let commands = plan.commands(topic.id);
        if commands.is_empty() {
            return Ok(());
        }
        let before = shard.log.extent(topic.id);
        let after = shard.log.rehearse(topic.id, &commands)?;
        let is_left = |id: SegmentId| after.segments.iter().any(|meta| meta.id == id);
        let removed = before.segments.iter().filter(|meta| !is_left(meta.id));
        self.segments.extend(removed.map(|meta| (shard.log.id(), meta.clone())));
        self.count(&before, &after);
        Ok(())
    }

    /// Adds what changed between two moments beside column segments.
    fn count(&mut self, before: &Extent, after: &Extent) {
        let moved = after.begins.iter().filter(|(partition, begin)| begin.log_start > before.log_start(**partition));
        self.log_starts.extend(moved.map(|(partition, begin)| (*partition, begin.log_start)));
        let is_left = |id: SegmentId| after.recs.iter().any(|meta| meta.id == id);
        self.log_bytes += before.recs.iter().filter(|meta| !is_left(meta.id)).map(|meta| meta.bytes).sum::<u64>();
    }
}

pub(super) fn no_clock(shard: ShardId) -> Error {
    let message = format!(
        "no majority of the voters of shard {shard} told what time it is, and by the clock of one node nothing is dropped; \
         try again when the others answer"
    );
    Error::new(Code::Unavailable, message)
}

/// The rows of a topic's tail whose bucket ends at or before a time.
fn tail_rows_before(shard: &ShardRows, topic: &TopicInfo, before_ns: i64) -> u64 {
    let chunks: Vec<Arc<TailChunk>> = shard.tail.read(topic.id, |tail| tail.chunks.to_vec());
    let width_ns = i64::try_from(topic.config.bucket_ns).unwrap_or(i64::MAX).max(1);
    let ends_before = |time_ns: &&i64| TimeBucket::of(**time_ns, width_ns).end_ns <= before_ns;
    let rows_before = |chunk: &Arc<TailChunk>| {
        let times = chunk.rows.column_by_name(system::TIME)?.as_primitive_opt::<TimestampNanosecondType>()?;
        Some(times.values().iter().filter(ends_before).count() as u64)
    };
    chunks.iter().filter_map(rows_before).sum()
}
