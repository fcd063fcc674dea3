//! Files that were here at a start, and that the saved state does not name.
//!
//! Where others vote, too, a replica starts before the log behind its newest state file is applied again, and that may name
//! them: a rewritten segment is then the only copy of what it holds. So they stay until they are named, and count as here
//! if they are whole, or until no command can name them any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use stratalog_proto::{Error, SegmentId, Term};
use stratalog_storage::{RecMeta, rec_file_name};

use super::RecStore;

/// Segments with a file that nobody needs so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) ids: BTreeSet<SegmentId>,
    /// Of the last leader that may have proposed a command that names one of them.
    pub(super) term: Term,
}

impl RecStore {
    /// Whether there are files of which it is not known whether they are needed.
    pub(crate) fn has_found(&self) -> bool {
        !self.files.lock().found.ids.is_empty()
    }

    /// Has one of the found files count as here: one of a segment of `live`, the manifest, or of one that is to be made or
    /// that another is to be made of. It is read as a whole before; one that is damaged is made or fetched like any that is
    /// not here (L4). Whether there was one to look at. Blocks on the disk.
    pub(crate) fn recognise(self: &Arc<Self>, live: &[Arc<RecMeta>]) -> bool {
        let Some(meta) = self.next_recognised(live) else { return false };
        // Somebody else may have fetched it meanwhile.
        let verified = self.begin(&meta).map(|arrival| {
            let verified = self.verify(&meta);
            if verified.is_ok() {
                self.adopt(Arc::clone(&meta));
            }
            drop(arrival);
            verified
        });
        if let Some(Err(error)) = verified {
            tracing::warn!(shard = %self.shard, segment = %meta.id, %error,
                "L5: a replay segment that was here at the start is damaged, and comes from the log or from another replica");
        }
        self.files.lock().found.ids.remove(&meta.id);
        true
    }

    fn next_recognised(&self, live: &[Arc<RecMeta>]) -> Option<Arc<RecMeta>> {
        let files = self.files.lock();
        let expected = files.expected.iter().map(|pending| &pending.meta);
        let mut needed = live.iter().chain(expected).chain(files.sources());
        let is_next =
            |meta: &&Arc<RecMeta>| files.found.ids.contains(&meta.id) && !files.arriving.contains_key(&meta.id);
        needed.find(is_next).cloned()
    }

    /// Unlinks the found files that no command will name any more, because one of the term `applied` is applied that is a
    /// later one than that of whoever may have had them built: what was proposed before lies before it in the log, or will
    /// never be applied (S2). `live`: the manifest as it is then, or later. How many. Blocks on the disk.
    ///
    /// # Errors
    /// Those of listing the directory.
    pub(crate) fn unlink_found(&self, live: &[Arc<RecMeta>], applied: Term) -> Result<usize, Error> {
        let unneeded: BTreeSet<String> = {
            let files = &mut *self.files.lock();
            if files.found.term >= applied {
                return Ok(0);
            }
            let needed: BTreeSet<SegmentId> = live
                .iter()
                .chain(files.expected.iter().map(|pending| &pending.meta))
                .chain(files.sources())
                .map(|meta| meta.id)
                .chain(files.arriving.keys().copied())
                .chain(files.local.keys().copied())
                .collect();
            let unneeded = files.found.ids.difference(&needed).copied().collect::<Vec<_>>();
            files.found.ids.retain(|id| needed.contains(id));
            unneeded.into_iter().map(rec_file_name).collect()
        };
        if unneeded.is_empty() {
            return Ok(0);
        }
        let there = self.list()?;
        let missing = self.missing(live);
        Ok(self.unlink_garbage(unneeded.intersection(&there), &missing.iter().collect::<Vec<_>>()))
    }
}
