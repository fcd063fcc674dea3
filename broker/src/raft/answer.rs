//! What a group answers to its other replicas.

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use openraft::raft::{AppendEntriesResponse, SnapshotResponse, StreamAppendError};
use openraft::type_config::alias::SnapshotOf;
use stratalog_proto::{Code, Error};

use super::group::{Group, stopped};
use super::peers::{Incoming, Message};
use super::receive_state::receive;
use super::snapshots::{SnapshotData, meta_of};
use super::types::TypeConfig;
use super::wire::{Answer, Request};

impl Group {
    /// Answers one message of [`Peers::ask`](super::Peers::ask).
    ///
    /// # Errors
    /// [`Code::InvalidRequest`]: it is no message of a replica. [`Code::Unavailable`]: the group has stopped.
    pub(crate) async fn answer(&self, message: Message) -> Result<Bytes, Error> {
        let stopped = |error| stopped(self.log.shard(), &error);
        let answer = match Request::decode(message).map_err(|error| malformed(&error))? {
            Request::Append(append) => {
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
    /// message that cannot be taken.
    pub(crate) fn answer_all(&self, messages: BoxStream<'static, Message>) -> BoxStream<'static, Result<Bytes, Error>> {
        let appends = messages.map(|message| match Request::decode(message) {
            Ok(Request::Append(append)) => Some(append),
            Ok(_) | Err(_) => None,
        });
        let appends = appends.take_while(|append| std::future::ready(append.is_some())).filter_map(std::future::ready);
        let shard = self.log.shard();
        let answers = self.raft.stream_append(appends).map(move |result| match result {
            Ok(Ok(last)) => Ok(Answer::Appended(last).encode()),
            Ok(Err(StreamAppendError::Conflict(at))) => Ok(Answer::Conflict(Some(at)).encode()),
            Ok(Err(StreamAppendError::HigherVote(vote))) => Ok(Answer::HigherVote(vote).encode()),
            Err(fatal) => Err(stopped(shard, &fatal)),
        });
        answers.boxed()
    }

    /// Takes the messages of [`Peers::send_state`](super::Peers::send_state), installs the snapshot if it is newer than
    /// what is here, and answers once it is durable.
    ///
    /// # Errors
    /// [`Code::Overloaded`]: another one is being taken or received. [`Code::StorageFull`]: there is no room for it.
    /// [`Code::CorruptData`]: it is not a snapshot. Errors of the disk, and of the peer. Nothing was changed then.
    pub(crate) async fn receive_state(&self, messages: Incoming) -> Result<Bytes, Error> {
        let busy = |_| Error::new(Code::Overloaded, "a snapshot is being taken or received already");
        let _one = self.changing_state.try_lock().map_err(busy)?;
        let (vote, received) = receive(&self.snapshots, messages).await?;
        let meta = meta_of(&received.image)?;
        let data = SnapshotData::Received(Box::new(received));
        let snapshot = SnapshotOf::<TypeConfig, SnapshotData> { meta, snapshot: data };
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        let SnapshotResponse { vote } = installed.map_err(|error| stopped(self.log.shard(), &error))?;
        Ok(Answer::StateTaken(vote).encode())
    }
}

fn malformed(error: &std::io::Error) -> Error {
    Error::new(Code::InvalidRequest, format!("a message from another replica was refused: {error}"))
}
