//! The column segment files of a shard: one handle each while the manifest names it, and the files that it does not.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, SegmentId, ShardId};
use stratalog_storage::col::segment_file_name;
use stratalog_storage::{Io, Manifest, SegmentHandle, SegmentMeta};

/// Handles of live segments. The lock is held while the manifest is read, so that no handle is made of a segment whose
/// file a removal has already let go.
pub(super) struct SegmentFiles {
    io: Arc<dyn Io>,
    dir: PathBuf,
    shard: ShardId,
    handles: Mutex<HashMap<SegmentId, Arc<SegmentHandle>>>,
}

impl SegmentFiles {
    pub(super) fn new(io: Arc<dyn Io>, dir: &Path, shard: ShardId) -> Self {
        Self { io, dir: dir.to_owned(), shard, handles: Mutex::default() }
    }

    /// Handles of the segments that `live` reads from the manifest, and what it reads beside them.
    pub(super) fn resolve<R>(&self, live: impl FnOnce() -> (Vec<Arc<SegmentMeta>>, R)) -> (Vec<Arc<SegmentHandle>>, R) {
        let mut handles = self.handles.lock();
        let (metas, rest) = live();
        let resolved =
            metas.into_iter().map(|meta| handles.entry(meta.id).or_insert_with(|| self.handle(meta)).clone());
        (resolved.collect(), rest)
    }

    fn handle(&self, meta: Arc<SegmentMeta>) -> Arc<SegmentHandle> {
        Arc::new(SegmentHandle::new(self.io.clone(), &self.dir, self.shard, meta))
    }

    /// Lets the files of segments go that are no longer in the manifest: each is unlinked when its last reader is done.
    /// Blocks on the disk.
    pub(super) fn condemn(&self, removed: &[Arc<SegmentMeta>]) {
        let mut handles = self.handles.lock();
        let condemned: Vec<_> =
            removed.iter().map(|meta| handles.remove(&meta.id).unwrap_or_else(|| self.handle(meta.clone()))).collect();
        drop(handles);
        condemned.iter().for_each(|handle| handle.condemn());
    }

    /// Unlinks the files of a seal that did not apply (S2). Blocks on the disk.
    pub(super) fn discard(&self, metas: &[SegmentMeta]) {
        for meta in metas {
            let path = self.dir.join(segment_file_name(meta.id));
            if let Err(error) = self.io.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot unlink a segment that was not sealed");
            }
        }
    }

    /// Unlinks every file that the manifest does not name: left by a crash between build and seal, or between drop and
    /// unlink. Only while nobody seals. Blocks on the disk.
    ///
    /// # Errors
    /// [`Code::Io`] if the directory cannot be listed; a file that stays behind is only reported.
    pub(super) fn collect_garbage(&self, manifest: &Manifest) -> Result<usize, Error> {
        let live: HashSet<String> = manifest.segment_ids().map(segment_file_name).collect();
        let listed = self.io.list(&self.dir).map_err(|error| {
            Error::new(Code::Io, format!("cannot list the segments in {}: {error}", self.dir.display()))
        })?;
        let mut removed = 0;
        for name in listed.into_iter().filter(|name| is_segment_file(name) && !live.contains(name)) {
            match self.io.remove(&self.dir.join(&name)) {
                Ok(()) => removed += 1,
                Err(error) => {
                    tracing::warn!(dir = %self.dir.display(), name, %error, "cannot unlink a garbage segment")
                }
            }
        }
        Ok(removed)
    }
}

/// Whether a file is ours to remove: a column segment, or one that was never finished.
fn is_segment_file(name: &str) -> bool {
    name.ends_with(".col") || name.contains(".col.")
}
