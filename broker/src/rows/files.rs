//! The column segment files of a shard: one handle each while the manifest names it, and the files that it does not.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, SegmentId, ShardId, Term};
use stratalog_storage::col::segment_file_name;
use stratalog_storage::{FileInUse, Io, Manifest, SegmentHandle, SegmentMeta};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::pull::{Arriving, partial_name};

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
    /// Handles of those that have none of these, while somebody reads a file as it is: it stays for them, too.
    lent: HashMap<SegmentId, Weak<SegmentHandle>>,
    /// Files of segments that are no longer in the manifest, while somebody reads them.
    condemned: HashMap<SegmentId, FileInUse>,
    /// Segments whose files are here; they were whole and durable when they came.
    here: HashSet<SegmentId>,
    /// Those of them that are damaged: each stays where it is, and serves what it has, until a whole copy takes its place.
    replaced: HashMap<SegmentId, Replacing>,
    /// Segments of which a whole file is wanted, and nobody has one.
    lost: HashSet<SegmentId>,
    /// Segments that are being fetched, each with what ends that.
    arriving: HashMap<SegmentId, CancellationToken>,
    /// Of segments that no manifest named when they were seen first: the term of the last leader that may name them.
    unclaimed: HashMap<SegmentId, Term>,
}

/// What becomes of a damaged file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replacing {
    /// A whole copy is wanted.
    Wanted,
    /// It has a copy's bytes already. If it is found damaged again, they are not what is wrong, and no other copy helps.
    Done,
}

/// A segment that is being fetched, as long as this is held.
pub(super) struct Arrival {
    files: Arc<SegmentFiles>,
    id: SegmentId,
    given_up: CancellationToken,
}

impl Arriving for Arrival {
    fn given_up(&self) -> &CancellationToken {
        &self.given_up
    }

    fn arrived(&self) -> Result<(), Error> {
        self.files.arrived(std::iter::once(self.id));
        Ok(())
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.files.state.lock().arriving.remove(&self.id);
    }
}

impl State {
    fn has(&self, id: SegmentId) -> bool {
        self.here.contains(&id) && self.replaced.get(&id) != Some(&Replacing::Wanted)
    }

    fn lent(&self, id: SegmentId) -> Option<Arc<SegmentHandle>> {
        self.lent.get(&id)?.upgrade()
    }

    fn suspects(&self, handle: &SegmentHandle) -> bool {
        handle.damage().is_some() && !self.replaced.contains_key(&handle.meta.id)
    }
}

impl SegmentFiles {
    pub(super) fn new(io: Arc<dyn Io>, dir: &Path, shard: ShardId) -> Self {
        Self { io, dir: dir.to_owned(), shard, state: Mutex::default() }
    }

    /// The disk.
    pub(super) fn io(&self) -> &Arc<dyn Io> {
        &self.io
    }

    /// Where the files are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Looks which files are here. Blocks on the disk.
    ///
    /// # Errors
    /// [`Code::Io`] if the directory cannot be listed.
    pub(super) fn look(&self) -> Result<(), Error> {
        let found = self.list()?;
        self.state.lock().here.extend(found.iter().filter_map(|name| whole_segment(name)));
        Ok(())
    }

    /// The files of these segments are here, whole and durable.
    pub(super) fn arrived(&self, ids: impl Iterator<Item = SegmentId>) {
        let mut state = self.state.lock();
        for id in ids {
            if let Some(replacing) = state.replaced.get_mut(&id) {
                *replacing = Replacing::Done;
            }
            // What was found of the file before says nothing of this one.
            if state.handles.get(&id).is_some_and(|handle| handle.damage().is_some()) {
                state.handles.remove(&id);
            }
            state.here.insert(id);
            state.lost.remove(&id);
        }
    }

    /// Whether the file of a segment is here, and not known to be damaged.
    pub(super) fn has(&self, id: SegmentId) -> bool {
        self.state.lock().has(id)
    }

    /// Whether a whole copy has come in the place of a damaged file.
    pub(super) fn is_replaced(&self, id: SegmentId) -> bool {
        self.state.lock().replaced.get(&id) == Some(&Replacing::Done)
    }

