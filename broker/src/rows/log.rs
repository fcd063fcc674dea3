//! What rows are made from: a shard's log and replicated state, as this room sees them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use stratalog_proto::batch::Record;
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::Command;
use stratalog_proto::{Error, Offset, PartitionId, RaftIndex, ShardId, Term, TopicId};
use stratalog_query::PartitionInfo;
use stratalog_storage::{Io, Manifest, SegmentMeta};
use tokio::sync::watch;

use super::extent::{Extent, Sealed};
use crate::outcome::CommandResult;
use crate::raft::RoleNow;
use crate::shard::{Applied, PartitionState, Passed, Shard, ShardState, TopicState, Wanted};

/// Called with segments that are no longer in the manifest.
pub(crate) type RemovedListener = Box<dyn Fn(&[Arc<SegmentMeta>]) + Send + Sync>;

/// A topic that a shard hosts.
#[derive(Clone, Debug)]
pub(crate) struct HostedTopic {
    pub(crate) id: TopicId,
    pub(crate) config: TopicConfig,
    /// Everything at or below it is in segments.
    pub(crate) row_frontier: RaftIndex,
}

impl HostedTopic {
    /// The topics of a shard, ascending by id.
    pub(super) fn all(state: &ShardState) -> Vec<Self> {
        let hosted = state.topics().map(|(id, topic)| {
            let row_frontier = state.manifest().topic(id).map_or(RaftIndex(0), |live| live.row_frontier);
            Self { id, config: topic.config.clone(), row_frontier }
        });
        hosted.collect()
    }
}

/// The index below the first batch, of any topic, that is not in a column segment; `None` if all are. Of a batch in a replay
/// segment it is only known that it lies above the segment's first entry, and above the row frontier.
pub(super) fn unsealed_after(state: &ShardState) -> Option<RaftIndex> {
    let of_topic = |(id, topic): (TopicId, &TopicState)| {
        let row_frontier = state.manifest().topic(id).map_or(RaftIndex(0), |live| live.row_frontier);
        let of_partition = |(partition, of): (PartitionId, &PartitionState)| {
            let first = of.sealed().max(of.log_start());
            if first >= of.high_watermark() {
                return None;
            }
            let after = match of.batch_with(first) {
                Some(slot) => Some(RaftIndex(slot.index.0 - 1)),
                None => state.manifest().rec_with(id, partition, first).map(|meta| meta.after),
            };
            Some(after.unwrap_or(row_frontier).max(row_frontier))
        };
        topic.partitions().filter_map(of_partition).min()
    };
    state.topics().filter_map(of_topic).min()
}

/// One shard. Implemented by [`Shard`], and in tests by one without Raft.
#[async_trait]
pub(crate) trait RowLog: Send + Sync + 'static {
    fn id(&self) -> ShardId;

    /// The last applied index.
    fn applied(&self) -> RaftIndex;

    /// Changes with the applied index.
    fn watch_applied(&self) -> watch::Receiver<RaftIndex>;

    /// The term in which this replica leads, once an entry of that term is applied here: everything that leaders before it
    /// proposed is applied by then, or never will be. `None` while another may lead.
    fn watch_leading(&self) -> watch::Receiver<Option<Term>>;

    /// Whether this replica leads in a term, as far as it knows.
    fn leads_in(&self, term: Term) -> bool;

    /// The highest term that this replica knows.
    fn current_term(&self) -> Term;

    /// The term of the last entry with commands that was applied since the start; 0 before.
    fn applied_term(&self) -> Term;

    /// As [`Shard::batches_after`]. Blocks.
    fn batches_after(&self, after: RaftIndex, wanted: Wanted<'_>, max_bytes: usize) -> Applied;

    /// As [`unsealed_after`].
    fn unsealed_after(&self) -> Option<RaftIndex>;

    /// Every topic that the shard hosts.
    fn topics(&self) -> Vec<HostedTopic>;

    /// The live segments and frontiers, now.
    fn manifest(&self) -> Manifest;

    /// What of a topic is in files, and where its partitions begin, now.
    fn extent(&self, topic: TopicId) -> Extent;

    /// The same, and up to which offsets its partitions are sealed, at one moment.
    fn extent_and_sealed(&self, topic: TopicId) -> (Extent, Sealed);

    /// As [`ShardState::passed`].
    fn passed(&self, topic: TopicId, index: RaftIndex) -> BTreeMap<PartitionId, Passed>;

    /// What of a topic would be left if these commands were applied; see [`ShardState::rehearse`].
    ///
    /// # Errors
    /// The first refusal.
    fn rehearse(&self, topic: TopicId, commands: &[Command]) -> Result<Extent, Error>;

    /// The partitions of a topic in this shard, ascending.
    fn partitions(&self, topic: TopicId) -> Vec<PartitionInfo>;

    /// As [`ShardState::offsets_through`].
    fn offsets_through(&self, topic: TopicId, index: RaftIndex) -> Option<u64>;

    /// As [`Shard::propose`].
    async fn propose(&self, command: Command) -> Result<CommandResult, Error>;

    /// As [`Shard::propose_in`].
    async fn propose_in(&self, term: Term, command: Command) -> Result<CommandResult, Error>;

    /// From now on, `listener` hears of removed segments.
    fn on_segments_removed(&self, listener: RemovedListener);

    /// Where the shard's column segments are.
    fn segments_dir(&self) -> &Path;

    /// The disk.
    fn io(&self) -> &Arc<dyn Io>;

    /// As [`Shard::records`]. Blocks.
    fn records(&self, topic: TopicId, rows: &[(PartitionId, Offset)]) -> Result<Vec<Option<Record>>, Error>;

    /// The values of records, for `_raw`: one for each row; `None` for a null value, and as [`Shard::records`]. Blocks.
    fn values(&self, topic: TopicId, rows: &[(PartitionId, Offset)]) -> Result<Vec<Option<Bytes>>, Error> {
        Ok(self.records(topic, rows)?.into_iter().map(|record| record?.value).collect())
    }
}

