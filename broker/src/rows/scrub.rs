//! Column segments of all replicas, for a scrub.

use std::sync::Arc;

use stratalog_proto::{SegmentId, ShardId};
use stratalog_storage::SegmentHandle;

use super::runtime::Rows;

impl Rows {
    /// The live segments of a replica whose files are here, and not known to be damaged.
    pub(crate) fn whole_segments(&self, shard: ShardId) -> Vec<SegmentId> {
        let Some(replica) = self.replicas.get(shard) else { return Vec::new() };
        let manifest = replica.log.manifest();
        manifest.segment_ids().filter(|id| replica.files.has(*id)).collect()
    }

    /// The file of a live segment, which stays in its place while this is held; `None` if it is not here, or the segment is
    /// live no longer.
    pub(crate) fn segment_here(&self, shard: ShardId, id: SegmentId) -> Option<Arc<SegmentHandle>> {
        let replica = self.replicas.get(shard)?;
        let manifest = replica.log.manifest();
        let meta = manifest.topics().find_map(|(_, live)| live.segments.get(&id))?;
        replica.files.handle_of(meta)
    }

    /// A live segment has turned out to be damaged: a whole copy of another replica is to take its place.
    pub(crate) fn suspect(&self, handle: &Arc<SegmentHandle>) {
        let Some(replica) = self.replicas.get(handle.shard) else { return };
        replica.files.suspect(handle, |id| replica.log.manifest().segment_ids().any(|live| live == id));
        replica.wanted.notify_one();
    }
}
