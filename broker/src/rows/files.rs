//! The column segment files of a shard: one handle each while the manifest names it, and the files that it does not.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, SegmentId, ShardId};
use stratalog_storage::col::segment_file_name;
use stratalog_storage::{FileInUse, Io, Manifest, SegmentHandle, SegmentMeta};

/// Handles of live segments. The lock is held while the manifest is read, so that no handle is made of a segment whose
/// file a removal has already let go.
pub(super) struct SegmentFiles {
    io: Arc<dyn Io>,
    dir: PathBuf,
    shard: ShardId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    handles: HashMap<SegmentId, Arc<SegmentHandle>>,
    /// Files of segments that are no longer in the manifest, while somebody reads them.
    condemned: HashMap<SegmentId, FileInUse>,
}

impl SegmentFiles {
    pub(super) fn new(io: Arc<dyn Io>, dir: &Path, shard: ShardId) -> Self {
        Self { io, dir: dir.to_owned(), shard, state: Mutex::default() }
    }

    /// Handles of the segments that `live` reads from the manifest, and what it reads beside them.
    pub(super) fn resolve<R>(&self, live: impl FnOnce() -> (Vec<Arc<SegmentMeta>>, R)) -> (Vec<Arc<SegmentHandle>>, R) {
        let mut state = self.state.lock();
        let (metas, rest) = live();
        let resolved =
            metas.into_iter().map(|meta| state.handles.entry(meta.id).or_insert_with(|| self.handle(meta)).clone());
        (resolved.collect(), rest)
    }

    fn handle(&self, meta: Arc<SegmentMeta>) -> Arc<SegmentHandle> {
        Arc::new(SegmentHandle::new(self.io.clone(), &self.dir, self.shard, meta))
    }

    /// Lets the files of segments go that are no longer in the manifest: each is unlinked when its last reader is done.
    /// Blocks on the disk.
    pub(super) fn condemn(&self, removed: &[Arc<SegmentMeta>]) {
        let mut state = self.state.lock();
        state.condemned.retain(|_, file| file.is_kept());
        let mut condemned = Vec::with_capacity(removed.len());
        for meta in removed {
            let handle = state.handles.remove(&meta.id).unwrap_or_else(|| self.handle(meta.clone()));
            state.condemned.insert(meta.id, handle.file_in_use());
            condemned.push(handle);
        }
        drop(state);
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

    /// The names of files that the manifest, as `manifest` reads it, does not name and nobody reads: left by a crash between
    /// build and seal or between drop and unlink, or about to be named. Blocks on the disk.
    ///
    /// # Errors
    /// [`Code::Io`] if the directory cannot be listed.
    pub(super) fn unnamed(&self, manifest: impl FnOnce() -> Manifest) -> Result<BTreeSet<String>, Error> {
        let mut listed: BTreeSet<String> = self.list()?.into_iter().filter(|name| is_segment_file(name)).collect();
        let mut state = self.state.lock();
        state.condemned.retain(|_, file| file.is_kept());
        let kept = state.handles.keys().chain(state.condemned.keys()).copied();
        for id in kept.chain(manifest().segment_ids()) {
            listed.remove(&segment_file_name(id));
        }
        Ok(listed)
    }

    fn list(&self) -> Result<Vec<String>, Error> {
        self.io.list(&self.dir).map_err(|error| {
            Error::new(Code::Io, format!("cannot list the segments in {}: {error}", self.dir.display()))
        })
    }

    /// Unlinks files; how many. One that stays behind is only reported. Blocks on the disk.
    pub(super) fn remove<'a>(&self, names: impl Iterator<Item = &'a String>) -> usize {
        let removed = names.filter(|name| match self.io.remove(&self.dir.join(name)) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), name, %error, "cannot unlink a garbage segment");
                false
            }
        });
        removed.count()
    }

    /// How many segments have left the manifest while somebody still reads their files.
    #[cfg(test)]
    pub(super) fn lingering(&self) -> usize {
        let mut state = self.state.lock();
        state.condemned.retain(|_, file| file.is_kept());
        state.condemned.len()
    }
}

/// Whether a file is ours to remove: a column segment, or one that was never finished.
fn is_segment_file(name: &str) -> bool {
    name.ends_with(".col") || name.contains(".col.")
}
