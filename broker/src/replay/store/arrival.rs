//! Segments on their way into the store, each made or fetched by one at a time.

use std::sync::Arc;

use stratalog_proto::{Error, SegmentId};
use stratalog_storage::{RecMeta, rec_file_name};
use tokio_util::sync::CancellationToken;

use super::RecStore;
use crate::pull::{Arriving, Wanted};

/// A segment that is being made or fetched, as long as this is held.
pub(crate) struct RecArrival {
    store: Arc<RecStore>,
    meta: Arc<RecMeta>,
    given_up: CancellationToken,
}

impl RecStore {
    /// Begins to make or fetch a segment; `None` if its file is here, as far as anybody knows whole, or on its way already.
    pub(crate) fn begin(self: &Arc<Self>, meta: &Arc<RecMeta>) -> Option<RecArrival> {
        let files = &mut *self.files.lock();
        if files.is_whole(meta.id) || files.arriving.contains_key(&meta.id) {
            return None;
        }
        let given_up = CancellationToken::new();
        files.arriving.insert(meta.id, given_up.clone());
        Some(RecArrival { store: Arc::clone(self), meta: Arc::clone(meta), given_up })
    }

    /// A segment that is [expected](Self::next_expected) could not be made: other replicas are asked for it, too. The log that
    /// could make it stays (L4).
    pub(crate) fn ask_others(&self, id: SegmentId) {
        let files = &mut *self.files.lock();
        if files.is_expected(id) && files.asked.insert(id) {
            files.changes += 1;
            self.news.notify_one();
        }
    }

    /// The segments among `live` that are to be fetched: those that are not here, damaged ones included, and that nothing
    /// here can make, as they are or of what could not be made either.
    pub(crate) fn wanted<'a>(&self, live: impl IntoIterator<Item = &'a Arc<RecMeta>>) -> Vec<Arc<RecMeta>> {
        let files = self.files.lock();
        let is_wanted = |id| !files.is_whole(id) && (!files.is_expected(id) || files.is_asked(id));
        live.into_iter().filter(|meta| is_wanted(meta.id)).cloned().collect()
    }

    /// Returns when other segments may be wanted than before.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// The file of a segment, to fetch it.
    pub(crate) fn file_of(&self, meta: &RecMeta) -> Wanted {
        Wanted {
            what: format!("replay segment {} of shard {}", meta.id, self.shard),
            io: Arc::clone(&self.io),
            dir: self.dir.clone(),
            name: rec_file_name(meta.id),
            bytes: meta.bytes,
            blake3: meta.blake3,
        }
    }
}

impl Arriving for RecArrival {
    fn given_up(&self) -> &CancellationToken {
        &self.given_up
    }

    /// L4: what came is read back before anything may go that it stands for.
    fn arrived(&self) -> Result<(), Error> {
        self.store.verify(&self.meta)?;
        self.store.adopt(Arc::clone(&self.meta));
        Ok(())
    }
}

impl Drop for RecArrival {
    fn drop(&mut self) {
        self.store.files.lock().arriving.remove(&self.meta.id);
    }
}
