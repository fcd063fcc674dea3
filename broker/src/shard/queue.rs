//! Commands that wait for their entry.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use stratalog_proto::entry::{Command, MAX_COMMANDS};
use stratalog_proto::{Code, Error, RaftIndex, Term};
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::admission::Admitted;
use crate::outcome::CommandResult;
use crate::raft::Promise;

/// Where a command was applied and what it answered.
pub(super) type Answer = Result<(RaftIndex, CommandResult), Error>;

/// A command that waits.
pub(super) struct Waiting {
    ticket: Ticket,
    pub(super) command: Command,
    /// That it takes in an entry.
    pub(super) bytes: usize,
    /// When it came.
    pub(super) since: Instant,
    /// The only term in which it may be proposed; `None` for any.
    pub(super) term: Option<Term>,
    /// Its room in the log, if it had to be admitted.
    pub(super) promise: Option<Promise>,
    pub(super) answering: Answering,
}

/// The number of a command in its queue. They grow.
type Ticket = u64;

/// Whom a command answers, and the memory that is given back with the answer.
pub(super) struct Answering {
    answer: oneshot::Sender<Answer>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Answering {
    /// Answers; a caller that went away does not want it.
    pub(super) fn send(self, answer: Answer) {
        drop(self.permit);
        let _ = self.answer.send(answer);
    }
}

/// The answer to come of a command. Who drops that of a record batch takes the batch back if it still waits: nobody wants it
/// any more, and what it holds of memory and log is given to others. Any other command goes its way without whoever proposed
/// it.
pub(super) struct Pending {
    queue: Arc<Queue>,
    ticket: Ticket,
    answer: oneshot::Receiver<Answer>,
    is_batch: bool,
    is_answered: bool,
}

impl Pending {
    /// Waits for it.
    ///
    /// # Errors
    /// Nobody will answer any more.
    pub(super) async fn answer(&mut self) -> Result<Answer, RecvError> {
        let answer = (&mut self.answer).await;
        self.is_answered = true;
        answer
    }

    /// Takes the command back. Whether it still waited: then it was certainly not proposed.
    pub(super) fn withdraw(&mut self) -> bool {
        !std::mem::replace(&mut self.is_answered, true) && self.queue.remove(self.ticket)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.is_batch {
            self.withdraw();
        }
    }
}

/// Commands in the order of arrival; none once it is closed.
pub(super) struct Queue {
    waiting: Mutex<Option<VecDeque<Waiting>>>,
    next: AtomicU64,
    /// Told of each command.
    pub(super) arrived: Notify,
}

impl Queue {
    pub(super) fn open() -> Arc<Self> {
        let waiting = Mutex::new(Some(VecDeque::new()));
        Arc::new(Self { waiting, next: AtomicU64::new(0), arrived: Notify::new() })
    }

    /// Adds a command that came at `since`, and may be proposed in this term alone if there is one.
    ///
    /// # Errors
    /// [`Code::Unavailable`]: the queue is closed.
    pub(super) fn push(
        self: &Arc<Self>,
        command: Command,
        since: Instant,
        term: Option<Term>,
        admitted: Option<Admitted>,
    ) -> Result<Pending, Error> {
        let (answer, receiver) = oneshot::channel();
        let (permit, promise) = admitted.map(|admitted| (admitted.permit, admitted.promise)).unzip();
        let (bytes, answering) = (command.encoded_len(), Answering { answer, permit });
        let is_batch = matches!(command, Command::Append(_));
        let mut waiting = self.waiting.lock();
        let queue = waiting.as_mut().ok_or_else(closing)?;
        // Under the lock, so that tickets have the order of the queue.
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        queue.push_back(Waiting { ticket, command, bytes, since, term, promise, answering });
        drop(waiting);
        self.arrived.notify_one();
        Ok(Pending { queue: Arc::clone(self), ticket, answer: receiver, is_batch, is_answered: false })
    }

    /// Takes a command out of the queue; whether it was in there.
    fn remove(&self, ticket: Ticket) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(queue) = waiting.as_mut() else { return false };
        let at = queue.binary_search_by_key(&ticket, |waiting| waiting.ticket);
        let removed = at.ok().and_then(|at| queue.remove(at));
        // What it holds is given back without the lock.
        drop(waiting);
        removed.is_some()
    }

    /// The commands of one entry: all that waits, up to `max_bytes`, at least one; empty if nothing waits.
    pub(super) fn take(&self, max_bytes: usize) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let Some(waiting) = waiting.as_mut() else { return Vec::new() };
        let mut bytes = 0;
        let within = |next: &&Waiting| {
            let first = bytes == 0;
            bytes += next.bytes;
            first || bytes <= max_bytes
        };
        let count = waiting.iter().take(MAX_COMMANDS as usize).take_while(within).count();
        waiting.drain(..count).collect()
    }

    /// Everything that waits.
    pub(super) fn take_all(&self) -> VecDeque<Waiting> {
        self.waiting.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Refuses everything from now on; what was waiting.
    pub(super) fn close(&self) -> VecDeque<Waiting> {
        self.waiting.lock().take().unwrap_or_default()
    }
}

pub(super) fn closing() -> Error {
    Error::new(Code::Unavailable, "the node is stopping; nothing was written, send it again later")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stratalog_proto::entry::Append;
    use stratalog_proto::{PartitionId, TopicId};

    use super::*;

    fn append(bytes: usize) -> Command {
        let batch = Bytes::from(vec![0; bytes]);
        Command::Append(Append { topic: TopicId::new(), partition: PartitionId(0), batch })
    }

    #[test]
    fn an_entry_takes_what_fits_and_at_least_one_command() {
        let queue = Queue::open();
        let _answers: Vec<_> =
            [500, 100, 100, 100].map(|bytes| queue.push(append(bytes), Instant::now(), None, None).unwrap()).into();
        let lengths = |taken: Vec<Waiting>| taken.len();
        assert_eq!([100, 256, 256, 256].map(|max| lengths(queue.take(max))), [1, 2, 1, 0]);
    }

    #[test]
    fn a_command_is_taken_back_only_as_long_as_it_waits() {
        let queue = Queue::open();
        let mut pending: Vec<_> =
            (0..4).map(|bytes| queue.push(append(bytes), Instant::now(), None, None).unwrap()).collect();
        let first = queue.take(1);
        assert_eq!(first.len(), 1);
        assert!(!pending[0].withdraw(), "it is in an entry");
        assert!(pending[2].withdraw() && !pending[2].withdraw());
        drop(pending.remove(1));
        drop(queue.push(Command::Erase(Default::default()), Instant::now(), None, None).unwrap());
        let left = queue.take(1 << 20);
        assert_eq!(
            left.iter().map(|waiting| waiting.ticket).collect::<Vec<_>>(),
            [3, 4],
            "only batches go with callers"
        );
    }

    #[test]
    fn a_closed_queue_refuses_and_gives_back_what_waited() {
        let queue = Queue::open();
        let mut pending = queue.push(append(1), Instant::now(), None, None).unwrap();
        assert_eq!(queue.close().len(), 1);
        let refused = queue.push(append(1), Instant::now(), None, None).err().map(|error| error.code);
        assert_eq!(refused, Some(Code::Unavailable));
        assert!(queue.take(100).is_empty() && queue.close().is_empty() && !pending.withdraw());
    }
}
