//! What a replica may answer a linearizable read from, and how fresh what it knows is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use openraft::RaftState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, RaftIndex, ReplicaId, ShardId};
use stratalog_storage::sabotage::{Bug, planted};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::group::{Group, Raft, stopped};
use super::log::GroupLog;
use super::peers::{Message, Peers, Route};
use super::role::RoleNow;
use super::types::{LogId, TypeConfig, Vote};
use super::wire::{Answer, Request};

/// How long a leader may take to be confirmed, for all who wait for it.
const CONFIRM_WAIT: Duration = Duration::from_secs(5);
/// How long a voter may take to answer before it is asked again.
const ASK_WAIT: Duration = Duration::from_secs(1);
/// The pause before a voter is asked again that did not answer, or not to the question.
const ASK_AGAIN: Duration = Duration::from_millis(50);

impl Group {
    /// An index with everything that was acknowledged before this call: whoever has applied it may serve a linearizable
    /// read. A quorum has confirmed meanwhile that this replica leads. Reads that come while others are being confirmed
    /// share the next confirmation.
    ///
    /// openraft's own way is not taken: it counts an answer that came before a pause of this process for an empty message that was
    /// sent after it, since both end at the same entry, and lets a leader that was replaced meanwhile read what was before.
    ///
    /// # Errors
    /// [`Code::NotLeader`]; [`Code::Timeout`] if no quorum answers in time; [`Code::Unavailable`]: the group has stopped.
    pub(crate) async fn read_index(&self, within: Duration) -> Result<RaftIndex, Error> {
        if planted(Bug::StaleRead) {
            return self.own_index();
        }
        let asker = Asker {
            raft: self.raft.clone(),
            log: self.log.clone(),
            role: self.watch_role(),
            peers: Arc::clone(&self.peers),
            turns: Arc::clone(&self.turns),
        };
        let (tasks, shard) = (self.tasks.clone(), self.log.shard());
        let confirmed = self.reads.join(move || async move {
            let confirmed = timeout(CONFIRM_WAIT, tasks.run_until_cancelled(asker.confirm())).await;
            confirmed.map_err(|_| late(shard, CONFIRM_WAIT))?.unwrap_or_else(|| Err(stopped(shard, &"it ends")))
        });
        timeout(within, confirmed).await.unwrap_or_else(|_| Err(late(shard, within)))
    }

    /// What this replica has applied, if it believes that it leads. Others may have acknowledged more.
    fn own_index(&self) -> Result<RaftIndex, Error> {
        let believes = self.role.borrow().leader == Some(self.log.replica());
        let applied = self.raft.metrics().borrow_watched().last_applied;
        applied.filter(|_| believes).map(|id| RaftIndex(id.index)).ok_or_else(|| self.not_leader())
    }

    /// How long ago a leader was heard of; `None` before the first time. Not of interest on a leader.
    pub(crate) fn last_heard(&self) -> Option<Duration> {
        self.heard.lock().last().map(|at| at.elapsed())
    }

    /// How long ago nothing was committed that lies above `applied`, by what this replica heard of its leaders; `None` if that
    /// is longer ago than it remembers. Not of interest on a leader.
    pub(crate) fn age_of(&self, applied: RaftIndex) -> Option<Duration> {
        self.heard.lock().age_of(applied.0, Instant::now())
    }

    /// That this replica does not lead, and who does as far as it knows.
    pub(crate) fn not_leader(&self) -> Error {
        not_leader(&self.log, *self.role.borrow())
    }
}

fn not_leader(log: &GroupLog, role: RoleNow) -> Error {
    let shard = log.shard();
    let message = match role.leader.filter(|leader| *leader != log.replica()) {
        Some(leader) => format!("this node does not lead shard {shard}; replica {leader} does"),
        None => format!("shard {shard} has no leader that this node knows of; send it again"),
    };
    Error::new(Code::NotLeader, message)
}

fn late(shard: ShardId, waited: Duration) -> Error {
    let message =
        format!("no majority of shard {shard} confirmed that this replica leads: it took longer than {waited:?}");
    Error::new(Code::Timeout, message)
}

/// Voters that are being asked: one question at a time to each, so that one that hangs is not asked again and again.
pub(super) type Turns = Mutex<BTreeMap<ReplicaId, Arc<tokio::sync::Mutex<()>>>>;

/// Asks the voters of a group whether they follow this replica.
struct Asker {
    raft: Raft,
    log: GroupLog,
    role: watch::Receiver<RoleNow>,
    peers: Arc<dyn Peers>,
    turns: Arc<Turns>,
}

