//! Room in the log that is spoken for by what is not in it yet.
//!
//! What waits for its entry on a leader may wait for other nodes, whose answers wait for room in *their* logs. So it never
//! holds more than a part of the room: the rest is left to what this node's replicas follow, which waits for nobody.

use std::sync::Arc;

use parking_lot::Mutex;

use super::log::GroupLog;

/// What waits holds at most this part of a log file. The next file is made when room is lacking, so that there is one whole
/// file of it at least, and a follower asks for no more than half of one.
const WAITING_PART: u64 = 4;

/// Bytes promised to the commands of all groups that share a lane, between their admission and the lane.
#[derive(Clone, Default)]
pub(super) struct Promises(Arc<Mutex<Promised>>);

#[derive(Default)]
struct Promised {
    /// All of it.
    bytes: u64,
    /// To record batches that wait for their entry.
    waiting: u64,
}

/// A part of them. It is kept when the entry is in the lane, or will never be: dropping it gives the bytes back.
pub(crate) struct Promise {
    promises: Promises,
    bytes: u64,
    waiting: u64,
}

/// Why there is no promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPromise {
    /// The log has room for no more than so many bytes, until its next file is there.
    Room(u64),
    /// As much waits for its entry as may.
    Waiting,
}

impl Promises {
    /// Promises `bytes` to what does not wait for other nodes, if what is promised already leaves them, and `reserve` more,
    /// in the log's room.
    ///
    /// # Errors
    /// [`NoPromise::Room`]: the next file is being made, if there can be one.
    pub(super) fn make(&self, bytes: u64, reserve: u64, log: &GroupLog) -> Result<Promise, NoPromise> {
        let promised = &mut self.0.lock();
        promised.has_room(bytes, reserve, log)?;
        Ok(self.promise(promised, bytes, 0))
    }

    /// Promises `bytes` to a record batch until its entry is in the lane. A large one may be the only one that waits.
    ///
    /// # Errors
    /// As [`make`](Self::make); [`NoPromise::Waiting`].
    pub(super) fn make_waiting(&self, bytes: u64, reserve: u64, log: &GroupLog) -> Result<Promise, NoPromise> {
        let promised = &mut self.0.lock();
        let most = log.max_entry_bytes() as u64 / WAITING_PART;
        if promised.waiting > 0 && promised.waiting + bytes > most {
            return Err(NoPromise::Waiting);
        }
        promised.has_room(bytes, reserve, log)?;
        Ok(self.promise(promised, bytes, bytes))
    }

    fn promise(&self, promised: &mut Promised, bytes: u64, waiting: u64) -> Promise {
        promised.bytes += bytes;
        promised.waiting += waiting;
        Promise { promises: self.clone(), bytes, waiting }
    }
}

impl Promised {
    /// Room is read while nothing can be given back: an entry on its way into the lane is counted twice rather than not at
    /// all.
    fn has_room(&self, bytes: u64, reserve: u64, log: &GroupLog) -> Result<(), NoPromise> {
        let left = log.room_bytes().saturating_sub(self.bytes).saturating_sub(reserve);
        if bytes <= left {
            return Ok(());
        }
        log.prepare_room();
        Err(NoPromise::Room(left))
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut promised = self.promises.0.lock();
        promised.bytes -= self.bytes;
        promised.waiting -= self.waiting;
    }
}
