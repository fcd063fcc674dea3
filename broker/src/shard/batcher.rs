//! Turns commands into entries: at once while little is in flight, else many commands an entry.
//!
//! A command that has waited too long, or a record batch whose caller has gone, is taken out of the queue if it is still in
//! there.
//!
//! The queue is what makes one fsync serve many producers: while [`MAX_ENTRIES`] entries or [`MAX_BYTES`] bytes are on
//! their way to the disk, commands collect, and the next entry takes all of them.
//!
//! Only a leader that has applied all of its log proposes. On the way there commands wait; on any other replica they are
//! refused at once, those included that waited when leadership was lost: they were certainly not written. What was in flight
//! then may or may not take effect, and who waits for it hears so after a while. While leadership is handed over commands
//! wait, too, and what is in flight lands before.
//!
//! A leader that no majority has answered for a moment, since it slept or its disk did, is not given up for that, but may append
//! nothing. The entry that was refused for it is proposed again, and nothing is before: it would overtake.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::{BoxFuture, Either, select};
use futures::stream::{FuturesUnordered, StreamExt};
use stratalog_proto::entry::{Append, Command, ENTRY_HEADER_BYTES, EntryBuilder};
use stratalog_proto::{Code, Error, Term, TopicPartition};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::admission::Admission;
use super::order::Order;
use super::queue::{Answer, Answering, Pending, Queue, Taken, Waiting, closing};
use crate::metrics::Stages;
use crate::raft::{EntryBytes, Group, Reign, RoleNow, Submitted, leave_stalled};

/// Entries in flight at which commands begin to collect.
const MAX_ENTRIES: usize = 4;
/// Bytes in flight at which commands begin to collect; also about the largest entry.
const MAX_BYTES: usize = 4 << 20;
/// When an entry is proposed again that was refused because no majority answers.
const AGAIN: Duration = Duration::from_millis(10);
/// How long a stop waits for what is in flight.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// How long an entry may take that was in flight when leadership was lost.
const LOST_WAIT: Duration = Duration::from_secs(2);

/// Gives the time of the last entry that a group has applied.
type LastTime = Box<dyn Fn() -> i64 + Send + Sync>;

