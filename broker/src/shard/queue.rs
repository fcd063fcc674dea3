//! Commands that wait for their entry.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;
use stratalog_proto::entry::{Command, MAX_COMMANDS};
use stratalog_proto::{Code, Error, RaftIndex, Term};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::admission::Admitted;
use crate::outcome::CommandResult;
use crate::raft::Promise;

/// Where a command was applied and what it answered.
pub(super) type Answer = Result<(RaftIndex, CommandResult), Error>;

/// A command that waits.
pub(super) struct Waiting {
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

/// Commands in the order of arrival; none once it is closed.
pub(super) struct Queue {
    waiting: Mutex<Option<VecDeque<Waiting>>>,
    /// Told of each command.
    pub(super) arrived: Notify,
}

impl Queue {
    pub(super) fn open() -> Self {
        Self { waiting: Mutex::new(Some(VecDeque::new())), arrived: Notify::new() }
    }

    /// Adds a command that came at `since`, and may be proposed in this term alone if there is one.
    ///
    /// # Errors
    /// [`Code::Unavailable`]: the queue is closed.
    pub(super) fn push(
        &self,
        command: Command,
        since: Instant,
        term: Option<Term>,
        admitted: Option<Admitted>,
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        let (answer, receiver) = oneshot::channel();
        let (permit, promise) = admitted.map(|admitted| (admitted.permit, admitted.promise)).unzip();
        let (bytes, answering) = (command.encoded_len(), Answering { answer, permit });
        let waiting = Waiting { command, bytes, since, term, promise, answering };
        self.waiting.lock().as_mut().ok_or_else(closing)?.push_back(waiting);
        self.arrived.notify_one();
        Ok(receiver)
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
    fn a_closed_queue_refuses_and_gives_back_what_waited() {
        let queue = Queue::open();
        let _answer = queue.push(append(1), Instant::now(), None, None).unwrap();
        assert_eq!(queue.close().len(), 1);
        assert_eq!(queue.push(append(1), Instant::now(), None, None).unwrap_err().code, Code::Unavailable);
        assert!(queue.take(100).is_empty() && queue.close().is_empty());
    }
}
