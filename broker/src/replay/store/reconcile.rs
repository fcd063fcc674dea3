//! The look at a shard's directory at a start: which segments are here, and which files are nobody's.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use stratalog_proto::{Code, Error, SegmentId, Term};
use stratalog_storage::{RecMeta, RecReader, rec_file_name};
use uuid::Uuid;

use super::RecStore;
use super::found::Found;
use crate::pull::partial_name;

/// What a look at the directory found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reconciled {
    /// Files that no manifest names and no command can; they are removed.
    pub(crate) garbage: usize,
    /// Segments of the manifest without a usable file.
    pub(crate) missing: usize,
}

impl RecStore {
    /// Finds the files of `live`, the manifest as far as it is applied, and unlinks those that nobody can need any more:
    /// left by a crash between build and Roll, or between removal and unlink. Only while nobody builds. Blocks on the disk.
    ///
    /// `unapplied`: the log may hold commands that are still to be applied, of leaders up to this term. What they may name
    /// stays, and is looked for again as they are [applied](RecStore::recognise).
    ///
    /// A segment that is still waited for is read as a whole before it counts as here: what it can be made of goes then
    /// (L4). A file that no manifest names, and that covers the entries of a missing segment, stays: that segment may have
    /// been a part of it.
    ///
    /// # Errors
    /// [`Code::Io`] if the directory cannot be listed. A file that is damaged or stays behind is only reported.
    pub(crate) fn reconcile(&self, live: &[Arc<RecMeta>], unapplied: Option<Term>) -> Result<Reconciled, Error> {
        let listed = self.list()?;
        // A kill may have come between a file's rename and the sync of its name; from here on log files go because it is
        // there (L4).
        self.io.sync_dir(&self.dir).map_err(|error| self.not_listed(&error))?;
        let missing: Vec<&Arc<RecMeta>> = live.iter().filter(|meta| !self.open_listed(meta, &listed)).collect();
        let needed: HashSet<String> = {
            let files = self.files.lock();
            let named = live.iter().chain(files.sources()).map(|meta| rec_file_name(meta.id));
            // What has come of a segment that is still to come.
            named.chain(missing.iter().map(|meta| partial_name(&rec_file_name(meta.id)))).collect()
        };
        let unnamed = listed.iter().filter(|name| is_rec_file(name) && !needed.contains(*name));
        let (found, garbage): (Vec<_>, Vec<_>) =
            unnamed.partition(|name| unapplied.is_some() && whole_segment(name).is_some());
        let garbage = self.unlink_garbage(garbage.into_iter(), &missing);
        self.files.lock().found = Found {
            ids: found.into_iter().filter_map(|name| whole_segment(name)).collect(),
            term: unapplied.unwrap_or_default(),
        };
        self.adopt_sources(&listed);
        Ok(Reconciled { garbage, missing: missing.len() })
    }

    /// The names of the files in the directory. Blocks on the disk.
    pub(super) fn list(&self) -> Result<BTreeSet<String>, Error> {
        let listed = self.io.list(&self.dir).map_err(|error| self.not_listed(&error))?;
        Ok(listed.into_iter().collect())
    }

    fn not_listed(&self, error: &std::io::Error) -> Error {
        Error::new(Code::Io, format!("cannot list the segments in {}: {error}", self.dir.display()))
    }

    /// Unlinks files that no manifest names, but for those that have what is `missing`; how many. One that stays behind is
    /// only reported. Blocks on the disk.
    pub(super) fn unlink_garbage<'a>(
        &self,
        names: impl Iterator<Item = &'a String>,
        missing: &[&Arc<RecMeta>],
    ) -> usize {
        let cannot_be_made = missing.iter().any(|meta| !self.files.lock().is_expected(meta.id));
        let removed = names.filter(|name| {
            if cannot_be_made && self.covers_one_of(name, missing) {
                tracing::warn!(dir = %self.dir.display(), name, "L5: kept for a replay segment that is not on this node");
                return false;
            }
            let removed = self.io.remove(&self.dir.join(name));
            if let Err(error) = &removed {
                tracing::warn!(dir = %self.dir.display(), name, %error, "cannot unlink a garbage replay segment");
            }
            removed.is_ok()
        });
        removed.count()
    }

    /// Opens the file of a live segment; whether it can be used. A damaged file stays where it is: it may be the only copy,
    /// and most of it may be whole (L5).
    fn open_listed(&self, meta: &Arc<RecMeta>, listed: &BTreeSet<String>) -> bool {
        if self.has(meta.id) {
            return true;
        }
        let expected = self.files.lock().is_expected(meta.id);
        if !listed.contains(&rec_file_name(meta.id)) {
            if !expected {
                tracing::error!(shard = %self.shard, segment = %meta.id, "L5: a replay segment is not on this node");
            }
            return false;
        }
        let handle = self.handle(meta);
        // The footer tells whether it is the file that is meant; its blocks are checked as they are read. What can still be
        // made again is, before that becomes impossible.
        let opened = if expected { handle.verify() } else { handle.reader().map(drop) };
        match opened {
            Ok(()) => {
                self.adopt(Arc::clone(meta));
                true
            }
            Err(error) if expected => {
                tracing::warn!(shard = %self.shard, segment = %meta.id, %error, "a replay segment is damaged, and made again");
                false
            }
            Err(error) => {
                tracing::error!(shard = %self.shard, segment = %meta.id, %error, "L5: a replay segment is damaged");
                self.files.lock().damaged.insert(meta.id, error.to_string());
                false
            }
        }
    }

    /// Segments that were rewritten, and whose successors are still to be made of them. One that is waited for itself counts
    /// as here only if all of it is whole: what it can be made of goes then (L4).
    fn adopt_sources(&self, listed: &BTreeSet<String>) {
        let sources: Vec<_> = self.files.lock().sources().cloned().collect();
        for meta in sources.into_iter().filter(|meta| listed.contains(&rec_file_name(meta.id))) {
            if !self.files.lock().is_expected(meta.id) {
                let handle = Arc::new(self.handle(&meta));
                self.files.lock().local.entry(meta.id).or_insert(handle);
                continue;
            }
            match self.verify(&meta) {
                Ok(()) => self.adopt(meta),
                Err(error) => {
                    tracing::warn!(shard = %self.shard, segment = %meta.id, %error, "a replay segment is damaged, and made again");
                }
            }
        }
    }

    /// Whether a file is a segment of the same entries as one of these, and has all of its partitions.
    fn covers_one_of(&self, name: &str, missing: &[&Arc<RecMeta>]) -> bool {
        let Ok(reader) = RecReader::open(Arc::clone(&self.io), &self.dir.join(name)) else { return false };
        let topics = reader.topics();
        let held: HashSet<_> =
            topics.iter().flat_map(|of| of.ranges.iter().map(|range| (of.topic, range.partition))).collect();
        missing
            .iter()
            .filter(|meta| (meta.after, meta.through) == (reader.after(), reader.through()))
            .any(|meta| meta.ranges().all(|(topic, range)| held.contains(&(topic, range.partition))))
    }
}

/// Whether a file is ours to remove: a replay segment, or one that was never finished.
fn is_rec_file(name: &str) -> bool {
    name.ends_with(".rec") || name.contains(".rec.")
}

/// The segment whose file this is, if it is one that was finished.
fn whole_segment(name: &str) -> Option<SegmentId> {
    let id = SegmentId(Uuid::try_parse(name.strip_suffix(".rec")?).ok()?);
    (rec_file_name(id) == name).then_some(id)
}
