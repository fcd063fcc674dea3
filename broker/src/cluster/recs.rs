//! Replay segments that the other replicas of a shard have.

use std::sync::Arc;

use async_trait::async_trait;
use stratalog_proto::internal::FetchSegment;
use stratalog_proto::internal::fetch_segment::File;
use stratalog_proto::{Error, ShardId};
use stratalog_storage::RecMeta;

use super::Nodes;
use super::sources::Sources;
use crate::pull::SegmentBytes;
use crate::replay::PeerSegments;

/// The lowest id of a replica that is not the first of a group.
const FIRST_FURTHER_REPLICA: u64 = 2;

/// Gets them from the nodes that have a replica of the shard.
pub(crate) struct NodeSegments {
    nodes: Arc<Nodes>,
    sources: Sources,
}

impl NodeSegments {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Self {
        Self { sources: Sources::new(Arc::clone(&nodes)), nodes }
    }
}

#[async_trait]
impl PeerSegments for NodeSegments {
    async fn fetch(&self, shard: ShardId, meta: &RecMeta, offset: u64) -> Result<SegmentBytes, Error> {
        let request = FetchSegment { shard: shard.0, file: Some(File::Replay(meta.into())), offset };
        self.sources.fetch(shard, &request, None).await
    }

    fn may_have(&self, _shard: ShardId) -> bool {
        let view = self.nodes.view();
        view.nodes.len() > 1 || view.next_replica > FIRST_FURTHER_REPLICA
    }
}