#[async_trait]
impl RowLog for Shard {
    fn id(&self) -> ShardId {
        Shard::id(self)
    }

    fn applied(&self) -> RaftIndex {
        Shard::applied(self)
    }

    fn watch_applied(&self) -> watch::Receiver<RaftIndex> {
        Shard::watch_applied(self)
    }

    fn watch_leading(&self) -> watch::Receiver<Option<Term>> {
        leading(self.group().watch_role())
    }

    fn leads_in(&self, term: Term) -> bool {
        let role = *self.group().watch_role().borrow();
        role.leads && role.term == term
    }

    fn current_term(&self) -> Term {
        self.group().watch_role().borrow().term
    }

    fn applied_term(&self) -> Term {
        Shard::applied_term(self)
    }

    fn batches_after(&self, after: RaftIndex, wanted: Wanted<'_>, max_bytes: usize) -> Applied {
        Shard::batches_after(self, after, wanted, max_bytes)
    }

    fn unsealed_after(&self) -> Option<RaftIndex> {
        self.read(unsealed_after)
    }

    fn topics(&self) -> Vec<HostedTopic> {
        self.read(HostedTopic::all)
    }

    fn manifest(&self) -> Manifest {
        self.read(|state| state.manifest().clone())
    }

    fn extent(&self, topic: TopicId) -> Extent {
        self.read(|state| Extent::of(state, topic))
    }

    fn extent_and_sealed(&self, topic: TopicId) -> (Extent, Sealed) {
        self.read(|state| (Extent::of(state, topic), Sealed::of(state, topic)))
    }

    fn passed(&self, topic: TopicId, index: RaftIndex) -> BTreeMap<PartitionId, Passed> {
        self.read(|state| state.passed(topic, index))
    }

    fn rehearse(&self, topic: TopicId, commands: &[Command]) -> Result<Extent, Error> {
        // The copy is made under the lock, and the commands are tried outside.
        let copy = self.read(ShardState::clone);
        Ok(Extent::of(&copy.rehearse(commands)?, topic))
    }

    fn partitions(&self, topic: TopicId) -> Vec<PartitionInfo> {
        self.read(|state| {
            let partitions = state.topic(topic).into_iter().flat_map(|topic| topic.partitions());
            let info = partitions.map(|(partition, state)| PartitionInfo {
                partition,
                shard: Shard::id(self),
                log_start: state.log_start(),
                high_watermark: state.high_watermark(),
                bytes: state.bytes(),
            });
            info.collect()
        })
    }

    fn offsets_through(&self, topic: TopicId, index: RaftIndex) -> Option<u64> {
        self.read(|state| state.offsets_through(topic, index))
    }

    async fn propose(&self, command: Command) -> Result<CommandResult, Error> {
        Shard::propose(self, command).await
    }

    async fn propose_in(&self, term: Term, command: Command) -> Result<CommandResult, Error> {
        Shard::propose_in(self, term, command).await
    }

    fn on_segments_removed(&self, listener: RemovedListener) {
        Shard::on_segments_removed(self, listener);
    }

    fn segments_dir(&self) -> &Path {
        Shard::segments_dir(self)
    }

    fn io(&self) -> &Arc<dyn Io> {
        Shard::io(self)
    }

    fn records(&self, topic: TopicId, rows: &[(PartitionId, Offset)]) -> Result<Vec<Option<Record>>, Error> {
        Shard::records(self, topic, rows)
    }
}

/// The term in which a replica leads, of what it is in its group. Ends with the last who listens.
fn leading(mut role: watch::Receiver<RoleNow>) -> watch::Receiver<Option<Term>> {
    let of = |role: &RoleNow| role.leads.then_some(role.term);
    let (leading, follows) = watch::channel(of(&role.borrow_and_update()));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = role.changed() => if changed.is_err() { return },
                () = leading.closed() => return,
            }
            let now = of(&role.borrow_and_update());
            leading.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
    });
    follows
}

/// Counts by partition.
pub(super) type PartitionCounts = BTreeMap<PartitionId, u64>;
/// Offsets by partition.
pub(super) type PartitionEnds = BTreeMap<PartitionId, Offset>;
