//! A running Raft group.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, ForwardReason};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::{Config, RaftMetrics, ServerState};
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, RaftIndex, ShardId, Term};
use stratalog_storage::StateFiles;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::doubt::Doubt;
use super::heard::Heard;
use super::log::GroupLog;
use super::machine::Machine;
use super::members::end_changes;
use super::network::Network;
use super::peers::Peers;
use super::read_index::Turns;
use super::role::{RoleNow, follow};
use super::snapshots::{Snapshots, blocking};
use super::state_machine::StateMachine;
use super::timing::Timing;
use super::transfer::Holds;
use super::types::{EntryBytes, TypeConfig};
use crate::joint::Joint;
use crate::outcome::Results;

pub(super) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// One group of this node.
pub(crate) struct Group {
    pub(super) raft: Raft,
    pub(super) log: GroupLog,
    pub(super) snapshots: Arc<Snapshots>,
    /// One snapshot at a time, taken here or received. What is received holds it until Raft has done with it.
    pub(super) changing_state: Arc<tokio::sync::Mutex<()>>,
    pub(super) peers: Arc<dyn Peers>,
    /// Linearizable reads that wait for a majority.
    pub(super) reads: Joint<Result<RaftIndex, Error>>,
    pub(super) turns: Arc<Turns>,
    /// Who leads; see [`watch_role`](Self::watch_role).
    pub(super) role: watch::Receiver<RoleNow>,
    /// Its start is over: from now on an error of its own stops the process.
    pub(super) serves: watch::Sender<bool>,
    /// What leaders said.
    pub(super) heard: Arc<Mutex<Heard>>,
    pub(super) doubt: Arc<Doubt>,
    /// Nothing is proposed while leadership is being handed over.
    pub(super) holds: Holds,
    /// The node is about to stop.
    pub(super) is_leaving: Arc<AtomicBool>,
    /// Ends with this.
    pub(super) tasks: CancellationToken,
    _end_tasks: DropGuard,
}

/// An entry that was proposed.
pub(crate) struct Submitted {
    shard: ShardId,
    /// Its answer, if it had one at once.
    known: Option<ClientWriteResult<TypeConfig>>,
    answer: oneshot::Receiver<ClientWriteResult<TypeConfig>>,
}

impl Group {
    /// Starts the group over its recovered log, with the machine as the newest of its state files has it. Nothing above
    /// that is applied until a majority, or this replica [alone](Self::lead), has elected a leader: this waits for nobody. A
    /// replica without a log belongs to no group until one is [formed](Self::form) or a leader adds it.
    ///
    /// # Errors
    /// The state file or the log cannot be read, or the machine does not know the state; [`Code::CorruptData`] if its vote
    /// is lost.
    pub(crate) async fn start(
        log: GroupLog,
        machine: Arc<dyn Machine>,
        states: Arc<StateFiles>,
        peers: Arc<dyn Peers>,
    ) -> Result<Self, Error> {
        let timing = Timing::default();
        log.check_vote()?;
        if log.vote().is_some() && log.last_index().is_none() {
            log.set_doubted(true);
        }
        let config = Config { enable_elect: !log.is_doubted(), ..timing.config(log.shard())? };
        let (opened, restored) = (log.clone(), Arc::clone(&machine));
        let snapshots = blocking(move || Snapshots::start(states, &opened, &*restored)).await??;
        let state_machine = StateMachine::new(log.shard(), machine, Arc::clone(&snapshots));
        let network = Network { peers: Arc::clone(&peers), shard: log.shard(), replica: log.replica() };
        log.set_stopping(false);
        log.set_starting(true);
        let raft = Raft::new(log.replica().0, Arc::new(config), network, log.clone(), state_machine);
        let raft = log.beat().keep(raft).await;
        log.set_starting(false);
        let raft = raft.map_err(|error| stopped(log.shard(), &error))?;
        show_members(&raft).await.map_err(|error| stopped(log.shard(), &error))?;
        let tasks = CancellationToken::new();
        let serves = watch::Sender::new(false);
        let group = Self {
            role: follow(&raft, &log, &timing, serves.subscribe()),
            serves,
            raft,
            log,
            snapshots,
            changing_state: Arc::default(),
            peers: Arc::clone(&peers),
            reads: Joint::new(),
            turns: Arc::default(),
            heard: Arc::default(),
            doubt: Arc::default(),
            holds: Holds::default(),
            is_leaving: Arc::default(),
            _end_tasks: tasks.clone().drop_guard(),
            tasks,
        };
        group.spawn(end_changes(group.raft.clone(), group.watch_role()));
        group.settle_doubt(peers);
        Ok(group)
    }

