//! The replay segment files of a shard: which are here, which apply has asked for, and which may go.
//!
//! Apply tells the store what it did to the manifest and does not wait: [`RecStore::expect`] and [`RecStore::retire`]
//! only queue. The roller builds what is missing and unlinks what is condemned.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, SegmentId, ShardId};
use stratalog_storage::{Io, RecHandle, RecMeta, RecReader, rec_file_name};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pull::partial_name;
use crate::shard::PendingRec;

mod arrival;
mod found;
mod reconcile;

use found::Found;

pub(crate) use arrival::RecArrival;

#[cfg(test)]
pub(crate) use reconcile::Reconciled;

/// The files of one shard.
pub(crate) struct RecStore {
    io: Arc<dyn Io>,
    dir: PathBuf,
    shard: ShardId,
    files: Mutex<Files>,
    /// Other segments may be wanted than before.
    news: Notify,
    /// Held as long as files may be written or unlinked.
    _keep: Arc<dyn Send + Sync>,
}

#[derive(Default)]
struct Files {
    /// Whole and durable, one handle each.
    local: HashMap<SegmentId, Arc<RecHandle>>,
    /// Named by the manifest and found unusable, with the reason.
    damaged: HashMap<SegmentId, String>,
    /// Segments that are here and were found damaged while they were in use: each stays, and serves what it has, until a
    /// whole copy takes the place of its file; whether one has. If it is found damaged again, no further copy helps.
    replaced: HashMap<SegmentId, bool>,
    /// Rolled or rewritten by an applied command, not here yet, in the order of the commands.
    expected: VecDeque<PendingRec>,
    /// Those of them that could not be made: other replicas may have them.
    asked: HashSet<SegmentId>,
    /// Segments that are being made or fetched, each with what ends that.
    arriving: HashMap<SegmentId, CancellationToken>,
    /// Expected ones that may need another replica: making them has failed, or the log that they are of has jumped.
    unsure: HashSet<SegmentId>,
    /// Those that cannot be made any more, with what they were to be made of: it stays until they come from elsewhere.
    given_up: HashMap<SegmentId, Arc<RecMeta>>,
    /// Not here, or not whole, and no entry that they hold is in the log: that need not stay for them.
    lost: HashSet<SegmentId>,
    /// Files of the last start that nobody has named yet.
    found: Found,
    /// No longer in the manifest.
    retired: Vec<Arc<RecMeta>>,
    /// Grows with each change of what is here and what is lost.
    changes: u64,
}

impl Files {
    /// Whether a file is here of which nobody knows that it is damaged.
    fn is_whole(&self, id: SegmentId) -> bool {
        self.local.contains_key(&id) && self.replaced.get(&id) != Some(&false)
    }

    /// Files of which reading failed, and that nobody has looked into.
    fn suspects(&self) -> impl Iterator<Item = &Arc<RecHandle>> {
        let is_suspect =
            |handle: &&Arc<RecHandle>| handle.damage().is_some() && !self.replaced.contains_key(&handle.meta.id);
        self.local.values().filter(is_suspect)
    }

    /// A segment is not waited for any more. What it would have been made of goes, and is not waited for either: a segment
    /// that was rewritten twice is not made again once its last form is here.
    fn forget_expected(&mut self, id: SegmentId) {
        let mut next = Some(id);
        while let Some(id) = next {
            let source = match self.take_expected(id) {
                Some(pending) => pending.replaces,
                None => self.given_up.remove(&id),
            };
            next = self.supersede(source);
        }
    }

    fn is_expected(&self, id: SegmentId) -> bool {
        self.expected.iter().any(|pending| pending.meta.id == id)
    }

    fn take_expected(&mut self, id: SegmentId) -> Option<PendingRec> {
        self.asked.remove(&id);
        let at = self.expected.iter().position(|pending| pending.meta.id == id)?;
        self.unsure.remove(&id);
        self.expected.remove(at)
    }

    /// Whoever makes or fetches a segment need not go on; if it comes nonetheless, it goes at once.
    fn give_up_arrival(&self, id: SegmentId) {
        if let Some(arrival) = self.arriving.get(&id) {
            arrival.cancel();
        }
    }