impl Asker {
    /// Asks until a majority has said that it follows this leader still.
    async fn confirm(mut self) -> Result<RaftIndex, Error> {
        let own = self.log.replica();
        let decided = self.role.wait_for(|role| !role.is_about_to_lead(own)).await.map(|role| role.leads);
        if !decided.map_err(|error| self.stopped(&error))? {
            return Err(self.not_leader());
        }
        let lead = self.raft.with_raft_state(move |state| Lead::of(state, own)).await;
        let lead = lead.map_err(|error| self.stopped(&error))?.ok_or_else(|| self.not_leader())?;
        let mut role = self.role.clone();
        tokio::select! {
            confirmed = self.is_followed(&lead) => if !confirmed { return Err(self.not_leader()) },
            _ = role.wait_for(|role| !role.leads) => return Err(self.not_leader()),
        }
        Ok(RaftIndex(lead.committed.index))
    }

    /// Whether a majority follows; not, if a voter knows of a newer term.
    async fn is_followed(&self, lead: &Lead) -> bool {
        let own = self.log.replica();
        let others = lead.voters().into_iter().filter(|voter| *voter != own);
        let mut answers: FuturesUnordered<_> = others.map(|voter| self.follows(voter, lead)).collect();
        let mut followers = BTreeSet::from([own]);
        while !lead.is_confirmed_by(&followers) {
            match answers.next().await {
                Some((voter, true)) => drop(followers.insert(voter)),
                Some((_, false)) | None => return false,
            }
        }
        true
    }

    /// Asks a voter, again and again until it answers, and says whether it takes what this leader says.
    async fn follows(&self, voter: ReplicaId, lead: &Lead) -> (ReplicaId, bool) {
        loop {
            match self.ask(voter, lead).await {
                Some(Answer::Appended(_)) => return (voter, true),
                Some(Answer::HigherVote(_)) => return (voter, false),
                _ => sleep(ASK_AGAIN).await,
            }
        }
    }

    /// Asks a voter once. The answer belongs to this question. It is waited for also when nobody needs it any more: what is taken
    /// back makes more work for both sides than what is answered.
    async fn ask(&self, voter: ReplicaId, lead: &Lead) -> Option<Answer> {
        let turn = Arc::clone(self.turns.lock().entry(voter).or_default());
        let turn = turn.lock_owned().await;
        let route = Route { shard: self.log.shard(), from: self.log.replica(), to: voter };
        let committed = self.raft.data_metrics().borrow_watched().local_committed;
        let asked = self.peers.ask(route, lead.question(committed), ASK_WAIT);
        let asked = tokio::spawn(async move {
            let _turn = turn;
            asked.await
        });
        Answer::decode(asked.await.ok()?.ok()?).ok()
    }

    fn not_leader(&self) -> Error {
        not_leader(&self.log, *self.role.borrow())
    }

    fn stopped(&self, error: &dyn std::fmt::Display) -> Error {
        stopped(self.log.shard(), error)
    }
}

/// What a leader knew at one moment.
struct Lead {
    vote: Vote,
    /// Up to where everything is committed that was acknowledged before, in this term or an earlier one.
    committed: LogId,
    /// The voters; while they change, those of before and of after.
    configs: Vec<BTreeSet<ReplicaId>>,
}

impl Lead {
    /// `None` if this replica does not lead, or has not committed an entry of its term yet.
    fn of(state: &RaftState<TypeConfig>, own: ReplicaId) -> Option<Self> {
        let vote = *state.vote_ref();
        let committed = state.local_committed().copied()?;
        let leads = vote.committed && vote.leader_id.voted_for == own.0;
        let of_its_term = committed.leader_id.term == vote.leader_id.term;
        let configs = state.membership_state.effective().membership().get_joint_config();
        let configs = configs.iter().map(|voters| voters.iter().copied().map(ReplicaId).collect()).collect();
        (leads && of_its_term).then_some(Self { vote, committed, configs })
    }

    fn voters(&self) -> BTreeSet<ReplicaId> {
        self.configs.iter().flatten().copied().collect()
    }

    /// A message without entries: whoever takes it has seen no newer term. `committed`: by now.
    fn question(&self, committed: Option<LogId>) -> Message {
        // A later leader's is not this one's to tell.
        let of_its_term = committed.filter(|committed| committed.leader_id.term == self.vote.leader_id.term);
        let (vote, leader_commit) = (self.vote, of_its_term.max(Some(self.committed)));
        Request::Append(AppendEntriesRequest { vote, prev_log_id: None, leader_commit, entries: Vec::new() }).encode()
    }

    fn is_confirmed_by(&self, followers: &BTreeSet<ReplicaId>) -> bool {
        self.configs.iter().all(|voters| 2 * voters.intersection(followers).count() > voters.len())
    }
}
