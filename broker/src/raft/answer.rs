//! What a group answers to its other replicas.

use std::future::ready;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, ShardId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::doubt::{Doubt, no_more, own_end};
use super::group::{Group, Raft, stopped};
use super::heard::Heard;
use super::log::GroupLog;
use super::peers::{Incoming, Message};
use super::receive_state::receive;
use super::snapshots::{SnapshotData, SnapshotMeta, meta_of};
use super::types::{TypeConfig, Vote};
use super::wire::{Answer, Request};

impl Group {
    /// Answers one message of [`Peers::ask`](super::Peers::ask).
    ///
    /// # Errors
    /// [`Code::InvalidRequest`]: it is no message of a replica. [`Code::StorageFull`]: the log has no room for its entries
    /// now. [`Code::Unavailable`]: the group has stopped.
    pub(crate) async fn answer(&self, message: Message) -> Result<Bytes, Error> {
        check_runs(self.log.shard(), &self.tasks)?;
        let stopped = |error| stopped(self.log.shard(), &error);
        let hearing = self.hearing();
        let answer = match Request::decode(message).map_err(|error| malformed(&error))? {
            Request::Append(mut append) => {
                let said = hearing.admit(&append)?;
                self.log.make_room(&mut append).await?;
                let last = append.entries.last().map(|entry| entry.log_id).or(append.prev_log_id);
                let answer = match self.raft.append_entries(append).await.map_err(stopped)? {
                    AppendEntriesResponse::Success => Answer::Appended(last),
                    AppendEntriesResponse::PartialSuccess(last) => Answer::Appended(last),
                    AppendEntriesResponse::Conflict => Answer::Conflict(None),
                    AppendEntriesResponse::HigherVote(vote) => Answer::HigherVote(vote),
                };
                hearing.answered(&answer, said);
                answer
            }
            Request::Vote(_) | Request::PreVote(_) if self.log.is_lost() => return Err(self.lacks_too_much()),
            Request::Vote(vote) if !self.may_vote_for(&vote) => Answer::Vote(self.no_vote()),
            Request::PreVote(vote) if !self.may_vote_for(&vote) => Answer::Vote(self.no_vote()),
            Request::Vote(vote) => Answer::Vote(self.raft.vote(vote).await.map_err(stopped)?),
            Request::PreVote(vote) => {
                self.note_end(&vote).await?;
                Answer::Vote(self.raft.pre_vote(vote).await.map_err(stopped)?)
            }
            Request::TransferLeader(transfer) => Answer::TakenOver(self.take_over(transfer).await?),
        };
        Ok(answer.encode())
    }

    /// Answers the messages of [`Peers::replicate`](super::Peers::replicate) in their order. The answers end at the first
    /// message that cannot be taken, with the reason, and when the group is stopped; errors are those of
    /// [`answer`](Self::answer).
    pub(crate) fn answer_all(&self, messages: BoxStream<'static, Message>) -> BoxStream<'static, Result<Bytes, Error>> {
        let (log, shard) = (self.log.clone(), self.log.shard());
        let (admitting, hearing) = (self.hearing(), self.hearing());
        // When what is to be answered next was said: answers come in the order of the messages, one for each.
        let (unanswered, mut said) = mpsc::unbounded_channel();
        let refused = Arc::new(OnceLock::new());
        let refusal = Arc::clone(&refused);
        let appends = messages.then(move |message| {
            let (log, admitting, unanswered) = (log.clone(), admitting.clone(), unanswered.clone());
            async move { take_append(&log, &admitting, &unanswered, message).await }
        });
        let appends = appends.map(move |taken| taken.map_err(|error| refused.set(error)).ok());
        let appends = appends.take_while(|append| ready(append.is_some())).filter_map(ready);
        let answers = self.raft.stream_append(appends).map(move |result| {
            let answer = match result {
                Ok(Ok(last)) => Answer::Appended(last),
                Ok(Err(StreamAppendError::Conflict(at))) => Answer::Conflict(Some(at)),
                Ok(Err(StreamAppendError::HigherVote(vote))) => Answer::HigherVote(vote),
                Err(fatal) => return Err(stopped(shard, &fatal)),
            };
            if let Ok(said) = said.try_recv() {
                hearing.answered(&answer, said);
            }
            Ok(answer.encode())
        });
        // Known once the answers have ended, which they do after the messages.
        let reason = stream::once(async move { refusal.get().cloned().map(Err) }).filter_map(ready);
        let (tasks, stops) = (self.tasks.clone(), self.tasks.clone().cancelled_owned());
        let stopped = stream::once(async move { check_runs(shard, &tasks).err().map(Err) }).filter_map(ready);
        answers.chain(reason).take_until(stops).chain(stopped).boxed()
    }

    /// Takes the messages of [`Peers::send_state`](super::Peers::send_state), installs the snapshot if it is newer than
    /// what is here, and answers once it is durable.
    ///
    /// # Errors
    /// [`Code::Overloaded`]: another one is being taken or received. [`Code::StorageFull`]: there is no room for it.
    /// [`Code::CorruptData`]: it is not a snapshot, or contradicts what is committed. Errors of the disk, and of the peer. Nothing was changed then. Who
    /// stops waiting does not stop an install that has begun.
    pub(crate) async fn receive_state(&self, messages: Incoming) -> Result<Bytes, Error> {
        check_runs(self.log.shard(), &self.tasks)?;
        let busy = |_| Error::new(Code::Overloaded, "a snapshot is being taken or received already");
        let changing = Arc::clone(&self.changing_state).try_lock_owned().map_err(busy)?;
        let (vote, received) = receive(&self.snapshots, messages, changing).await?;
        let meta = meta_of(&received.image)?;
        self.check_goes_on(&meta).await?;
        let data = SnapshotData::Received(Box::new(received));
        let snapshot = SnapshotOf::<TypeConfig, SnapshotData> { meta, snapshot: data };
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        let SnapshotResponse { vote } = installed.map_err(|error| stopped(self.log.shard(), &error))?;
        Ok(Answer::StateTaken(vote).encode())
    }
}

impl Group {
    /// Refuses a snapshot that ends in a later term than what is committed here and not behind it: no leader has one (X1).
    /// openraft would take it for damage of its own, and end the group.
    async fn check_goes_on(&self, snapshot: &SnapshotMeta) -> Result<(), Error> {
        let committed = self.raft.with_raft_state(|state| state.local_committed().copied()).await;
        let committed = committed.map_err(|error| stopped(self.log.shard(), &error))?;
        let Some((at, committed)) = snapshot.last_log_id.zip(committed) else { return Ok(()) };
        if at <= committed || at.index > committed.index {
            return Ok(());
        }
        let message = format!(
            "a snapshot of shard {} from another replica was refused: it ends with {at}, and {committed} is committed here",
            self.log.shard()
        );
        Err(Error::new(Code::CorruptData, message))
    }

