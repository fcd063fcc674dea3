//! What a replica is in its group at the moment, for those who act on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::metrics::{RaftDataMetrics, RaftServerMetrics};
use openraft::{Instant, RaftMetrics, ServerState, TokioInstant};
use stratalog_proto::{ReplicaId, Term};
use tokio::sync::watch;

use super::group::Raft;
use super::log::GroupLog;
use super::timing::Timing;
use super::types::TypeConfig;
use crate::fatal::halt;
use crate::idle::tick;

/// How often a leader looks whether a majority still answers it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After a group has ended: a runtime that ends takes the group first, and then whoever would find fault with that.
const END_WAIT: Duration = Duration::from_millis(100);
/// A leader that no majority answered for so many leases has lost its place, as far as it can know.
const LOST_LEASES: u32 = 4;

/// Who leads a group, as one replica knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoleNow {
    /// The newest term that this replica knows of.
    pub(crate) term: Term,
    /// The newest term that is known to have had a leader, which is the leader epoch that clients are told: a term in which a
    /// replica does no more than stand for election, again and again while it is cut off, is none.
    pub(crate) epoch: Term,
    /// The leader of the newest term, once there is one. It may be gone by now.
    pub(crate) leader: Option<ReplicaId>,
    /// This replica leads, a majority answers it, and it has applied the first entry of its term: all that was
    /// acknowledged before is applied, too.
    pub(crate) leads: bool,
    /// How often this replica has begun to lead, also in the same term.
    pub(crate) reigns: u64,
}

/// A time in which a replica leads without a break. What it took in an earlier one, before it was cut off for a while, was refused as
/// far as it waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reign {
    pub(crate) term: Term,
    /// Its number among those of the replica.
    pub(crate) number: u64,
}

impl RoleNow {
    /// Of what openraft shows: `data` first, `server` then, and `all` of it last. Whoever was woken by one of the first two
    /// finds in `all` what was before, and would learn of a new leader with the next change only.
    fn of(
        all: &RaftMetrics<TypeConfig>,
        server: &RaftServerMetrics<TypeConfig>,
        data: &RaftDataMetrics<TypeConfig>,
        leading: &mut Leading,
    ) -> Self {
        let term = server.vote.leader_id.term;
        let is_leader = server.state == ServerState::Leader;
        let is_lost = all.running_state.is_err() || leading.is_cut_off(server, data);
        let leads = is_leader && data.last_applied.is_some_and(|id| id.leader_id.term == term);
        let leader = server.current_leader.filter(|_| !is_lost).map(ReplicaId);
        let epoch = leading.epoch(server, data);
        let leads = leads && !is_lost;
        Self { term: Term(term), epoch, leader, leads, reigns: leading.reigns(leads) }
    }

    /// The reign of this replica, if it leads; the one that is over, else.
    pub(crate) fn reign(&self) -> Reign {
        Reign { term: self.term, number: self.reigns }
    }

    /// Whether this replica leads, and did so without a break since it took something in this reign.
    pub(crate) fn is_in(&self, reign: Reign) -> bool {
        self.leads && self.reign() == reign
    }

    /// Whether another replica than this one leads, as far as it knows.
    pub(crate) fn is_led_by_another(&self, replica: ReplicaId) -> bool {
        self.leader.is_some_and(|leader| leader != replica)
    }

    /// Whether nothing but its first entry keeps a leader from being one that [`leads`](Self::leads).
    pub(crate) fn is_about_to_lead(&self, replica: ReplicaId) -> bool {
        self.leader == Some(replica) && !self.leads
    }
}

/// What is remembered from one look to the next: how long a replica leads, and who led before.
struct Leading {
    /// The term in which it does, and since when.
    since: Option<(u64, TokioInstant)>,
    /// The newest term that had a leader.
    epoch: Term,
    /// Whether it did at the last look, and how often it has begun to.
    leads: bool,
    reigns: u64,
    /// How long it waits for the answer of a majority.
    patience: Duration,
}

