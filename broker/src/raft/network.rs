//! openraft's network over [`Peers`].

use std::future::ready;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{Either, select};
use futures::stream::{self, StreamExt};
use futures::{Stream, pin_mut};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::EmptyNode;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{AnyError, OptionalSend};
use stratalog_proto::{ReplicaId, ShardId};

use super::peers::{NoAnswer, Peers, Route};
use super::send_state::messages;
use super::snapshots::SnapshotData;
use super::types::{TypeConfig, Vote};
use super::wire::{Answer, Request};

type Rpc = RPCError<TypeConfig>;

/// Makes connections to the other replicas of a group.
pub(super) struct Network {
    pub(super) peers: Arc<dyn Peers>,
    pub(super) shard: ShardId,
    pub(super) replica: ReplicaId,
}

/// A connection to one of them. All that goes wrong is `Unreachable`, which makes openraft back off instead of retrying
/// at once; a pre-vote has to fail too, or an isolated node would count silence as grants.
pub(super) struct Connection {
    peers: Arc<dyn Peers>,
    route: Route,
    /// It carries heartbeats only: they go beside the entries, so that none waits behind them.
    heartbeats: bool,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Connection {
        let route = Route { shard: self.shard, from: self.replica, to: ReplicaId(target) };
        Connection { peers: Arc::clone(&self.peers), route, heartbeats: false }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &EmptyNode) -> Connection {
        Connection { heartbeats: true, ..self.new_client(target, node).await }
    }
}

impl Connection {
    async fn ask(&self, request: Request, option: &RPCOption) -> Result<Answer, Rpc> {
        let answer = self.peers.ask(self.route, request.encode(), option.hard_ttl()).await;
        self.understood(answer)
    }

    async fn ask_vote(&self, request: Request, option: &RPCOption) -> Result<VoteResponse<TypeConfig>, Rpc> {
        match self.ask(request, option).await? {
            Answer::Vote(response) => Ok(response),
            other => Err(self.nonsense(&other)),
        }
    }

    async fn ask_heartbeat(
        &self,
        append: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<StreamAppendResult<TypeConfig>, Rpc> {
        let (matching, request) = (append.prev_log_id, Request::Append(append));
        match (self.ask(request, &option).await?, matching) {
            (Answer::Appended(last), _) => Ok(Ok(last)),
            (Answer::Conflict(_), Some(at)) => Ok(Err(StreamAppendError::Conflict(at))),
            (Answer::HigherVote(vote), _) => Ok(Err(StreamAppendError::HigherVote(vote))),
            (other, _) => Err(self.nonsense(&other)),
        }
    }

    fn understood(&self, answer: Result<Bytes, NoAnswer>) -> Result<Answer, Rpc> {
        let answer = answer.map_err(|error| unreachable(&error))?;
        Answer::decode(answer).map_err(|error| unreachable(&error))
    }

    fn nonsense(&self, answer: &Answer) -> Rpc {
        let to = self.route.to;
        unreachable(&io::Error::other(format!("replica {to} answered another question: {answer:?}")))
    }
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Rpc> {
        match self.ask(Request::Append(rpc), &option).await? {
            Answer::Appended(last) => Ok(AppendEntriesResponse::PartialSuccess(last)),
            Answer::Conflict(_) => Ok(AppendEntriesResponse::Conflict),
            Answer::HigherVote(vote) => Ok(AppendEntriesResponse::HigherVote(vote)),
            other => Err(self.nonsense(&other)),
        }
    }

    /// Sends without waiting for the answers of what went before: entries travel while earlier ones are flushed.
    ///
    /// Nobody is reached for before there is something to send. openraft's pause after a failure lies before each message:
    /// a stream that failed without having asked for one would be begun again at once, as fast as the processor can, for as
    /// long as the peer is down.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Rpc>>, Rpc>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeats {
            let connection: &'s Self = self;
            let asked = input.then(move |append| connection.ask_heartbeat(append, option.clone()));
            return Box::pin(async move { Ok(Box::pin(asked) as BoxStream<'s, _>) });
        }
        let (peers, route) = (Arc::clone(&self.peers), self.route);
        let mut messages = input.map(|append| Request::Append(append).encode()).boxed();
        let answers = stream::once(async move {
            match messages.next().await {
                Some(first) => peers.replicate(route, stream::once(ready(first)).chain(messages).boxed()),
                None => stream::empty().boxed(),
            }
        });
        let answers = answers.flatten();
        let results = answers.map(|answer| match self.understood(answer)? {
            Answer::Appended(last) => Ok(Ok(last)),
            Answer::Conflict(Some(at)) => Ok(Err(StreamAppendError::Conflict(at))),
            Answer::HigherVote(vote) => Ok(Err(StreamAppendError::HigherVote(vote))),
            other => Err(self.nonsense(&other)),
        });
        Box::pin(async move { Ok(Box::pin(results) as BoxStream<'s, _>) })
    }

    async fn vote(&mut self, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> Result<VoteResponse<TypeConfig>, Rpc> {
        self.ask_vote(Request::Vote(rpc), &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Rpc> {
        self.ask_vote(Request::PreVote(rpc), &option).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Rpc> {
        let expected = request.last_log_id().copied();
        match self.ask(Request::TransferLeader(request), &option).await? {
            Answer::TakenOver(true) => Ok(Ok(())),
            Answer::TakenOver(false) => Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual: None })),
            other => Err(self.nonsense(&other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::Kept(snapshots) = snapshot.snapshot else {
            let error = io::Error::other("only a state file of this replica's own is sent");
            return Err(StreamingError::Unreachable(Unreachable::new(&error)));
        };
        let on_its_way = snapshots.sending().begin(self.route.to);
        let sent = self.peers.send_state(self.route, on_its_way.counted(messages(vote, snapshots)));
        pin_mut!(cancel);
        let answer = match select(sent, cancel).await {
            Either::Left((answer, _)) => answer,
            Either::Right((closed, _)) => return Err(StreamingError::Closed(closed)),
        };
        match self.understood(answer)? {
            Answer::StateTaken(vote) => Ok(SnapshotResponse::new(vote)),
            other => Err(self.nonsense(&other).into()),
        }
    }
}

fn unreachable<E: std::error::Error + 'static>(error: &E) -> Rpc {
    RPCError::Unreachable(Unreachable::new(&AnyError::new(error)))
}