    /// Runs something for as long as this is held.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.tasks.clone();
        tokio::spawn(async move { tasks.run_until_cancelled(work).await });
    }

    /// Who leads, as far as this replica knows. The last that is seen of a group that has stopped is that nobody does.
    pub(crate) fn watch_role(&self) -> watch::Receiver<RoleNow> {
        self.role.clone()
    }

    /// Proposes an entry as the leader of `term`, which keeps what its commands were promised once it is in the log. Entries
    /// are appended in the order of these calls; one of another term than the present one is not appended.
    ///
    /// `None`: no majority has answered this leader for the time of its lease. The entry was certainly not appended, and the next
    /// one may be: what is to stay before that has to be proposed again first.
    ///
    /// # Errors
    /// [`Code::Unavailable`]: the group has stopped; the entry was not proposed.
    pub(crate) async fn submit(&self, entry: EntryBytes, term: Term) -> Result<Option<Submitted>, Error> {
        let (responder, mut answer) = ProgressResponder::complete_only();
        let sent = self.raft.write(entry).responder(responder).with_leader(term.0).await;
        sent.map_err(|error| stopped(self.log.shard(), &error))?;
        // If the group has stopped meanwhile, the answer says so.
        let _ = self.after_proposed().await;
        let known = answer.try_recv().ok();
        let lacks_lease = known.as_ref().is_some_and(|known| match known {
            Err(ClientWriteError::ForwardToLeader(forward)) => forward.reason == ForwardReason::LeaseExpired,
            _ => false,
        });
        Ok((!lacks_lease).then(|| Submitted { shard: self.log.shard(), known, answer }))
    }

    /// Waits until what was proposed before is in the log, or refused: it is answered behind that, out of the same queue.
    pub(super) async fn after_proposed(&self) -> Result<(), Fatal<TypeConfig>> {
        self.raft.with_raft_state(|_| ()).await
    }

    /// Whether this replica leads, and runs.
    pub(crate) fn is_leader(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.running_state.is_ok() && metrics.state == ServerState::Leader
    }

    /// The group's log.
    pub(crate) fn log(&self) -> &GroupLog {
        &self.log
    }

    /// Stops the group, with all that it runs; what is proposed and not yet applied stays without an answer.
    pub(crate) async fn stop(&self) {
        self.tasks.cancel();
        self.log.set_stopping(true);
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(shard = %self.log.shard(), %error, "a Raft group did not stop cleanly");
        }
    }
}

impl Submitted {
    /// Waits until the entry is applied here.
    ///
    /// # Errors
    /// [`Code::NotLeader`]: it was certainly not appended. [`Code::Timeout`]: it may or may not be applied, now or later.
    pub(crate) async fn outcome(self) -> Result<(RaftIndex, Results), Error> {
        let answer = match self.known {
            Some(known) => Ok(known),
            None => self.answer.await,
        };
        match answer {
            Ok(Ok(response)) => Ok((RaftIndex(response.log_id.index), response.data.0)),
            Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                let leader = forward.leader_id.map(|id| format!("; replica {id} does")).unwrap_or_default();
                let message = format!("this node does not lead shard {} now{leader}", self.shard);
                Err(Error::new(Code::NotLeader, message))
            }
            Ok(Err(error)) => Err(unknown(self.shard, &error.to_string())),
            Err(_) => Err(unknown(self.shard, "the group stopped")),
        }
    }
}

/// Returns once the metrics show who belongs to the group: right after a start, and when it is formed, they do not.
pub(super) async fn show_members(raft: &Raft) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let known = raft.with_raft_state(|state| *state.membership_state.effective().log_id()).await?;
    let shown = |metrics: &RaftMetrics<TypeConfig>| *metrics.membership_config.log_id() >= known;
    raft.wait(None).metrics(shown, "show who belongs to the group").await?;
    Ok(())
}

pub(super) fn stopped(shard: ShardId, error: &dyn std::fmt::Display) -> Error {
    Error::new(Code::Unavailable, format!("the Raft group of shard {shard} has stopped: {error}"))
}

fn unknown(shard: ShardId, why: &str) -> Error {
    let message = format!("an entry of shard {shard} has no answer, and may or may not take effect: {why}");
    Error::new(Code::Timeout, message)
}