impl Leading {
    fn new(patience: Duration) -> Self {
        Self { since: None, epoch: Term(0), leads: false, reigns: 0, patience }
    }

    /// How often the replica has begun to lead, now included.
    fn reigns(&mut self, leads: bool) -> u64 {
        self.reigns += u64::from(leads && !self.leads);
        self.leads = leads;
        self.reigns
    }

    /// The newest term that had a leader: a majority has voted for it, or it has appended to the log.
    fn epoch(&mut self, server: &RaftServerMetrics<TypeConfig>, data: &RaftDataMetrics<TypeConfig>) -> Term {
        let elected = server.vote.committed.then_some(server.vote.leader_id.term);
        let appended = data.last_log.map(|id| id.leader_id.term);
        let newest = elected.max(appended).map_or(Term(0), Term);
        self.epoch = self.epoch.max(newest);
        self.epoch
    }

    /// Whether this replica leads and is out of patience, counted from the last answer of a majority. To a leader that
    /// nobody ever answered it is counted from when it began to lead.
    fn is_cut_off(&mut self, server: &RaftServerMetrics<TypeConfig>, data: &RaftDataMetrics<TypeConfig>) -> bool {
        if server.state != ServerState::Leader {
            self.since = None;
            return false;
        }
        let term = server.vote.leader_id.term;
        let (_, since) = self.since.filter(|(of, _)| *of == term).unwrap_or_else(|| (term, TokioInstant::now()));
        self.since = Some((term, since));
        // Answers to an earlier term of this replica may still be shown.
        let answered = data.last_quorum_acked.map_or(since, |acked| acked.into_inner().max(since));
        !is_alone(server) && answered.elapsed() > self.patience
    }
}

/// Whether nobody else has a vote.
fn is_alone(server: &RaftServerMetrics<TypeConfig>) -> bool {
    server.membership_config.voter_ids().eq([server.id])
}

/// Why a group has ended, unless it was told to.
fn error_of(last: &RaftMetrics<TypeConfig>, stopping: &AtomicBool) -> Option<String> {
    match &last.running_state {
        _ if stopping.load(Ordering::Acquire) => None,
        Err(Fatal::Stopped) => None,
        Err(error) => Some(error.to_string()),
        Ok(()) => Some("it panicked".to_owned()),
    }
}