    /// Those of the segments of which a whole file is wanted: first those whose file is here, and damaged.
    pub(super) fn missing<'a>(&self, live: impl Iterator<Item = &'a Arc<SegmentMeta>>) -> Vec<Arc<SegmentMeta>> {
        let state = self.state.lock();
        let wanted = live.filter(|meta| !state.has(meta.id)).cloned();
        let (mut damaged, absent): (Vec<_>, Vec<_>) = wanted.partition(|meta| state.here.contains(&meta.id));
        damaged.extend(absent);
        damaged
    }

    /// Nobody is known to have a whole file of these segments.
    pub(super) fn lose(&self, ids: impl Iterator<Item = SegmentId>) {
        self.state.lock().lost.extend(ids);
    }

    /// Whether there may be segments of which nobody has a whole file.
    pub(super) fn has_lost(&self) -> bool {
        !self.state.lock().lost.is_empty()
    }

    /// Those of the segments of which nobody has a whole file.
    pub(super) fn lost<'a>(&self, live: impl Iterator<Item = &'a Arc<SegmentMeta>>) -> Vec<Arc<SegmentMeta>> {
        let state = self.state.lock();
        live.filter(|meta| state.lost.contains(&meta.id) && !state.has(meta.id)).cloned().collect()
    }

    /// How many of the segments have no file here, damaged or not.
    pub(super) fn absent<'a>(&self, live: impl Iterator<Item = &'a Arc<SegmentMeta>>) -> usize {
        let state = self.state.lock();
        live.filter(|meta| !state.here.contains(&meta.id)).count()
    }

    /// Whether reading a file has failed in a way that nobody has looked into.
    pub(super) fn has_suspects(&self) -> bool {
        let state = self.state.lock();
        state.handles.values().any(|handle| state.suspects(handle))
    }

    /// Reading a segment by `handle` has shown that its file is not what was written. If it is live still, it is looked into,
    /// also where a whole copy had come in its place before.
    pub(super) fn suspect(&self, handle: &Arc<SegmentHandle>, is_live: impl FnOnce(SegmentId) -> bool) {
        let mut state = self.state.lock();
        let id = handle.meta.id;
        if !is_live(id) {
            return;
        }
        if state.replaced.get(&id) == Some(&Replacing::Done) {
            state.replaced.remove(&id);
        }
        state.handles.insert(id, handle.clone());
    }

    /// Reads files again of which reading failed, all of each: those that are damaged are missing from now on, each with what
    /// is wrong. Blocks on the disk.
    pub(super) fn look_into_suspects(&self) -> Vec<(Arc<SegmentMeta>, String)> {
        let suspects: Vec<Arc<SegmentHandle>> = {
            let state = self.state.lock();
            state.handles.values().filter(|handle| state.suspects(handle)).cloned().collect()
        };
        suspects.iter().filter_map(|handle| self.look_into(handle)).collect()
    }

    fn look_into(&self, suspect: &Arc<SegmentHandle>) -> Option<(Arc<SegmentMeta>, String)> {
        let meta = &suspect.meta;
        // It has found nothing yet.
        let again = self.handle(meta.clone());
        let is_whole = again.verify().is_ok();
        let mut state = self.state.lock();
        let is_missing = !state.here.contains(&meta.id);
        if is_missing || is_whole {
            // It was not there yet when it was read, or the device has come to itself.
            if state.handles.get(&meta.id).is_some_and(|handle| Arc::ptr_eq(handle, suspect)) {
                state.handles.insert(meta.id, again);
            }
            return None;
        }
        // Where too many files are open, say, it cannot be told now.
        let what = again.damage()?.to_owned();
        state.replaced.insert(meta.id, Replacing::Wanted);
        Some((meta.clone(), what))
    }

    /// Begins to fetch a segment; `None` if its file is here and not known to be damaged, or being fetched.
    pub(super) fn expect(self: &Arc<Self>, id: SegmentId) -> Option<Arrival> {
        let mut state = self.state.lock();
        if state.has(id) || state.arriving.contains_key(&id) {
            return None;
        }
        let given_up = CancellationToken::new();
        state.arriving.insert(id, given_up.clone());
        Some(Arrival { files: Arc::clone(self), id, given_up })
    }

    /// Ends the fetches of segments that the leader of this term wanted held, and does not want any more.
    pub(super) fn give_up(&self, term: Term, ids: &[SegmentId]) {
        let state = self.state.lock();
        let claimed = ids.iter().filter(|id| state.unclaimed.get(id) == Some(&term));
        claimed.filter_map(|id| state.arriving.get(id)).for_each(CancellationToken::cancel);
    }

    /// A leader of this term is about to name these segments.
    pub(super) fn claim(&self, ids: impl Iterator<Item = SegmentId>, term: Term) {
        self.state.lock().unclaimed.extend(ids.map(|id| (id, term)));
    }

    /// A handle of a segment for somebody who reads its file as it is; `None` if it is not here.
    pub(super) fn handle_of(&self, meta: &Arc<SegmentMeta>) -> Option<Arc<SegmentHandle>> {
        let mut state = self.state.lock();
        if !state.here.contains(&meta.id) {
            return None;
        }
        let known = state.handles.get(&meta.id).cloned().or_else(|| state.lent(meta.id));
        Some(known.unwrap_or_else(|| {
            let handle = self.handle(meta.clone());
            state.lent.retain(|_, lent| lent.strong_count() > 0);
            state.lent.insert(meta.id, Arc::downgrade(&handle));
            handle
        }))
    }

    /// Handles of the segments that `live` reads from the manifest, and what it reads beside them.
    pub(super) fn resolve<R>(&self, live: impl FnOnce() -> (Vec<Arc<SegmentMeta>>, R)) -> (Vec<Arc<SegmentHandle>>, R) {
        let mut state = self.state.lock();
        let (metas, rest) = live();
        let resolved = metas.into_iter().map(|meta| {
            let lent = state.lent(meta.id);
            state.handles.entry(meta.id).or_insert_with(|| lent.unwrap_or_else(|| self.handle(meta))).clone()
        });
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
        let (mut condemned, mut begun) = (Vec::with_capacity(removed.len()), Vec::new());
        for meta in removed {
            let handle = state.handles.remove(&meta.id).or_else(|| state.lent(meta.id));
            state.lent.remove(&meta.id);
            state.replaced.remove(&meta.id);
            state.lost.remove(&meta.id);
            if !state.here.remove(&meta.id) {
                // What comes of a fetch that is under way is looked after by that.
                begun.extend((!state.arriving.contains_key(&meta.id)).then(|| partial_file_name(meta.id)));
                continue;
            }
            let handle = handle.unwrap_or_else(|| self.handle(meta.clone()));
            state.condemned.insert(meta.id, handle.file_in_use());
            condemned.push(handle);
        }
        drop(state);
        condemned.iter().for_each(|handle| handle.condemn());
        let is_there = |name: &&String| self.io.exists(&self.dir.join(name)).unwrap_or(false);
        self.remove(begun.iter().filter(is_there));
    }

    /// Unlinks the files of a seal that did not apply (S2). Blocks on the disk.
    pub(super) fn discard(&self, metas: &[SegmentMeta]) {
        for meta in metas {
            self.state.lock().here.remove(&meta.id);
            let path = self.dir.join(segment_file_name(meta.id));
            if let Err(error) = self.io.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot unlink a segment that was not sealed");
            }
        }
    }

    /// The names of files that the manifest, as `manifest` reads it, does not name and nobody reads or fetches: left by a
    /// crash between build and seal or between drop and unlink, or about to be named. Blocks on the disk.
    ///
    /// # Errors
    /// [`Code::Io`] if the directory cannot be listed.
    pub(super) fn unnamed(&self, manifest: impl FnOnce() -> Manifest) -> Result<BTreeSet<String>, Error> {
        let mut listed: BTreeSet<String> = self.list()?.into_iter().filter(|name| is_segment_file(name)).collect();
        let mut state = self.state.lock();
        state.condemned.retain(|_, file| file.is_kept());
        let kept = state.handles.keys().chain(state.condemned.keys()).chain(state.arriving.keys()).copied();
        for id in kept.chain(manifest().segment_ids()) {
            listed.remove(&segment_file_name(id));
            listed.remove(&partial_file_name(id));
        }
        Ok(listed)
    }

    /// Files of segments that the leader of this term wanted held, and that nobody fetches any more, finished or not.
    pub(super) fn claimed_by(&self, term: Term, ids: &[SegmentId]) -> BTreeSet<String> {
        let state = self.state.lock();
        let claimed =
            ids.iter().filter(|id| state.unclaimed.get(id) == Some(&term) && !state.arriving.contains_key(id));
        claimed.flat_map(|id| [segment_file_name(*id), partial_file_name(*id)]).collect()
    }

    /// Those of the files that no leader will name any more, now that an entry of the term `applied` is applied: whoever had
    /// them built led in an earlier one. Files that are seen for the first time are taken to be of the `current` term.
    pub(super) fn abandoned(&self, names: BTreeSet<String>, applied: Term, current: Term) -> BTreeSet<String> {
        let ids: HashMap<SegmentId, &String> =
            names.iter().filter_map(|name| Some((segment_of(name)?, name))).collect();
        let mut state = self.state.lock();
        let State { unclaimed, arriving, .. } = &mut *state;
        unclaimed.retain(|id, _| ids.contains_key(id) || arriving.contains_key(id));
        let mut is_abandoned = |id: SegmentId| *unclaimed.entry(id).or_insert(current) < applied;
        ids.iter().filter(|(id, _)| is_abandoned(**id)).map(|(_, name)| (*name).clone()).collect()
    }

    fn list(&self) -> Result<Vec<String>, Error> {
        self.io.list(&self.dir).map_err(|error| {
            Error::new(Code::Io, format!("cannot list the segments in {}: {error}", self.dir.display()))
        })
    }

    /// Unlinks files; how many. One that stays behind is only reported. Blocks on the disk.
    pub(super) fn remove<'a>(&self, names: impl Iterator<Item = &'a String>) -> usize {
        let removed = names.filter(|name| {
            // Before the file goes, so that nobody believes in it.
            whole_segment(name).map(|id| self.state.lock().here.remove(&id));
            let removed = self.io.remove(&self.dir.join(name));
            if let Err(error) = &removed {
                tracing::warn!(dir = %self.dir.display(), name, %error, "cannot unlink a garbage segment");
            }
            removed.is_ok()
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

/// The file of a segment while it is fetched.
pub(super) fn partial_file_name(id: SegmentId) -> String {
    partial_name(&segment_file_name(id))
}

/// The segment whose file this is, finished or not.
fn segment_of(name: &str) -> Option<SegmentId> {
    Uuid::try_parse(name.split('.').next()?).ok().map(SegmentId)
}

/// The segment whose file this is, if it is one that was finished.
fn whole_segment(name: &str) -> Option<SegmentId> {
    segment_of(name).filter(|id| *name == segment_file_name(*id))
}

#[cfg(test)]
mod tests {
    use stratalog_proto::{TimeBucket, TopicId};
    use stratalog_storage::simulation::SimDisk;
    use stratalog_storage::{OpenMode, SegmentKind};

    use super::*;

    fn meta() -> Arc<SegmentMeta> {
        Arc::new(SegmentMeta {
            id: SegmentId::new(),
            topic: TopicId::new(),
            kind: SegmentKind::Column,
            bucket: TimeBucket::of(0, 1),
            min_time_ns: 0,
            max_time_ns: 0,
            max_ingested_ns: 0,
            rows: 1,
            dead_rows: 0,
            bytes: 1,
            ranges: Vec::new(),
            blake3: [0; 32],
            analyzer_version: 1,
        })
    }

    #[test]
    fn a_file_that_is_read_as_it_is_stays_when_the_manifest_lets_it_go() {
        let (disk, dir, meta) = (SimDisk::seeded(1), Path::new("/segments"), meta());
        disk.create_dir_all(dir).unwrap();
        let path = dir.join(segment_file_name(meta.id));
        drop(disk.open(&path, OpenMode::CreateNew).unwrap());
        let files = SegmentFiles::new(Arc::new(disk.clone()), dir, ShardId(1));
        files.arrived(std::iter::once(meta.id));

        let read = files.handle_of(&meta).unwrap();
        let (resolved, ()) = files.resolve(|| (vec![Arc::clone(&meta)], ()));
        assert!(Arc::ptr_eq(&read, &resolved[0]), "one handle each");
        drop(resolved);
        files.condemn(std::slice::from_ref(&meta));
        assert!(disk.exists(&path).unwrap());
        drop(read);
        assert!(!disk.exists(&path).unwrap());
    }
}
