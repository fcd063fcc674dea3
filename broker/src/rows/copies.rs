//! Column segments on other replicas: those that are to have what this one builds, and those that have what it misses.

use async_trait::async_trait;
use stratalog_proto::{Error, NodeId, ShardId, Term};
use stratalog_storage::SegmentMeta;

use crate::pull::SegmentBytes;

/// The other replicas of a node's shards, as far as column segments go.
#[async_trait]
pub(crate) trait SegmentCopies: Send + Sync + 'static {
    /// Has the other replicas get the files of segments that this node is about to propose as the leader of `term`, and
    /// returns once a majority of the voters, this one included, has them durably: so that losing this node then never
    /// loses the only copy. The others go on in the background.
    ///
    /// # Errors
    /// [`Code::Unavailable`](stratalog_proto::Code::Unavailable) if no majority has them in time: nothing may be proposed.
    async fn hold(&self, shard: ShardId, term: Term, segments: &[SegmentMeta]) -> Result<(), Error>;

    /// Tells the other replicas that no command will ever name these segments. Waits for nobody; who does not hear of it
    /// finds out in a later term.
    fn release(&self, shard: ShardId, term: Term, segments: &[SegmentMeta]);

    /// The file of a segment from `offset` on: from `source`, or from any replica that has it. What comes is not checked.
    ///
    /// # Errors
    /// [`Code::Unavailable`](stratalog_proto::Code::Unavailable) if nobody who can be reached has it.
    async fn fetch(
        &self,
        shard: ShardId,
        segment: &SegmentMeta,
        source: Option<NodeId>,
        offset: u64,
    ) -> Result<SegmentBytes, Error>;

    /// The present by which rows of a shard are too old, in nanoseconds since the epoch: the lowest clock of a majority of
    /// its voters, of the majority that is furthest ahead. So no single clock that is fast drops anything early, and none
    /// that is slow keeps it for ever. `None` if no majority tells.
    async fn clock_ns(&self, shard: ShardId) -> Option<i64>;

    /// Whether the shard has another replica.
    fn may_have(&self, shard: ShardId) -> bool;

    /// Whether the nodes of all other replicas answer now.
    async fn all_answer(&self, shard: ShardId) -> bool;
}
