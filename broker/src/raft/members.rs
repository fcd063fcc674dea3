//! Who belongs to a group, and changes of that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::impls::EmptyNode;
use openraft::raft::ClientWriteResponse;
use openraft::{ChangeMembers, Instant, Precondition};
use stratalog_proto::{Code, Error, RaftIndex, ReplicaId};
use tokio::sync::watch;

use super::group::{Group, Raft};
use super::role::RoleNow;
use super::types::TypeConfig;

/// How long a change may take to be committed.
const CHANGE_WAIT: Duration = Duration::from_secs(10);
/// How long the second entry of a change of voters may take to follow the first one, before somebody else proposes it.
const SECOND_ENTRY_WAIT: Duration = Duration::from_millis(500);
/// Log that a learner may still lack when it becomes a voter: what takes a moment, so that the group does not wait for it.
const LAG_BYTES: u64 = 8 << 20;

type Change = ChangeMembers<u64, EmptyNode>;
type Changed = Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

/// Who belongs to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// While voters change, those of before and of after.
    pub(crate) voters: BTreeSet<ReplicaId>,
    pub(crate) learners: BTreeSet<ReplicaId>,
    /// A change is under way, or half done: whoever leads ends it.
    pub(crate) changing: bool,
}

impl Group {
    /// Whether this replica has a vote, as far as its log knows.
    pub(crate) fn has_vote(&self) -> bool {
        let (metrics, own) = (self.raft.server_metrics(), self.log.replica().0);
        metrics.borrow_watched().membership_config.voter_ids().any(|id| id == own)
    }

    /// Who belongs to the group, as far as this replica's log knows.
    pub(crate) fn members(&self) -> Members {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let (effective, committed) = (&metrics.membership_config, &metrics.committed_membership_config);
        let membership = effective.membership();
        Members {
            voters: membership.voter_ids().map(ReplicaId).collect(),
            learners: membership.learner_ids().map(ReplicaId).collect(),
            changing: membership.get_joint_config().len() > 1 || effective.log_id() != committed.log_id(),
        }
    }

    /// The same, by a leader that a majority has confirmed since this was called: no later leader had changed it before.
    ///
    /// # Errors
    /// As [`read_index`](Self::read_index).
    pub(crate) async fn confirmed_members(&self, timeout: Duration) -> Result<Members, Error> {
        self.read_index(timeout).await?;
        Ok(self.members())
    }

    /// Adds a replica without a vote, and returns once that is committed; does nothing if it belongs to the group. Its log
    /// follows from then on, see [`progress`](Self::progress).
    ///
    /// # Errors
    /// [`Code::NotLeader`]; [`Code::Conflict`] while another change is under way; [`Code::Timeout`]: it may yet happen.
    pub(crate) async fn add_learner(&self, replica: ReplicaId) -> Result<(), Error> {
        let members = self.members();
        if members.voters.contains(&replica) || members.learners.contains(&replica) {
            return Ok(());
        }
        self.change(Change::AddNodes(BTreeMap::from([(replica.0, EmptyNode {})]))).await
    }

    /// Gives a learner a vote, and returns once that is committed; does nothing if it has one. The caller has made sure
    /// that it holds every replay segment of its manifest (L4).
    ///
    /// # Errors
    /// As [`add_learner`](Self::add_learner); [`Code::InvalidRequest`] for a replica that does not belong to the group;
    /// [`Code::Unavailable`] while its log is behind.
    pub(crate) async fn promote(&self, replica: ReplicaId) -> Result<(), Error> {
        let members = self.members();
        if members.voters.contains(&replica) && !members.changing {
            return Ok(());
        }
        let shard = self.log.shard();
        if !members.voters.contains(&replica) && !members.learners.contains(&replica) {
            let message = format!("replica {replica} of shard {shard} cannot vote: it does not belong to the group");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let behind = self.behind(replica);
        if behind.is_none_or(|bytes| bytes > LAG_BYTES) {
            let message =
                format!("replica {replica} of shard {shard} cannot vote yet: its log is behind ({behind:?} bytes)");
            return Err(Error::new(Code::Unavailable, message));
        }
        self.change(Change::AddVoterIds(BTreeSet::from([replica.0]))).await
    }

    /// Takes a voter's vote, and returns once that is committed; it follows on. Does nothing if it has none.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub(crate) async fn demote(&self, replica: ReplicaId) -> Result<(), Error> {
        if !self.members().voters.contains(&replica) {
            return Ok(());
        }
        self.check_may_go(replica)?;
        self.change_to(Change::RemoveVoters(BTreeSet::from([replica.0])), true).await
    }

    /// Takes a replica out of the group, and returns once that is committed; does nothing if it does not belong to it. Its
    /// id is never used again.
    ///
    /// # Errors
    /// As [`add_learner`](Self::add_learner); [`Code::QuorumAtRisk`] for the only voter; [`Code::InvalidRequest`] for this
    /// replica itself, which has to hand leadership over before.
    pub(crate) async fn remove(&self, replica: ReplicaId) -> Result<(), Error> {
        let members = self.members();
        let is_voter = members.voters.contains(&replica);
        if !is_voter && !members.learners.contains(&replica) {
            return Ok(());
        }
        self.check_may_go(replica)?;
        let ids = BTreeSet::from([replica.0]);
        self.change(if is_voter { Change::RemoveVoters(ids) } else { Change::RemoveNodes(ids) }).await
    }