/// Proposes the commands of one group.
pub(crate) struct Batcher {
    group: Arc<Group>,
    admission: Arc<Admission>,
    order: Order,
    queue: Arc<Queue>,
    stop: CancellationToken,
    role: watch::Receiver<RoleNow>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Batcher {
    /// Starts proposing, whenever this replica leads. `last_time_ns` gives the time of the last entry that the group has
    /// applied: what is proposed after it is never older.
    pub(crate) fn start(
        group: Arc<Group>,
        admission: Arc<Admission>,
        stages: Stages,
        last_time_ns: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Self {
        let queue = Queue::open();
        let stop = CancellationToken::new();
        let pump = Pump {
            entry_bytes: MAX_BYTES.min(group.log().max_entry_bytes() - ENTRY_HEADER_BYTES),
            group: Arc::clone(&group),
            queue: Arc::clone(&queue),
            stop: stop.clone(),
            stages,
            role: group.watch_role(),
            holds: group.watch_holds(),
            leading: None,
            last_time_ns: Box::new(last_time_ns),
            time_ns: i64::MIN,
            refused: None,
            in_flight: FuturesUnordered::new(),
            bytes_in_flight: 0,
        };
        let task = Mutex::new(Some(tokio::spawn(pump.run())));
        tokio::spawn(leave_stalled(Arc::downgrade(&group), stop.clone()));
        Self { role: group.watch_role(), group, admission, order: Order::default(), queue, stop, task }
    }

    /// Proposes a record batch, behind all earlier ones of its partition, once `gate` lets it pass and there is room. In
    /// another reign than the one in which it was taken it is refused: one before it may have been, and is to come again.
    ///
    /// # Errors
    /// Those of `gate`; else see [`Shard::append`](super::Shard::append).
    pub(crate) async fn append(
        &self,
        append: Append,
        reign: Reign,
        gate: impl Future<Output = Result<(), Error>>,
    ) -> Answer {
        let since = Instant::now();
        let tp = TopicPartition { topic: append.topic, partition: append.partition };
        let command = Command::Append(append);
        let bytes = command.encoded_len();
        self.check_size(bytes)?;
        self.check_reign(reign)?;
        let queued = pin!(async {
            let log = self.group.log();
            let _turn = self.admission.turn(&self.order, tp, bytes, log).await?;
            gate.await?;
            let admitted = self.admission.admit(bytes, log).await?;
            self.queue.push(command, since, Taken::Under(reign), Some(admitted))
        });
        // By its first poll a batch joins the line of its partition, also in a task whose budget is used up, in which tokio's
        // `select!` would poll nothing.
        match select(queued, pin!(self.is_over(reign))).await {
            Either::Left((queued, _)) => self.wait(queued?, Code::Overloaded).await,
            // Before its turn ends: what is behind it is refused, too.
            Either::Right(((), _)) => Err(self.refused(reign)),
        }
    }

    /// Returns when a reign is over: what had its turn in it already is refused, and so is what waits for its turn.
    async fn is_over(&self, reign: Reign) {
        let mut role = self.role.clone();
        let has_stopped = role.wait_for(|role| !role.is_in(reign)).await.is_err();
        if has_stopped {
            // The queue says so.
            std::future::pending().await
        }
    }

    /// Proposes a command other than a record batch. It never waits for room: Seal and Drop are what makes room.
    ///
    /// # Errors
    /// See [`Shard::propose`](super::Shard::propose).
    pub(crate) async fn propose(&self, command: Command) -> Answer {
        self.propose_if(command, Taken::AnyTime).await
    }

    /// The same for a command that stands on what was built in a term: in a later one, also of this replica, it is refused.
    ///
    /// # Errors
    /// As [`propose`](Self::propose).
    pub(crate) async fn propose_in(&self, term: Term, command: Command) -> Answer {
        self.propose_if(command, Taken::Within(term)).await
    }

    /// As [`propose_in`](Self::propose_in), for a command that a client causes: it waits for room as record batches do, so that
    /// many of them leave theirs to Seal and Drop. It goes its way without whoever proposed it.
    ///
    /// # Errors
    /// As [`propose_in`](Self::propose_in); [`Code::Overloaded`], [`Code::StorageFull`] if it was not admitted.
    pub(crate) async fn submit_in(&self, term: Term, command: Command) -> Answer {
        let bytes = command.encoded_len();
        self.check(bytes)?;
        let admitted = self.admission.admit(bytes, self.group.log()).await?;
        self.wait(self.queue.push(command, Instant::now(), Taken::Within(term), Some(admitted))?, Code::Overloaded)
            .await
    }

    async fn propose_if(&self, command: Command, taken: Taken) -> Answer {
        self.check(command.encoded_len())?;
        self.wait(self.queue.push(command, Instant::now(), taken, None)?, Code::Unavailable).await
    }

    /// Waits for an answer. A command that is in no entry yet at its deadline is taken back: that is the error with the code
    /// `not_taken`.
    async fn wait(&self, mut pending: Pending, not_taken: Code) -> Answer {
        let deadline = self.admission.deadline();
        match tokio::time::timeout(deadline, pending.answer()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(no_answer(&"this node does not lead the shard any more, or stopped")),
            Err(_) if pending.withdraw() => {
                let message =
                    format!("a write waited {deadline:?} for its turn; it was taken back, send it again later");
                Err(Error::new(not_taken, message))
            }
            Err(_) => Err(no_answer(&format_args!("none came in {deadline:?}"))),
        }
    }

    /// Refuses at once what would be refused later: a command that is too large, or of a group that is led elsewhere.
    fn check(&self, bytes: usize) -> Result<(), Error> {
        let role = *self.role.borrow();
        if !may_wait(role, &self.group) && !self.stop.is_cancelled() {
            return Err(self.group.not_leader());
        }
        self.check_size(bytes)
    }

    /// Refuses a batch that was taken in a reign that is over.
    fn check_reign(&self, reign: Reign) -> Result<(), Error> {
        let is_in = self.role.borrow().is_in(reign);
        if is_in || self.stop.is_cancelled() { Ok(()) } else { Err(self.refused(reign)) }
    }

    /// Why a batch is refused whose reign is over; all that follow are.
    fn refused(&self, reign: Reign) -> Error {
        self.queue.end(reign);
        self.group.not_leader()
    }

    fn check_size(&self, bytes: usize) -> Result<(), Error> {
        let most = self.group.log().max_entry_bytes() - ENTRY_HEADER_BYTES;
        if bytes <= most {
            return Ok(());
        }
        let message = format!("a command of {bytes} bytes does not fit the log, which takes at most {most} at once");
        Err(Error::new(Code::MessageTooLarge, message))
    }

    /// Answers what is in flight, refuses what waits and whatever comes later.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take()
            && tokio::time::timeout(STOP_WAIT, task).await.is_err()
        {
            tracing::warn!(shard = %self.group.log().shard(), "stopping with writes that have no answer yet");
        }
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The task that makes entries.
struct Pump {
    group: Arc<Group>,
    queue: Arc<Queue>,
    stop: CancellationToken,
    stages: Stages,
    role: watch::Receiver<RoleNow>,
    holds: watch::Receiver<usize>,
    /// The term in which this replica leads, and proposes.
    leading: Option<Term>,
    last_time_ns: LastTime,
    time_ns: i64,
    entry_bytes: usize,
    /// What is proposed again before anything else.
    refused: Option<Proposal>,
    in_flight: FuturesUnordered<BoxFuture<'static, usize>>,
    bytes_in_flight: usize,
}

/// An entry, and whom its commands answer.
struct Proposal {
    entry: EntryBytes,
    answers: Vec<Answering>,
}

impl Pump {
    async fn run(mut self) {
        let mut has_stopped = false;
        loop {
            let role = *self.role.borrow_and_update();
            self.follow(role);
            self.propose().await;
            let listens = self.leading.is_none() || self.has_room() && self.refused.is_none();
            tokio::select! {
                () = tokio::time::sleep(AGAIN), if self.refused.is_some() => {}
                _ = self.queue.arrived.notified(), if listens => {}
                Some(bytes) = self.in_flight.next() => self.bytes_in_flight -= bytes,
                Ok(()) = self.holds.changed() => {}
                changed = self.role.changed(), if !has_stopped => has_stopped = changed.is_err(),
                _ = self.stop.cancelled() => break,
            }
        }
        self.give_up_refused(&closing());
        self.queue.close().into_iter().for_each(|waiting| waiting.answering.send(Err(closing())));
        while self.in_flight.next().await.is_some() {}
    }

    /// Begins to propose in a term, or ends it, with what is to become of what waits and of what is in flight.
    fn follow(&mut self, role: RoleNow) {
        let leading = role.leads.then_some(role.term);
        if leading != self.leading {
            self.leading = leading;
            self.let_go();
            self.give_up_refused(&self.group.not_leader());
            if leading.is_some() {
                // Everything that was acknowledged is applied: no entry that follows may be older (A1).
                self.time_ns = self.time_ns.max((self.last_time_ns)());
                let group = Arc::clone(&self.group);
                tokio::spawn(async move { group.tell_committed().await });
            }
        }
        if !may_wait(role, &self.group) {
            let error = self.group.not_leader();
            let waiting = self.queue.end_and_take_all(role.reign());
            waiting.into_iter().for_each(|waiting| waiting.answering.send(Err(error.clone())));
        }
    }

    fn give_up_refused(&mut self, error: &Error) {
        let answers = self.refused.take().into_iter().flat_map(|refused| refused.answers);
        answers.for_each(|answering| answering.send(Err(error.clone())));
    }

    /// What is in flight does not hold up what comes now, if anything ever does. It is answered if it is soon.
    fn let_go(&mut self) {
        let lost = std::mem::take(&mut self.in_flight);
        self.bytes_in_flight = 0;
        if !lost.is_empty() {
            tokio::spawn(tokio::time::timeout(LOST_WAIT, lost.for_each(|_| std::future::ready(()))));
        }
    }

    fn has_room(&self) -> bool {
        let is_held = *self.holds.borrow() > 0;
        self.leading.is_some() && !is_held && self.in_flight.len() < MAX_ENTRIES && self.bytes_in_flight < MAX_BYTES
    }

    async fn propose(&mut self) {
        while let Some(term) = self.leading.filter(|_| self.has_room()) {
            let Some(Proposal { entry, answers }) = self.refused.take().or_else(|| self.next(term)) else { break };
            let bytes = entry.len();
            match self.group.submit(entry.clone(), term).await.transpose() {
                Some(submitted) => {
                    self.bytes_in_flight += bytes;
                    self.in_flight.push(Box::pin(answer_all(submitted, answers, bytes)));
                }
                None => {
                    self.refused = Some(Proposal { entry, answers });
                    break;
                }
            }
        }
    }

    /// The next entry, of what waits and may be proposed in this term; `None` if nothing waits.
    fn next(&mut self, term: Term) -> Option<Proposal> {
        loop {
            let mut commands = self.queue.take(self.entry_bytes);
            if commands.is_empty() {
                return None;
            }
            refuse_of_other_terms(&mut commands, term, &self.group);
            if !commands.is_empty() {
                return Some(self.build(commands));
            }
        }
    }

    /// One entry of the commands, stamped with a time that never goes back.
    fn build(&mut self, commands: Vec<Waiting>) -> Proposal {
        self.time_ns = self.time_ns.max(now_ns());
        let mut entry = EntryBuilder::with_capacity(commands.iter().map(|waiting| waiting.bytes).sum());
        let (mut promises, mut answers) = (Vec::with_capacity(commands.len()), Vec::with_capacity(commands.len()));
        for waiting in commands {
            self.stages.queued(waiting.since.elapsed());
            entry.push(&waiting.command);
            promises.extend(waiting.promise);
            answers.push(waiting.answering);
        }
        Proposal { entry: EntryBytes::new(entry.finish(self.time_ns), promises), answers }
    }
}

/// Refuses the commands that may be proposed in another term alone.
fn refuse_of_other_terms(commands: &mut Vec<Waiting>, term: Term, group: &Group) {
    let is_late = |waiting: &mut Waiting| waiting.taken.term().is_some_and(|of| of != term);
    for late in commands.extract_if(.., is_late) {
        let (shard, of) = (group.log().shard(), late.taken.term().unwrap_or_default());
        let message =
            format!("a command of term {of} comes too late for shard {shard}, which is in term {term} by now");
        late.answering.send(Err(Error::new(Code::NotLeader, message)));
    }
}

/// Whether commands may wait for a group to be led here: it is, or is about to be.
fn may_wait(role: RoleNow, group: &Group) -> bool {
    role.leads || role.is_about_to_lead(group.log().replica())
}

/// Waits for an entry and gives each command its own answer; the bytes that are no longer in flight.
async fn answer_all(submitted: Result<Submitted, Error>, answers: Vec<Answering>, bytes: usize) -> usize {
    let outcome = match submitted {
        Ok(submitted) => submitted.outcome().await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok((index, results)) => {
            assert_eq!(results.len(), answers.len(), "A1: each command of entry {index} has one result");
            let pairs = answers.into_iter().zip(results);
            pairs.for_each(|(answering, result)| answering.send(result.map(|result| (index, result))));
        }
        Err(error) => answers.into_iter().for_each(|answering| answering.send(Err(error.clone()))),
    }
    bytes
}

/// Nanoseconds since the epoch by this node's clock.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn no_answer(why: &dyn std::fmt::Display) -> Error {
    let message =
        format!("a write has no answer ({why}): it may or may not have happened; an idempotent retry is safe");
    Error::new(Code::Timeout, message)
}