    /// Whether a segment that is not here is sure to come of what is: of the log, which stays until then (L4), or of the
    /// segment that it replaces.
    fn can_make(&self, id: SegmentId) -> bool {
        let mut made = Some(id);
        while let Some(id) = made {
            let pending = self.expected.iter().find(|pending| pending.meta.id == id);
            let Some(pending) = pending.filter(|_| !self.unsure.contains(&id)) else { return false };
            let source = pending.replaces.as_ref().map(|meta| meta.id);
            made = source.filter(|source| !self.local.contains_key(source));
        }
        true
    }

    /// Whether others are asked for a segment, or for one that it is to be made of: that may have left the manifest, so that
    /// nobody would fetch it any more.
    fn is_asked(&self, id: SegmentId) -> bool {
        let mut made = Some(id);
        while let Some(id) = made {
            if self.asked.contains(&id) {
                return true;
            }
            let pending = self.expected.iter().find(|pending| pending.meta.id == id);
            made = pending.and_then(|pending| pending.replaces.as_ref()).map(|source| source.id);
        }
        false
    }

    /// What segments are made of that are not here yet.
    fn sources(&self) -> impl Iterator<Item = &Arc<RecMeta>> {
        self.expected.iter().filter_map(|pending| pending.replaces.as_ref()).chain(self.given_up.values())
    }

    /// What a segment replaces goes, and need not come if it is on its way; its id, if there is one.
    fn supersede(&mut self, replaced: Option<Arc<RecMeta>>) -> Option<SegmentId> {
        let id = replaced.as_ref()?.id;
        self.give_up_arrival(id);
        self.retired.extend(replaced);
        Some(id)
    }
}

impl RecStore {
    /// The files in `dir`, of which none is known yet. `keep` is dropped once the store does not write any more.
    pub(crate) fn new(io: Arc<dyn Io>, dir: &Path, shard: ShardId, keep: Arc<dyn Send + Sync>) -> Self {
        Self { io, dir: dir.to_owned(), shard, files: Mutex::default(), news: Notify::new(), _keep: keep }
    }

    /// The disk.
    pub(crate) fn io(&self) -> &Arc<dyn Io> {
        &self.io
    }

    /// Where the files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The shard.
    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    /// The file of a segment that the manifest named a moment ago. Touches no disk.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if the file is not here: it is on its way, or the segment has left the manifest since; who
    /// looks into the manifest again knows which. [`Code::CorruptData`] if it was found damaged (L5). Both name the
    /// offsets that cannot be read.
    pub(crate) fn get(&self, meta: &Arc<RecMeta>) -> Result<Arc<RecHandle>, Error> {
        let files = self.files.lock();
        if let Some(handle) = files.local.get(&meta.id) {
            return Ok(Arc::clone(handle));
        }
        let (code, why) = match files.damaged.get(&meta.id) {
            Some(why) => (Code::CorruptData, why.as_str()),
            None => (Code::Unavailable, "its file is not on this node"),
        };
        let (shard, id, offsets) = (self.shard, meta.id, offsets_of(meta));
        Err(Error::new(code, format!("replay segment {id} of shard {shard} cannot be read: {why}; it holds {offsets}")))
    }

    /// A reader of a segment; the first use of a file opens it, which blocks.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Code::CorruptData`] or [`Code::Io`] for a file that cannot be opened.
    pub(crate) fn reader(&self, meta: &Arc<RecMeta>) -> Result<Arc<RecReader>, Error> {
        Ok(self.get(meta)?.reader()?)
    }

    /// Whether the file of a segment is here.
    pub(crate) fn has(&self, id: SegmentId) -> bool {
        self.files.lock().local.contains_key(&id)
    }

