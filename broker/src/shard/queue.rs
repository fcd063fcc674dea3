//! Commands that wait for their entry.
//!
//! Who refuses a batch because a reign of this replica is over ends that reign here, under the queue's lock: a batch behind it
//! that was taken in the same reign, and comes when the replica leads again, would overtake it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use stratalog_proto::entry::{Command, MAX_COMMANDS};
use stratalog_proto::{Code, Error, RaftIndex, Term};
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::admission::Admitted;
use crate::outcome::CommandResult;
use crate::raft::{Promise, Reign};

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
    /// When it may be proposed.
    pub(super) taken: Taken,
    /// Its room in the log, if it had to be admitted.
    pub(super) promise: Option<Promise>,
    pub(super) answering: Answering,
}

/// When a command was taken, and so when it may be proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It stands on nothing.
    AnyTime,
    /// In this term of the group.
    Within(Term),
    /// In this reign of this replica.
    Under(Reign),
}

impl Taken {
    /// The only term in which it may be proposed; `None` for any.
    pub(super) fn term(self) -> Option<Term> {
        match self {
            Self::AnyTime => None,
            Self::Within(term) => Some(term),
            Self::Under(reign) => Some(reign.term),
        }
    }
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
    waiting: Mutex<Option<Line>>,
    /// Told of each command.
    pub(super) arrived: Notify,
}

#[derive(Default)]
struct Line {
    commands: VecDeque<Waiting>,
    next: Ticket,
    /// The last reign that is over.
    over: Reign,
}

impl Queue {
    pub(super) fn open() -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::new(Some(Line::default())), arrived: Notify::new() })
    }

    /// Adds a command that came at `since`.
    ///
    /// # Errors
    /// [`Code::Unavailable`]: the queue is closed; [`Code::NotLeader`]: the reign in which it was taken is over.
    pub(super) fn push(
        self: &Arc<Self>,
        command: Command,
        since: Instant,
        taken: Taken,
        admitted: Option<Admitted>,
    ) -> Result<Pending, Error> {
        let (answer, receiver) = oneshot::channel();
        let (permit, promise) = admitted.map(|admitted| (admitted.permit, admitted.promise)).unzip();
        let (bytes, answering) = (command.encoded_len(), Answering { answer, permit });
        let is_batch = matches!(command, Command::Append(_));
        let mut waiting = self.waiting.lock();
        let line = waiting.as_mut().ok_or_else(closing)?;
        if matches!(taken, Taken::Under(reign) if reign <= line.over) {
            return Err(late());
        }
        let ticket = line.next;
        line.next += 1;
        line.commands.push_back(Waiting { ticket, command, bytes, since, taken, promise, answering });
        drop(waiting);
        self.arrived.notify_one();
        Ok(Pending { queue: Arc::clone(self), ticket, answer: receiver, is_batch, is_answered: false })
    }

    /// Takes a command out of the queue; whether it was in there.
    fn remove(&self, ticket: Ticket) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(Line { commands, .. }) = waiting.as_mut() else { return false };
        let at = commands.binary_search_by_key(&ticket, |waiting| waiting.ticket);
        let removed = at.ok().and_then(|at| commands.remove(at));
        // What it holds is given back without the lock.
        drop(waiting);
        removed.is_some()
    }

    /// The commands of one entry: all that waits, up to `max_bytes`, at least one; empty if nothing waits.
    pub(super) fn take(&self, max_bytes: usize) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let Some(Line { commands, .. }) = waiting.as_mut() else { return Vec::new() };
        let mut bytes = 0;
        let within = |next: &&Waiting| {
            let first = bytes == 0;
            bytes += next.bytes;
            first || bytes <= max_bytes
        };
        let count = commands.iter().take(MAX_COMMANDS as usize).take_while(within).count();
        commands.drain(..count).collect()
    }

    /// Refuses from now on what was taken in this reign, or in one before.
    pub(super) fn end(&self, reign: Reign) {
        self.waiting.lock().iter_mut().for_each(|line| line.over = line.over.max(reign));
    }

    /// The same, and everything that waits.
    pub(super) fn end_and_take_all(&self, reign: Reign) -> VecDeque<Waiting> {
        let mut waiting = self.waiting.lock();
        let Some(line) = waiting.as_mut() else { return VecDeque::new() };
        line.over = line.over.max(reign);
        std::mem::take(&mut line.commands)
    }

    /// Refuses everything from now on; what was waiting.
    pub(super) fn close(&self) -> VecDeque<Waiting> {
        self.waiting.lock().take().unwrap_or_default().commands
    }
}

fn late() -> Error {
    let message = "the node does not lead the shard any more as it did when it took the batch; nothing was written";
    Error::new(Code::NotLeader, message)
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
        let _answers: Vec<_> = [500, 100, 100, 100]
            .map(|bytes| queue.push(append(bytes), Instant::now(), Taken::AnyTime, None).unwrap())
            .into();
        let lengths = |taken: Vec<Waiting>| taken.len();
        assert_eq!([100, 256, 256, 256].map(|max| lengths(queue.take(max))), [1, 2, 1, 0]);
    }

    #[test]
    fn a_command_is_taken_back_only_as_long_as_it_waits() {
        let queue = Queue::open();
        let mut pending: Vec<_> =
            (0..4).map(|bytes| queue.push(append(bytes), Instant::now(), Taken::AnyTime, None).unwrap()).collect();
        let first = queue.take(1);
        assert_eq!(first.len(), 1);
        assert!(!pending[0].withdraw(), "it is in an entry");
        assert!(pending[2].withdraw() && !pending[2].withdraw());
        drop(pending.remove(1));
        drop(queue.push(Command::Erase(Default::default()), Instant::now(), Taken::AnyTime, None).unwrap());
        let left = queue.take(1 << 20);
        assert_eq!(
            left.iter().map(|waiting| waiting.ticket).collect::<Vec<_>>(),
            [3, 4],
            "only batches go with callers"
        );
    }

    #[test]
    fn l2_once_a_batch_of_a_reign_is_refused_none_of_it_comes_in_any_more() {
        let queue = Queue::open();
        let under = |term, number| Taken::Under(Reign { term: Term(term), number });
        let push = |taken| queue.push(append(1), Instant::now(), taken, None).map_err(|error| error.code);
        let first = push(under(5, 1)).unwrap();
        queue.end(Reign { term: Term(5), number: 1 });
        assert_eq!(push(under(5, 1)).err(), Some(Code::NotLeader), "the replica may lead again by now");
        assert_eq!(queue.take(1 << 10).len(), 1, "what is before the refused one goes its way");
        let kept = [under(5, 2), Taken::Within(Term(5)), Taken::AnyTime].map(|taken| push(taken).unwrap());
        assert_eq!(queue.end_and_take_all(Reign { term: Term(6), number: 2 }).len(), kept.len());
        assert_eq!(push(under(5, 2)).err(), Some(Code::NotLeader));
        assert!(push(under(6, 3)).is_ok());
        drop(first);
    }

    #[test]
    fn a_closed_queue_refuses_and_gives_back_what_waited() {
        let queue = Queue::open();
        let mut pending = queue.push(append(1), Instant::now(), Taken::AnyTime, None).unwrap();
        assert_eq!(queue.close().len(), 1);
        let refused = queue.push(append(1), Instant::now(), Taken::AnyTime, None).err().map(|error| error.code);
        assert_eq!(refused, Some(Code::Unavailable));
        assert!(queue.take(100).is_empty() && queue.close().is_empty() && !pending.withdraw());
    }
}
