//! What a group answers to its other replicas.

use std::future::ready;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError};
use openraft::type_config::alias::SnapshotOf;
use stratalog_proto::{Code, Error};

use super::group::{Group, stopped};
use super::log::GroupLog;
use super::peers::{Incoming, Message};
use super::receive_state::receive;
use super::snapshots::{SnapshotData, meta_of};
use super::types::TypeConfig;
use super::wire::{Answer, Request};

impl Group {
    /// Answers one message of [`Peers::ask`](super::Peers::ask).
    ///
    /// # Errors
    /// [`Code::InvalidRequest`]: it is no message of a replica. [`Code::StorageFull`]: the log has no room for its entries
    /// now. [`Code::Unavailable`]: the group has stopped.
    pub(crate) async fn answer(&self, message: Message) -> Result<Bytes, Error> {
        let stopped = |error| stopped(self.log.shard(), &error);
        let answer = match Request::decode(message).map_err(|error| malformed(&error))? {
            Request::Append(mut append) => {
                self.log.make_room(&mut append).await?;
                let last = append.entries.last().map(|entry| entry.log_id).or(append.prev_log_id);
                match self.raft.append_entries(append).await.map_err(stopped)? {
                    AppendEntriesResponse::Success => Answer::Appended(last),
                    AppendEntriesResponse::PartialSuccess(last) => Answer::Appended(last),
                    AppendEntriesResponse::Conflict => Answer::Conflict(None),
                    AppendEntriesResponse::HigherVote(vote) => Answer::HigherVote(vote),
                }
            }
            Request::Vote(vote) => Answer::Vote(self.raft.vote(vote).await.map_err(stopped)?),
            Request::PreVote(vote) => Answer::Vote(self.raft.pre_vote(vote).await.map_err(stopped)?),
        };
        Ok(answer.encode())
    }

    /// Answers the messages of [`Peers::replicate`](super::Peers::replicate) in their order. The answers end at the first
    /// message that cannot be taken, with the reason; errors are those of [`answer`](Self::answer).
    pub(crate) fn answer_all(&self, messages: BoxStream<'static, Message>) -> BoxStream<'static, Result<Bytes, Error>> {
        let (log, shard) = (self.log.clone(), self.log.shard());
        let refused = Arc::new(OnceLock::new());
        let refusal = Arc::clone(&refused);
        let appends = messages.then(move |message| {
            let log = log.clone();
            async move { take_append(&log, message).await }
        });
        let appends = appends.map(move |taken| taken.map_err(|error| refused.set(error)).ok());
        let appends = appends.take_while(|append| ready(append.is_some())).filter_map(ready);
        let answers = self.raft.stream_append(appends).map(move |result| match result {
            Ok(Ok(last)) => Ok(Answer::Appended(last).encode()),
            Ok(Err(StreamAppendError::Conflict(at))) => Ok(Answer::Conflict(Some(at)).encode()),
            Ok(Err(StreamAppendError::HigherVote(vote))) => Ok(Answer::HigherVote(vote).encode()),
            Err(fatal) => Err(stopped(shard, &fatal)),
        });
        // Known once the answers have ended, which they do after the messages.
        let reason = stream::once(async move { refusal.get().cloned().map(Err) }).filter_map(ready);
        answers.chain(reason).boxed()
    }

    /// Takes the messages of [`Peers::send_state`](super::Peers::send_state), installs the snapshot if it is newer than
    /// what is here, and answers once it is durable.
    ///
    /// # Errors
    /// [`Code::Overloaded`]: another one is being taken or received. [`Code::StorageFull`]: there is no room for it.
    /// [`Code::CorruptData`]: it is not a snapshot. Errors of the disk, and of the peer. Nothing was changed then. Who
    /// stops waiting does not stop an install that has begun.
    pub(crate) async fn receive_state(&self, messages: Incoming) -> Result<Bytes, Error> {
        let busy = |_| Error::new(Code::Overloaded, "a snapshot is being taken or received already");
        let changing = Arc::clone(&self.changing_state).try_lock_owned().map_err(busy)?;
        let (vote, received) = receive(&self.snapshots, messages, changing).await?;
        let meta = meta_of(&received.image)?;
        let data = SnapshotData::Received(Box::new(received));
        let snapshot = SnapshotOf::<TypeConfig, SnapshotData> { meta, snapshot: data };
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        let SnapshotResponse { vote } = installed.map_err(|error| stopped(self.log.shard(), &error))?;
        Ok(Answer::StateTaken(vote).encode())
    }
}

async fn take_append(log: &GroupLog, message: Message) -> Result<AppendEntriesRequest<TypeConfig>, Error> {
    match Request::decode(message).map_err(|error| malformed(&error))? {
        Request::Append(mut append) => log.make_room(&mut append).await.map(|()| append),
        Request::Vote(_) | Request::PreVote(_) => Err(Error::new(Code::InvalidRequest, "a vote came among entries")),
    }
}

fn malformed(error: &std::io::Error) -> Error {
    Error::new(Code::InvalidRequest, format!("a message from another replica was refused: {error}"))
}