    fn check_may_go(&self, replica: ReplicaId) -> Result<(), Error> {
        let (voters, shard) = (self.members().voters, self.log.shard());
        if voters.iter().all(|voter| *voter == replica) {
            let message = format!("replica {replica} is the only voter of shard {shard}: without it the shard is lost");
            return Err(Error::new(Code::QuorumAtRisk, message));
        }
        if replica == self.log.replica() {
            let message = format!("replica {replica} leads shard {shard}: it hands leadership over before it leaves");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        Ok(())
    }

    /// On a leader: up to which entry each replica's log is known to be the same and durable, its own included. Empty
    /// elsewhere.
    pub(crate) fn progress(&self) -> BTreeMap<ReplicaId, RaftIndex> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.iter().flatten();
        matched.filter_map(|(id, at)| Some((ReplicaId(*id), RaftIndex(at.as_ref()?.index)))).collect()
    }

    /// On a leader, of another replica that has answered it: up to which entry it has the log, how many bytes of it it lacks, and
    /// how long ago it answered.
    pub(crate) fn follower(&self, replica: ReplicaId) -> Option<(RaftIndex, u64, Duration)> {
        let (has, lacks) = (self.progress().get(&replica).copied()?, self.behind(replica)?);
        let metrics = self.raft.metrics();
        let answered = metrics.borrow_watched().heartbeat.as_ref().and_then(|of| of.get(&replica.0).copied().flatten());
        Some((has, lacks, answered?.into_inner().elapsed()))
    }

    /// On a leader: bytes of log that a replica lacks; `None` if nothing is known of it.
    pub(super) fn behind(&self, replica: ReplicaId) -> Option<u64> {
        let matched = self.progress().get(&replica).copied()?;
        Some(self.log.bytes_between(matched, RaftIndex(self.log.last_index()?)))
    }

    async fn change(&self, change: Change) -> Result<(), Error> {
        self.change_to(change, false).await
    }

    /// A change after which voters that lose their vote follow on, or belong to the group no more.
    async fn change_to(&self, change: Change, follow_on: bool) -> Result<(), Error> {
        if !self.role.borrow().leads {
            return Err(self.not_leader());
        }
        // It is two entries, and the second is proposed by whoever waits: nobody may stop waiting in between.
        let raft = self.raft.clone();
        let changing = tokio::spawn(async move { raft.change_membership(change, follow_on).await });
        let error = match tokio::time::timeout(CHANGE_WAIT, changing).await {
            Ok(Ok(Ok(_))) => return Ok(()),
            Ok(Ok(Err(error))) => error,
            Ok(Err(panic)) => return Err(self.unknown_change(&panic)),
            Err(_) => return Err(self.unknown_change(&format_args!("it takes longer than {CHANGE_WAIT:?}"))),
        };
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => Err(self.not_leader()),
            RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => {
                let message = format!("another change of the members of shard {} is under way", self.log.shard());
                Err(Error::new(Code::Conflict, message))
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
                let message = format!("the members of shard {} cannot change so: {error}", self.log.shard());
                Err(Error::new(Code::InvalidRequest, message))
            }
            error => Err(self.unknown_change(&error)),
        }
    }

    fn unknown_change(&self, why: &dyn std::fmt::Display) -> Error {
        let message = format!("a change of the members of shard {} has no outcome yet: {why}", self.log.shard());
        Error::new(Code::Timeout, message)
    }
}

/// Ends changes of voters that are half done, for as long as this replica leads: until then both the old and the new voters have to
/// agree to everything. An earlier leader may have left one so; and openraft refuses the second entry of a change, for good, when the
/// others have not answered for a moment. Runs until the group has stopped.
pub(super) async fn end_changes(raft: Raft, mut role: watch::Receiver<RoleNow>) {
    let mut metrics = raft.server_metrics();
    while role.wait_for(|role| role.leads).await.is_ok() {
        let half_done = {
            let metrics = metrics.borrow_watched();
            let joint = metrics.membership_config.membership().get_joint_config().len() > 1;
            joint.then(|| *metrics.membership_config.log_id())
        };
        let Some(last_membership_log_id) = half_done else {
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { return },
                changed = role.changed() => if changed.is_err() { return },
            }
            continue;
        };
        // Whoever began it most often ends it at once; and then this one comes to nothing.
        tokio::time::sleep(SECOND_ENTRY_WAIT).await;
        let no_other = [Precondition::LastMembershipLogId { last_membership_log_id }];
        // A voter that is to go follows on as a learner: whether it is to be one is looked at afterwards.
        let ended: Changed = raft.change_membership_if(Change::AddVoterIds(BTreeSet::new()), true, no_other).await;
        match ended {
            Ok(_) => tracing::info!(replica = raft.node_id(), "ended a change of voters that was half done"),
            Err(RaftError::Fatal(_)) => return,
            Err(error) => tracing::debug!(replica = raft.node_id(), %error, "a change of voters was not ended"),
        }
    }
}
