//! Replay segments that other replicas have.

use std::sync::Arc;

use async_trait::async_trait;
use stratalog_proto::{Error, ShardId};
use stratalog_storage::RecMeta;

use crate::pull::{SegmentBytes, Way};

/// Where a replica gets a segment from that it cannot make itself.
#[async_trait]
pub(crate) trait PeerSegments: Send + Sync + 'static {
    /// The file of a segment, from `offset` on. What comes is checked against `meta`.
    ///
    /// # Errors
    /// [`Code::Unavailable`](stratalog_proto::Code::Unavailable) if no peer that can be reached has it.
    async fn fetch(&self, shard: ShardId, meta: &RecMeta, offset: u64) -> Result<SegmentBytes, Error>;

    /// Whether the shard has, or may have had, another replica: then a segment that is not here may have come with a
    /// snapshot of that one, and this replica's own log may be all that there is of it beside.
    fn may_have(&self, shard: ShardId) -> bool;
}

/// The other replicas, and how files come from them.
#[derive(Clone)]
pub(crate) struct SegmentSources {
    pub(crate) peers: Arc<dyn PeerSegments>,
    pub(crate) way: Arc<Way>,
}

/// No peers: a single node.
#[cfg(test)]
pub(crate) struct NoSegments;

#[cfg(test)]
#[async_trait]
impl PeerSegments for NoSegments {
    async fn fetch(&self, shard: ShardId, meta: &RecMeta, _: u64) -> Result<SegmentBytes, Error> {
        let message = format!("no other replica of shard {shard} is known that could have replay segment {}", meta.id);
        Err(Error::new(stratalog_proto::Code::Unavailable, message))
    }

    fn may_have(&self, _: ShardId) -> bool {
        false
    }
}
