//! Leadership that is handed over while all goes well, so that nobody waits for an election.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::Instant;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use stratalog_proto::{Code, Error, ReplicaId};
use tokio::sync::watch;

use super::group::{Group, Raft};
use super::types::TypeConfig;

/// How long what is in flight may take to be applied before leadership is handed over nevertheless.
const LANDING: Duration = Duration::from_millis(250);
/// How long another replica may take to lead.
const TRANSFER_WAIT: Duration = Duration::from_secs(3);
/// A replica that answered more recently is there.
const FRESH: Duration = Duration::from_secs(1);
/// Log that the next leader may lack: it has to have all of it in half a second, in which nobody can write.
const LAG_BYTES: u64 = 8 << 20;

/// How many want nothing more to be proposed, because they hand leadership over.
#[derive(Default)]
pub(super) struct Holds(watch::Sender<usize>);

/// Nothing more is proposed for as long as this is held.
struct Hold<'a>(&'a Holds);

impl Holds {
    fn hold(&self) -> Hold<'_> {
        self.0.send_modify(|count| *count += 1);
        Hold(self)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let Holds(count) = self.0;
        count.send_modify(|count| *count -= 1);
    }
}

impl Group {
    /// How many want nothing more to be proposed for now.
    pub(crate) fn watch_holds(&self) -> watch::Receiver<usize> {
        self.holds.0.subscribe()
    }

    /// Hands leadership over to a voter, and returns once it, or a third one, leads. What is in flight lands first: this
    /// replica would not hear what became of it until the next leader tells.
    ///
    /// # Errors
    /// [`Code::NotLeader`]; [`Code::InvalidRequest`] for a replica that does not vote; [`Code::Unavailable`] for one that
    /// does not answer or is behind: nothing was done; [`Code::Timeout`] if it does not lead in time: whoever is elected
    /// goes on.
    pub(crate) async fn transfer_leader(&self, to: ReplicaId) -> Result<(), Error> {
        let own = self.log.replica();
        if !self.is_leader() {
            return Err(self.not_leader());
        }
        if to == own {
            return Ok(());
        }
        self.check_successor(to)?;
        let _hold = self.holds.hold();
        self.land().await;
        self.raft.trigger().transfer_leader(to.0).await.map_err(|error| self.stopped(&error))?;
        let mut role = self.watch_role();
        let handed_over = role.wait_for(|role| role.is_led_by_another(own));
        match tokio::time::timeout(TRANSFER_WAIT, handed_over).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.stopped(&error)),
            Err(_) => {
                let shard = self.log.shard();
                let message =
                    format!("replica {to} of shard {shard} did not take the leadership over in {TRANSFER_WAIT:?}");
                Err(Error::new(Code::Timeout, message))
            }
        }
    }

    /// Hands leadership over to whoever is fit for it. Does nothing on a replica that does not lead.
    ///
    /// # Errors
    /// As [`hand_over_to`](Self::hand_over_to).
    pub(crate) async fn hand_over(&self) -> Result<(), Error> {
        self.hand_over_to(|_| true).await
    }

    /// Hands leadership over to whoever is fit for it, among those that may lead. Does nothing on a replica that does not
    /// lead.
    ///
    /// # Errors
    /// As [`transfer_leader`](Self::transfer_leader); [`Code::Unavailable`] if no voter is fit.
    pub(crate) async fn hand_over_to(&self, may_lead: impl Fn(ReplicaId) -> bool) -> Result<(), Error> {
        if !self.is_leader() {
            return Ok(());
        }
        let own = self.log.replica();
        let voters = self.members().voters.into_iter().filter(|id| *id != own && may_lead(*id));
        let fit = voters.filter(|id| self.check_successor(*id).is_ok());
        let progress = self.progress();
        let nobody = || {
            let message = format!("shard {} has no other replica that could lead it now", self.log.shard());
            Error::new(Code::Unavailable, message)
        };
        let best = fit.max_by_key(|id| (progress.get(id).copied(), std::cmp::Reverse(*id))).ok_or_else(nobody)?;
        self.transfer_leader(best).await
    }

    /// Waits a while until all that was proposed is applied.
    async fn land(&self) {
        let in_log = self.after_proposed().await;
        let last = in_log.ok().and_then(|()| self.log.last_index());
        let landed = self.raft.wait(Some(LANDING)).applied_index_at_least(last, "land what is in flight").await;
        if let Err(error) = landed {
            tracing::debug!(shard = %self.log.shard(), %error, "leadership is handed over with entries in flight");
        }
    }

    /// Whether a replica could lead at once: while it cannot, nobody would, until there is an election.
    fn check_successor(&self, to: ReplicaId) -> Result<(), Error> {
        let shard = self.log.shard();
        if !self.members().voters.contains(&to) {
            let message = format!("replica {to} of shard {shard} cannot lead: it has no vote");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let heard = self.heard_from(to).is_some_and(|ago| ago < FRESH);
        let behind = self.behind(to);
        if heard && behind.is_some_and(|bytes| bytes <= LAG_BYTES) {
            return Ok(());
        }
        let why = if heard { "its log is behind" } else { "it does not answer" };
        Err(Error::new(Code::Unavailable, format!("replica {to} of shard {shard} cannot lead now: {why}")))
    }

    /// On a leader: how long ago a replica answered.
    pub(crate) fn heard_from(&self, replica: ReplicaId) -> Option<Duration> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let at = metrics.heartbeat.as_ref()?.get(&replica.0)?.as_ref()?;
        Some(at.elapsed())
    }

    /// The node is about to stop: this replica leads no more if it does not lead now.
    pub(crate) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
        self.raft.runtime_config().elect(false);
    }

    /// Whether leadership may be handed to this replica, or it may stand early: it may vote, its node stays, and its disk takes writes.
    pub(crate) fn may_lead(&self) -> bool {
        !self.log.is_doubted() && !self.is_leaving.load(Ordering::Acquire) && !self.log.stalls().any()
    }

    /// Takes leadership over, or makes way for another replica that does; whether it was the time for that.
    pub(super) async fn take_over(&self, request: TransferLeaderRequest<TypeConfig>) -> Result<bool, Error> {
        if *request.to_node_id() == self.log.replica().0 && !self.may_lead() || self.log.is_doubted() {
            return Ok(false);
        }
        let taken = self.raft.handle_transfer_leader(request).await.map_err(|error| self.stopped(&error))?;
        Ok(taken.inspect_err(|error| tracing::info!(shard = %self.log.shard(), %error, "does not lead")).is_ok())
    }
}

/// A replica stands for election again, unless its node is about to stop.
pub(super) fn stand_again(raft: &Raft, is_leaving: &AtomicBool) {
    raft.runtime_config().elect(true);
    // In this order nobody who leaves meanwhile is overruled.
    if is_leaving.load(Ordering::Acquire) {
        raft.runtime_config().elect(false);
    }
}