    fn hearing(&self) -> Hearing {
        Hearing {
            raft: self.raft.clone(),
            log: self.log.clone(),
            heard: Arc::clone(&self.heard),
            doubt: Arc::clone(&self.doubt),
            is_leaving: Arc::clone(&self.is_leaving),
            tasks: self.tasks.clone(),
        }
    }

    fn may_vote_for(&self, candidate: &VoteRequest<TypeConfig>) -> bool {
        !self.log.is_doubted() || self.doubt.allows(candidate.last_log_id)
    }

    /// Others that ask where its log ends would take it for somebody who has all that it ever acknowledged.
    fn lacks_too_much(&self) -> Error {
        let (replica, shard) = (self.log.replica(), self.log.shard());
        let message = format!("a part of the log of replica {replica} of shard {shard} is lost: it does not vote yet");
        Error::new(Code::Unavailable, message)
    }

    /// The answer of a replica that does not vote now. Its own vote stays what it is.
    fn no_vote(&self) -> VoteResponse<TypeConfig> {
        let vote = self.log.vote().unwrap_or_else(|| Vote::new(0, 0));
        VoteResponse { vote, vote_granted: false, last_log_id: own_end(&self.log) }
    }
}

/// Takes note of what a leader says.
#[derive(Clone)]
struct Hearing {
    raft: Raft,
    log: GroupLog,
    heard: Arc<Mutex<Heard>>,
    doubt: Arc<Doubt>,
    is_leaving: Arc<AtomicBool>,
    tasks: CancellationToken,
}

impl Hearing {
    /// Takes note of what it says, unless it has yet to hear what this replica may have forgotten; when it said so.
    fn admit(&self, append: &AppendEntriesRequest<TypeConfig>) -> Result<Instant, Error> {
        let said = Instant::now();
        self.heard.lock().says(append.leader_commit.map_or(0, |id| id.index));
        if !self.log.is_doubted() {
            return Ok(said);
        }
        if !self.doubt.is_known_to(&append.vote) {
            let message = format!("a replica of shard {} first tells where its log ends", self.log.shard());
            return Err(Error::new(Code::Unavailable, message));
        }
        self.doubt.heard_of(&append.vote, append.leader_commit);
        Ok(said)
    }

    /// What it said then was answered: only now is it the leader of the newest term.
    fn answered(&self, answer: &Answer, said: Instant) {
        if !matches!(answer, Answer::Appended(_)) {
            return;
        }
        self.heard.lock().answered(said, Instant::now());
        let end = own_end(&self.log);
        let follows = self.log.vote();
        if self.log.is_doubted() && follows.is_some_and(|leader| self.doubt.is_reached(end, &leader)) {
            let (raft, log, is_leaving) = (self.raft.clone(), self.log.clone(), Arc::clone(&self.is_leaving));
            let ends = no_more(raft, log, is_leaving, "a leader");
            let tasks = self.tasks.clone();
            tokio::spawn(async move { tasks.run_until_cancelled(ends).await });
        }
    }
}

/// Refuses what comes to a group that stops: the consensus library would call that an error.
fn check_runs(shard: ShardId, tasks: &CancellationToken) -> Result<(), Error> {
    match tasks.is_cancelled() {
        true => Err(stopped(shard, &"this node does not run it any more")),
        false => Ok(()),
    }
}

async fn take_append(
    log: &GroupLog,
    hearing: &Hearing,
    unanswered: &mpsc::UnboundedSender<Instant>,
    message: Message,
) -> Result<AppendEntriesRequest<TypeConfig>, Error> {
    match Request::decode(message).map_err(|error| malformed(&error))? {
        Request::Append(mut append) => {
            let said = hearing.admit(&append)?;
            log.make_room(&mut append).await?;
            // Its receiver is gone once nobody waits for answers.
            let _ = unanswered.send(said);
            Ok(append)
        }
        _ => Err(Error::new(Code::InvalidRequest, "something else came among entries")),
    }
}

fn malformed(error: &std::io::Error) -> Error {
    Error::new(Code::InvalidRequest, format!("a message from another replica was refused: {error}"))
}
