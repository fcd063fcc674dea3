//! Column segments for other nodes: getting what a leader is about to propose, and giving what this node has.

use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::{Code, Error, NodeId, SegmentId, ShardId, Term};
use stratalog_storage::{SegmentHandle, SegmentMeta};

use super::replica::Replica;
use super::runtime::Rows;

impl Rows {
    /// Gets segments that the leader of a shard is about to propose from that node, and returns once they are durable here.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if the shard has no replica here; [`Code::NotLeader`] if this one knows of a later leader;
    /// [`Code::Timeout`] if they have not come in `wait`, after which the leader has given up; those of fetching them.
    pub(crate) async fn hold(
        &self,
        shard: ShardId,
        term: Term,
        source: NodeId,
        segments: Vec<SegmentMeta>,
        wait: Duration,
    ) -> Result<(), Error> {
        let replica = self.replica(shard)?;
        check_leader(&replica, term, source)?;
        let segments: Vec<_> = segments.into_iter().map(Arc::new).collect();
        replica.files.claim(segments.iter().map(|meta| meta.id), term);
        let got = tokio::time::timeout(wait, self.puller.get_all(&replica, &segments, source)).await;
        // Whatever becomes of the command, somebody looks whether these files are still needed.
        replica.garbage.suspect();
        let late = || Error::new(Code::Timeout, format!("not all of {} segments came in {wait:?}", segments.len()));
        got.map_err(|_| late())??;
        // Files of a leader of before may have been collected meanwhile.
        check_leader(&replica, term, source)
    }

    /// Lets go of segments that a leader had held, and will not propose.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if the shard has no replica here.
    pub(crate) async fn release(&self, shard: ShardId, term: Term, ids: Vec<SegmentId>) -> Result<(), Error> {
        let (replica, log) = (self.replica(shard)?, self.replica(shard)?.log.clone());
        let released = tokio::task::spawn_blocking(move || {
            let files = &replica.files;
            files.give_up(term, &ids);
            let unnamed = files.unnamed(|| log.manifest())?;
            files.remove(files.claimed_by(term, &ids).intersection(&unnamed));
            Ok(())
        });
        released.await.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("a release failed: {panic}"))))
    }

    /// A segment whose file is here, named by the manifest or not. The file stays while this is held.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if it is not.
    pub(crate) fn segment(&self, shard: ShardId, meta: SegmentMeta) -> Result<Arc<SegmentHandle>, Error> {
        let (replica, id) = (self.replica(shard)?, meta.id);
        replica.files.handle_of(&Arc::new(meta)).ok_or_else(|| {
            let message = format!("column segment {id} of shard {shard} is not on this node");
            Error::new(Code::Unavailable, message)
        })
    }

    fn replica(&self, shard: ShardId) -> Result<Arc<Replica>, Error> {
        let missing = || Error::new(Code::Unavailable, format!("this node has no replica of shard {shard}"));
        self.replicas.get(shard).ok_or_else(missing)
    }
}

/// Whether a node may still lead a shard in a term, as far as its replica here knows.
///
/// # Errors
/// [`Code::NotLeader`].
fn check_leader(replica: &Replica, term: Term, source: NodeId) -> Result<(), Error> {
    let (shard, knows) = (replica.log.id(), replica.log.current_term());
    if knows > term || replica.led().is_some_and(|led| led.term >= term) {
        let message = format!("node {source} led shard {shard} in term {term}; this replica knows term {knows}");
        return Err(Error::new(Code::NotLeader, message));
    }
    Ok(())
}
