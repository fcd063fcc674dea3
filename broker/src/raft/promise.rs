//! Room in the log that is spoken for by what is not in it yet.

use std::sync::Arc;

use parking_lot::Mutex;

use super::log::GroupLog;

/// Bytes promised to the commands of all groups that share a lane, between their admission and the lane.
#[derive(Clone, Default)]
pub(super) struct Promises(Arc<Mutex<u64>>);

/// A part of them. It is kept when the entry is in the lane, or will never be: dropping it gives the bytes back.
pub(crate) struct Promise {
    promises: Promises,
    bytes: u64,
}

impl Promises {
    /// Promises `bytes` if what is promised already leaves them, and `reserve` more, in the log's room.
    ///
    /// # Errors
    /// The bytes that could still be promised.
    pub(super) fn make(&self, bytes: u64, reserve: u64, log: &GroupLog) -> Result<Promise, u64> {
        let mut promised = self.0.lock();
        // Room is read while nothing can be given back: an entry on its way into the lane is counted twice rather than
        // not at all.
        let left = log.room_bytes().saturating_sub(*promised).saturating_sub(reserve);
        if bytes > left {
            return Err(left);
        }
        *promised += bytes;
        Ok(Promise { promises: self.clone(), bytes })
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        *self.promises.0.lock() -= self.bytes;
    }
}