    /// The segments among `live` of which a whole file is wanted: those whose files are not here, and damaged ones.
    pub(crate) fn missing<'a>(&self, live: impl IntoIterator<Item = &'a Arc<RecMeta>>) -> Vec<Arc<RecMeta>> {
        let files = self.files.lock();
        live.into_iter().filter(|meta| !files.is_whole(meta.id)).cloned().collect()
    }

    /// The segments whose files are here, as far as anybody knows whole.
    pub(crate) fn whole(&self) -> Vec<SegmentId> {
        let files = self.files.lock();
        files.local.keys().copied().filter(|id| files.is_whole(*id)).collect()
    }

    /// The file of a segment, if it is here.
    pub(crate) fn handle_of(&self, id: SegmentId) -> Option<Arc<RecHandle>> {
        self.files.lock().local.get(&id).cloned()
    }

    /// Reading a segment by this handle has shown that its file is not what was written: it is looked into, also where a
    /// whole copy had come in its place before.
    pub(crate) fn suspect(&self, handle: &Arc<RecHandle>) {
        let files = &mut *self.files.lock();
        let id = handle.meta.id;
        if let Some(known) = files.local.get_mut(&id) {
            *known = Arc::clone(handle);
            if files.replaced.get(&id) == Some(&true) {
                files.replaced.remove(&id);
            }
            self.news.notify_one();
        }
    }

    /// Whether reading a file has failed in a way that nobody has looked into.
    pub(crate) fn has_suspects(&self) -> bool {
        self.files.lock().suspects().next().is_some()
    }

    /// Reads files again of which reading failed, all of each: those that are damaged are [missing](Self::missing) from now
    /// on, though what is whole of them is still read; each with what is wrong. Blocks on the disk.
    pub(crate) fn look_into_suspects(&self) -> Vec<(Arc<RecMeta>, String)> {
        let suspects: Vec<Arc<RecHandle>> = self.files.lock().suspects().cloned().collect();
        suspects.iter().filter_map(|suspect| self.look_into(suspect)).collect()
    }

    fn look_into(&self, suspect: &Arc<RecHandle>) -> Option<(Arc<RecMeta>, String)> {
        // It has found nothing yet.
        let again = Arc::new(self.handle(&suspect.meta));
        let is_whole = again.verify().is_ok();
        let files = &mut *self.files.lock();
        let is_here = |known: &Arc<RecHandle>| Arc::ptr_eq(known, suspect);
        let known = files.local.get_mut(&suspect.meta.id).filter(|known| is_here(known))?;
        if is_whole {
            // The device has come to itself.
            *known = again;
            return None;
        }
        // Where too many files are open, say, it cannot be told now.
        let what = again.damage()?.to_owned();
        files.replaced.insert(suspect.meta.id, false);
        files.changes += 1;
        Some((Arc::clone(&suspect.meta), what))
    }

    /// The segments among `live` that this replica would need another one for: they are [missing](Self::missing), and it
    /// cannot make them of what it has.
    pub(crate) fn lacking<'a>(&self, live: impl IntoIterator<Item = &'a Arc<RecMeta>>) -> Vec<Arc<RecMeta>> {
        let files = self.files.lock();
        let lacks = |meta: &&Arc<RecMeta>| !files.is_whole(meta.id) && !files.can_make(meta.id);
        live.into_iter().filter(lacks).cloned().collect()
    }

    /// An applied command brought segments into the manifest. Those that this replica did not build wait for the roller;
    /// what they replace goes once they are here.
    pub(crate) fn expect(&self, rolled: Vec<PendingRec>) {
        let files = &mut *self.files.lock();
        for pending in rolled {
            if files.local.contains_key(&pending.meta.id) {
                if let Some(id) = files.supersede(pending.replaces) {
                    files.forget_expected(id);
                }
            } else {
                files.expected.push_back(pending);
            }
        }
    }

    /// An applied command took segments out of the manifest.
    pub(crate) fn retire(&self, removed: impl IntoIterator<Item = Arc<RecMeta>>) {
        let files = &mut *self.files.lock();
        for meta in removed {
            files.forget_expected(meta.id);
            files.give_up_arrival(meta.id);
            files.retired.push(meta);
        }
    }

    /// A segment that was to be made of another one cannot be: it is [missing](Self::missing) from now on. The other one
    /// stays until the segment is here or is not needed any more: most of it may be whole.
    pub(crate) fn give_up(&self, id: SegmentId) {
        let files = &mut *self.files.lock();
        if let Some(source) = files.take_expected(id).and_then(|pending| pending.replaces) {
            files.given_up.insert(id, source);
            files.changes += 1;
            self.news.notify_one();
        }
    }

    /// Making a segment has failed: until it is here, this replica [lacks](Self::lacking) it.
    pub(crate) fn note_unmade(&self, id: SegmentId) {
        let files = &mut *self.files.lock();
        if files.expected.iter().any(|pending| pending.meta.id == id) {
            files.unsure.insert(id);
        }
    }

    /// No entry of a segment that is not here, or not whole, is in the log: nothing has to stay for its sake.
    pub(crate) fn lose(&self, id: SegmentId) {
        let files = &mut *self.files.lock();
        if !files.is_whole(id) && files.lost.insert(id) {
            files.changes += 1;
        }
    }

    /// The first of `live` that is not here, or not whole, while the log may still hold entries of it (L4): until a whole file
    /// is here, the log may not go, though Raft does not read it any more. It may be the last good copy.
    pub(crate) fn first_owed<'a>(&self, live: impl IntoIterator<Item = &'a Arc<RecMeta>>) -> Option<SegmentId> {
        let files = self.files.lock();
        let owed = |id: &SegmentId| !files.is_whole(*id) && !files.lost.contains(id);
        live.into_iter().map(|meta| meta.id).find(owed)
    }

    /// Another number than before if other segments may be here, or be lost.
    pub(crate) fn changes(&self) -> u64 {
        self.files.lock().changes
    }

    /// The state was replaced by one with these segments. What is not among them goes, unless something is to be made of
    /// it; what is and is not here is either still waited for, or [missing](Self::missing).
    pub(crate) fn restored(&self, live: &[Arc<RecMeta>]) {
        let live: HashSet<SegmentId> = live.iter().map(|meta| meta.id).collect();
        let files = &mut *self.files.lock();
        files.expected.retain(|pending| live.contains(&pending.meta.id));
        files.unsure.retain(|id| live.contains(id));
        // The log goes on after the state: what is below may not be readable any more.
        let of_log = files.expected.iter().filter(|pending| pending.replaces.is_none());
        files.unsure.extend(of_log.map(|pending| pending.meta.id));
        files.given_up.retain(|id, _| live.contains(id));
        files.asked.retain(|id| live.contains(id));
        let kept: HashSet<SegmentId> = files.sources().map(|meta| meta.id).chain(live).collect();
        let gone = files.local.values().filter(|handle| !kept.contains(&handle.meta.id));
        files.retired.extend(gone.map(|handle| Arc::clone(&handle.meta)));
        files.arriving.iter().filter(|(id, _)| !kept.contains(id)).for_each(|(_, arrival)| arrival.cancel());
        files.changes += 1;
        self.news.notify_one();
    }

    /// Whether a segment is to be made of this one.
    pub(crate) fn is_source(&self, id: SegmentId) -> bool {
        self.files.lock().sources().any(|source| source.id == id)
    }

    /// Whether a segment that was rolled is not here yet. Only the log and the batches that wait with it can make it (L4):
    /// until it is here, neither may go.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.files.lock().expected.is_empty()
    }

    /// The next segment to make, oldest command first, those last that could not be made before. It stays queued until
    /// [`adopt`](Self::adopt) or a removal.
    pub(crate) fn next_expected(&self) -> Option<PendingRec> {
        let files = self.files.lock();
        let waits_for_source =
            |pending: &PendingRec| pending.replaces.as_ref().is_some_and(|source| files.is_expected(source.id));
        let free = |pending: &&PendingRec| !files.arriving.contains_key(&pending.meta.id) && !waits_for_source(pending);
        files.expected.iter().filter(free).min_by_key(|pending| files.asked.contains(&pending.meta.id)).cloned()
    }

    /// The file of a segment is here, whole and durable. If nobody needs it any more, it goes again.
    pub(crate) fn adopt(&self, meta: Arc<RecMeta>) {
        let handle = Arc::new(self.handle(&meta));
        let files = &mut *self.files.lock();
        files.damaged.remove(&meta.id);
        files.lost.remove(&meta.id);
        files.found.ids.remove(&meta.id);
        files.forget_expected(meta.id);
        match files.replaced.get_mut(&meta.id) {
            // What was found of the file before says nothing of this one.
            Some(is_replaced) => {
                *is_replaced = true;
                files.local.insert(meta.id, handle);
            }
            None => _ = files.local.entry(meta.id).or_insert(handle),
        }
        if files.arriving.get(&meta.id).is_some_and(CancellationToken::is_cancelled) {
            files.retired.push(meta);
        }
        files.changes += 1;
    }

    /// Reads the whole file of a segment, known or not, and compares it with what the manifest says or will say (L4).
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`Code::CorruptData`] naming file and offset if it is another file; [`Code::Io`] if it cannot be read.
    pub(crate) fn verify(&self, meta: &RecMeta) -> Result<(), Error> {
        Ok(self.handle(&Arc::new(meta.clone())).verify()?)
    }

    /// Unlinks the file of a segment that did not come into the manifest (S2). Blocks on the disk.
    pub(crate) fn discard(&self, meta: &RecMeta) {
        let handle = {
            let files = &mut *self.files.lock();
            files.changes += 1;
            files.local.remove(&meta.id)
        };
        let handle = handle.unwrap_or_else(|| Arc::new(self.handle(&Arc::new(meta.clone()))));
        handle.condemn();
    }

    /// Lets the files of retired segments go: each is unlinked when its last reader is done; how many. Blocks on the disk.
    pub(crate) fn unlink_retired(&self) -> usize {
        let (retired, condemned) = self.take_retired();
        condemned.iter().for_each(|handle| handle.condemn());
        retired.iter().for_each(|meta| self.remove_begun(meta.id));
        condemned.len()
    }

    /// Removes what has come of a segment that nobody needs any more. Whoever fetches it does so by itself.
    fn remove_begun(&self, id: SegmentId) {
        let begun = self.dir.join(partial_name(&rec_file_name(id)));
        let is_arriving = self.files.lock().arriving.contains_key(&id);
        if !is_arriving
            && self.io.exists(&begun).unwrap_or(false)
            && let Err(error) = self.io.remove(&begun)
        {
            tracing::warn!(path = %begun.display(), %error, "cannot unlink a replay segment that was not fetched whole");
        }
    }

    /// Whether there is something to unlink.
    pub(crate) fn has_retired(&self) -> bool {
        !self.files.lock().retired.is_empty()
    }

    /// What left the manifest, and the handles of those whose files are here.
    fn take_retired(&self) -> (Vec<Arc<RecMeta>>, Vec<Arc<RecHandle>>) {
        let files = &mut *self.files.lock();
        let gone = std::mem::take(&mut files.retired);
        for meta in &gone {
            files.damaged.remove(&meta.id);
            files.replaced.remove(&meta.id);
            files.lost.remove(&meta.id);
        }
        files.changes += u64::from(!gone.is_empty());
        let condemned = gone.iter().filter_map(|meta| files.local.remove(&meta.id)).collect();
        (gone, condemned)
    }

    fn handle(&self, meta: &Arc<RecMeta>) -> RecHandle {
        RecHandle::new(Arc::clone(&self.io), &self.dir, self.shard, Arc::clone(meta))
    }
}

/// The offsets of a segment, for people; the first few partitions of many.
fn offsets_of(meta: &RecMeta) -> String {
    const SHOWN: usize = 3;
    let ranges = || meta.topics.iter().flat_map(|topic| topic.ranges.iter().map(move |range| (topic.topic, range)));
    let shown: Vec<String> = ranges()
        .take(SHOWN)
        .map(|(topic, range)| {
            format!("offsets {}..{} of topic {topic}, partition {}", range.first, range.next, range.partition)
        })
        .collect();
    let more = ranges().count().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and of {more} more partitions", shown.join(", ")) }
}

#[cfg(test)]
mod tests;