/// Follows a group until it has ended: then nobody leads. One that ends by an error stops the process: others would go on
/// to count on a replica that never answers again, and a restart reads what is durable, and says what is damaged.
///
/// As long as the group does not serve, whoever starts it hears of the error, and tells it.
pub(super) fn follow(
    raft: &Raft,
    log: &GroupLog,
    timing: &Timing,
    mut serves: watch::Receiver<bool>,
) -> watch::Receiver<RoleNow> {
    let (shard, stopping) = (log.shard(), log.stopping());
    let (all, mut server, mut data) = (raft.metrics(), raft.server_metrics(), raft.data_metrics());
    let (own, patience) = (ReplicaId(*raft.node_id()), timing.election.end * LOST_LEASES);
    let mut leading = Leading::new(patience);
    let first = RoleNow::of(&all.borrow_watched(), &server.borrow_watched(), &data.borrow_watched(), &mut leading);
    let (role, receiver) = watch::channel(first);
    tokio::spawn(async move {
        loop {
            let now =
                RoleNow::of(&all.borrow_watched(), &server.borrow_watched(), &data.borrow_watched(), &mut leading);
            role.send_if_modified(|before| std::mem::replace(before, now) != now);
            let needs_answers = {
                let server = server.borrow_watched();
                server.state == ServerState::Leader && !is_alone(&server)
            };
            let ended = tokio::select! {
                changed = server.changed() => changed.is_err(),
                // What is applied matters until the first entry of an own term is.
                changed = data.changed(), if now.is_about_to_lead(own) => changed.is_err(),
                () = tick(LOOK_EVERY), if needs_answers => false,
                () = role.closed() => return,
            };
            if ended {
                role.send_modify(|role| (role.leader, role.leads) = (None, false));
                // Whoever waits for this replica to lead waits no more.
                drop(role);
                let why = error_of(&all.borrow_watched(), &stopping);
                if let Some(why) = why
                    && serves.wait_for(|serves| *serves).await.is_ok()
                {
                    tokio::time::sleep(END_WAIT).await;
                    halt(&format!("the Raft group of shard {shard} ended by itself: {why}"));
                }
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::metrics::SerdeInstant;

    use super::super::types::{StoredMembership, Vote, log_id};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    /// What a replica of several shows in the third term.
    fn of_three(leader: u64, state: ServerState) -> RaftServerMetrics<TypeConfig> {
        let members = Arc::new(StoredMembership::default());
        RaftServerMetrics {
            id: 1,
            vote: Vote::new_committed(3, leader),
            state,
            current_leader: Some(leader),
            membership_config: Arc::clone(&members),
            committed_membership_config: members,
        }
    }

    #[test]
    fn a_new_leader_is_known_though_all_metrics_show_the_old_one_still() {
        let before = RaftMetrics::<TypeConfig>::new_initial(1);
        let applied = RaftDataMetrics { last_applied: Some(log_id(3, 7)), ..RaftDataMetrics::default() };
        let seen =
            |leader, state| RoleNow::of(&before, &of_three(leader, state), &applied, &mut Leading::new(PATIENCE));
        let follows = RoleNow { term: Term(3), epoch: Term(3), leader: Some(ReplicaId(2)), leads: false, reigns: 0 };
        assert_eq!(seen(2, ServerState::Follower), follows);
        let leads = RoleNow { term: Term(3), epoch: Term(3), leader: Some(ReplicaId(1)), leads: true, reigns: 1 };
        assert_eq!(seen(1, ServerState::Leader), leads);
    }

    #[test]
    fn each_time_that_it_begins_to_lead_is_another_reign() {
        let mut leading = Leading::new(PATIENCE);
        let reigns = [false, true, true, false, false, true].map(|leads| leading.reigns(leads));
        assert_eq!(reigns, [0, 1, 1, 1, 1, 2]);
    }

    #[test]
    fn a_term_that_is_only_stood_for_is_no_epoch() {
        let mut leading = Leading::new(PATIENCE);
        let stands = |term| RaftServerMetrics { vote: Vote::new(term, 1), ..of_three(2, ServerState::Candidate) };
        let logged = |term| RaftDataMetrics { last_log: Some(log_id(term, 9)), ..RaftDataMetrics::default() };
        assert_eq!(leading.epoch(&stands(17), &RaftDataMetrics::default()), Term(0), "nothing is known");
        assert_eq!(leading.epoch(&stands(17), &logged(2)), Term(2), "its log is of somebody who led");
        assert_eq!(leading.epoch(&of_three(2, ServerState::Follower), &logged(2)), Term(3));
        assert_eq!(leading.epoch(&stands(18), &logged(2)), Term(3), "it does not go back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_nobody_ever_answered_is_cut_off_too() {
        let mut leading = Leading::new(PATIENCE);
        let (leads, follows) = (of_three(1, ServerState::Leader), of_three(2, ServerState::Follower));
        let unanswered = RaftDataMetrics::default();
        let past = PATIENCE + Duration::from_millis(1);
        assert!(!leading.is_cut_off(&leads, &unanswered), "it has only begun");
        tokio::time::advance(past).await;
        assert!(leading.is_cut_off(&leads, &unanswered));
        let answered =
            RaftDataMetrics { last_quorum_acked: Some(SerdeInstant::new(TokioInstant::now())), ..unanswered };
        assert!(!leading.is_cut_off(&leads, &answered));
        tokio::time::advance(past).await;
        assert!(leading.is_cut_off(&leads, &answered));
        assert!(!leading.is_cut_off(&follows, &answered));
        assert!(!leading.is_cut_off(&leads, &answered), "it leads anew: the answer was to its earlier term");
    }
}
