//! How much may be on its way to the log, and the order in which it gets there.

use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::{Code, Error, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::order::{Order, Turn};
use super::queue::closing;
use crate::raft::{GroupLog, NoPromise, Promise};

/// Room in the log that record batches leave to Seal, Drop and changes of topics: a large one of them, and as much for
/// the end of a file that is left empty because an entry does not fit it.
const RESERVE_BYTES: u64 = 8 << 20;
/// The reserve is at most this part of a log file, whose successor is made when it is half full.
const RESERVE_PART: u64 = 16;
/// What a batch takes in the log beside itself, at most: an entry, a frame and a flush group of its own.
const OVERHEAD_BYTES: u64 = 1 << 10;
/// How often room in the log is looked for while there is none.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How much may wait in memory and for the log, and how long. One for all groups that share a lane.
pub(crate) struct Admission {
    bytes: Arc<Semaphore>,
    capacity: usize,
    wait: Duration,
    deadline: Duration,
}

/// What an admitted batch holds.
pub(super) struct Admitted {
    /// Of memory, until it is answered.
    pub(super) permit: OwnedSemaphorePermit,
    /// Of the log, until it is in there.
    pub(super) promise: Promise,
}

impl Admission {
    /// Room for `capacity` bytes of record batches between admission and answer. A batch waits at most `wait` for room,
    /// and every command at most `deadline` for its answer.
    pub(crate) fn new(capacity: usize, wait: Duration, deadline: Duration) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let bytes = Arc::new(Semaphore::new(capacity));
        Self { bytes, capacity, wait, deadline }
    }

    /// Bytes that are admitted and not yet answered.
    pub(crate) fn used_bytes(&self) -> usize {
        self.capacity - self.bytes.available_permits()
    }

    /// How long a command waits for its answer.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Waits for room in memory and in the log. The log's next file is usually there long before it is needed; on a full
    /// disk it is not, and what the log cannot write must not get into it: Seal and Drop would wait behind it.
    ///
    /// # Errors
    /// [`Code::StorageFull`], [`Code::Overloaded`]: there was none in time.
    pub(super) async fn admit(&self, bytes: usize, log: &GroupLog) -> Result<Admitted, Error> {
        let room = async {
            let permits = bytes.min(self.capacity) as u32;
            let permit = Arc::clone(&self.bytes).acquire_many_owned(permits).await.map_err(|_| closing())?;
            loop {
                match self.promise(bytes, log) {
                    Ok(promise) => return Ok(Admitted { permit, promise }),
                    Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        };
        tokio::time::timeout(self.wait, room).await.unwrap_or_else(|_| Err(self.refusal(bytes, log)))
    }

    /// Waits for the turn of a batch of `bytes` among those of its partition.
    ///
    /// # Errors
    /// As [`admit`](Self::admit): those before it did not get through in time.
    pub(super) async fn turn<'a>(
        &self,
        order: &'a Order,
        tp: TopicPartition,
        bytes: usize,
        log: &GroupLog,
    ) -> Result<Turn<'a>, Error> {
        tokio::time::timeout(self.wait, order.turn(tp)).await.map_err(|_| self.refusal(bytes, log))
    }

    fn promise(&self, bytes: usize, log: &GroupLog) -> Result<Promise, NoPromise> {
        let reserve = RESERVE_BYTES.min(log.max_entry_bytes() as u64 / RESERVE_PART);
        log.promise_waiting(bytes as u64 + OVERHEAD_BYTES, reserve)
    }

    /// Why a batch was not admitted.
    fn refusal(&self, bytes: usize, log: &GroupLog) -> Error {
        match self.promise(bytes, log) {
            Ok(_) | Err(NoPromise::Waiting) => self.overloaded(),
            Err(NoPromise::Room(left)) => {
                let message = format!(
                    "the log has room for {left} more bytes of records and its device for no further file; nothing was \
                     written, drop what is not needed and send it again"
                );
                Error::new(Code::StorageFull, message)
            }
        }
    }

    fn overloaded(&self) -> Error {
        let message = format!(
            "there was no room among the batches that wait for the log (the produce buffer has {} bytes) for {:?}; nothing \
             was written, send it again later",
            self.capacity, self.wait
        );
        Error::new(Code::Overloaded, message)
    }
}
