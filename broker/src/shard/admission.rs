//! How much may be on its way to the log, and the order in which it gets there.

use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::{Code, Error, TopicPartition};
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};

use super::queue::closing;
use crate::raft::GroupLog;

/// Room in the log that record batches leave to Seal, Drop and changes of topics.
const RESERVE_BYTES: u64 = 64 << 10;
/// How often room in the log is looked for while there is none.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Partitions share so many locks.
const STRIPES: usize = 64;

/// How much may wait in memory, and how long.
pub(crate) struct Admission {
    bytes: Arc<Semaphore>,
    capacity: usize,
    wait: Duration,
    deadline: Duration,
}

impl Admission {
    /// Room for `capacity` bytes of record batches between admission and answer. A batch waits at most `wait` for room,
    /// and every command at most `deadline` for its answer.
    pub(crate) fn new(capacity: usize, wait: Duration, deadline: Duration) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { bytes: Arc::new(Semaphore::new(capacity)), capacity, wait, deadline }
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
    /// disk it is not, and what the log cannot write must not get into it.
    ///
    /// # Errors
    /// [`Code::StorageFull`], [`Code::Overloaded`]: there was none in time.
    pub(super) async fn admit(&self, bytes: usize, log: &GroupLog) -> Result<OwnedSemaphorePermit, Error> {
        let room = async {
            let permits = bytes.min(self.capacity) as u32;
            let permit = Arc::clone(&self.bytes).acquire_many_owned(permits).await.map_err(|_| closing())?;
            while disk_full(bytes, log).is_some() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok(permit)
        };
        let admitted = tokio::time::timeout(self.wait, room).await;
        admitted.unwrap_or_else(|_| Err(disk_full(bytes, log).unwrap_or_else(|| self.overloaded())))
    }

    fn overloaded(&self) -> Error {
        let message = format!(
            "there was no room in the produce buffer ({} bytes) for {:?}; nothing was written, send it again later",
            self.capacity, self.wait
        );
        Error::new(Code::Overloaded, message)
    }
}

fn disk_full(bytes: usize, log: &GroupLog) -> Option<Error> {
    let room = log.room_bytes();
    (bytes as u64 + RESERVE_BYTES > room).then(|| {
        let message = format!("the log has room for {room} bytes and its device for no further file; free some space");
        Error::new(Code::StorageFull, message)
    })
}

/// Batches of one partition are queued in the order in which they arrived, whatever each of them waits for: a producer
/// that has several in flight relies on it.
pub(super) struct Order {
    stripes: Vec<Mutex<()>>,
}

impl Order {
    pub(super) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::new(())).collect() }
    }

    /// Waits for the turn of a batch of this partition.
    ///
    /// # Errors
    /// [`Code::Overloaded`]: those before it did not get through in time.
    pub(super) async fn turn(&self, tp: TopicPartition, admission: &Admission) -> Result<MutexGuard<'_, ()>, Error> {
        let topic = tp.topic.as_bytes().iter().fold(0usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
        let stripe = &self.stripes[topic.wrapping_add(tp.partition.0 as usize) % STRIPES];
        tokio::time::timeout(admission.wait, stripe.lock()).await.map_err(|_| admission.overloaded())
    }
}
