//! A replica that may have forgotten what it acknowledged.
//!
//! The end of a lane is discarded at a start if it is not whole. Mostly it was never acknowledged; but where the medium
//! damaged the last write that was durable, it looks the same. And where there is a vote and no log, either no leader has
//! sent an entry yet, or the log is lost. A replica alone in its group can do no better. One of several does not vote or
//! lead before it is sure that it does no harm: with its vote, replicas that never had what it forgot could make a majority
//! (L1).
//!
//! It is sure again once it has from a leader everything that this one knows to be committed. Where there is no leader,
//! it asks the others for the ends of their logs. An entry that was committed with its help is held by enough of the others
//! that one of them is among any `voters - majority + 1`: when so many have answered, none of what it forgot is above the
//! highest end, and it may vote for whoever has a log that reaches there.
//!
//! A leader counts on what a replica acknowledged, and would never send it again. So the question tells where this
//! replica's own log ends, and until a leader has answered it, nothing is taken from that one.
//!
//! A replica whose log was damaged in its middle, and cut there, is another case (see [`super::repair`]): it has certainly lost
//! what it acknowledged, and perhaps who votes with it. To it only a leader can tell, who was elected without it; and it tells
//! others nothing, who would count on what it has.
//!
//! What is left: while too many of the others are away for both, it stays silent, and the group without a leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::VoteRequest;
use parking_lot::Mutex;
use stratalog_proto::{Error, ReplicaId, ShardId};
use stratalog_storage::sabotage::{Bug, planted};
use tokio::time::Instant;

use super::group::{Group, Raft};
use super::log::GroupLog;
use super::peers::{Peers, Route};
use super::transfer::stand_again;
use super::types::{LogId, TypeConfig, Vote, log_id};
use super::wire::{Answer, Request};

/// How often the others are asked.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How often it is said that a replica waits for what it has lost.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_millis(400);

/// Leaders that are remembered to be asked. A group has one at a time; who makes up more does no harm (X1).
const MAX_LEADERS: usize = 32;

/// What a replica knows of what it may have forgotten.
#[derive(Debug, Default)]
pub(super) struct Doubt(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The ends of the logs of others.
    ends: BTreeMap<u64, Option<LogId>>,
    /// The highest end, once enough have answered: nothing that was forgotten is above.
    bound: Option<Option<LogId>>,
    /// What a leader said to be committed, in its term.
    committed: Option<LogId>,
    /// Those who sent entries as leaders, at most [`MAX_LEADERS`].
    leaders: BTreeSet<u64>,
}

impl Known {
    /// Remembers a leader, in the place of another one if there are too many: who really leads is heard of again.
    fn note_leader(&mut self, leader: u64) {
        if self.leaders.len() >= MAX_LEADERS
            && !self.leaders.contains(&leader)
            && let Some(other) = self.leaders.pop_first()
        {
            self.ends.remove(&other);
        }
        self.leaders.insert(leader);
    }
}

impl Doubt {
    /// Whether a candidate with this log has everything that this replica may have forgotten.
    pub(super) fn allows(&self, candidate: Option<LogId>) -> bool {
        self.0.lock().bound.is_some_and(|bound| candidate >= bound)
    }

    /// Whether the leader of this vote knows where this replica's log ends. It is asked soon if it does not.
    pub(super) fn is_known_to(&self, leader: &Vote) -> bool {
        let mut known = self.0.lock();
        let leader = leader.leader_id.voted_for;
        known.note_leader(leader);
        known.ends.contains_key(&leader)
    }

    /// A leader, by this vote, says what is committed.
    pub(super) fn heard_of(&self, leader: &Vote, committed: Option<LogId>) {
        // Until it has committed an entry of its own term, a leader may not know all that its predecessors committed.
        let of_its_term = committed.filter(|committed| committed.leader_id.term == leader.leader_id.term);
        let mut known = self.0.lock();
        known.committed = known.committed.max(of_its_term);
    }

    /// Whether a log that ends there has all that the leader of this vote, whom this replica follows, said to be committed, and
    /// all that it had when it was asked: what this replica had acknowledged to it may be counted by it only now. What a
    /// leader of an earlier term says may be less than what was acknowledged since.
    pub(super) fn is_reached(&self, own_end: Option<LogId>, leader: &Vote) -> bool {
        let (term, leader) = (leader.leader_id.term, leader.leader_id.voted_for);
        let known = self.0.lock();
        let committed = known.committed.filter(|committed| committed.leader_id.term == term);
        let had = known.ends.get(&leader).copied();
        committed.is_some() && own_end >= committed && had.is_some_and(|had| own_end >= had)
    }

    /// Others told where their logs end; whether this replica's own log reaches as far as enough of the voters.
    fn answered(&self, ends: Vec<(u64, Option<LogId>)>, voters: &BTreeSet<u64>, own_end: Option<LogId>) -> bool {
        let mut known = self.0.lock();
        known.ends.extend(ends);
        let of_voters = known.ends.iter().filter(|(id, _)| voters.contains(id));
        let (count, highest) = (of_voters.clone().count(), of_voters.filter_map(|(_, end)| *end).max());
        let enough = !voters.is_empty() && count >= needed_answers(voters.len());
        known.bound = enough.then_some(highest);
        known.bound.is_some_and(|bound| own_end >= bound)
    }

    /// Whom to ask, beside the voters.
    fn leaders(&self) -> BTreeSet<u64> {
        self.0.lock().leaders.clone()
    }
}

/// Of how many others one at least has an entry that was committed with the help of this voter.
fn needed_answers(voters: usize) -> usize {
    let majority = voters / 2 + 1;
    voters - majority + 1
}

impl Group {
    /// Whether this replica may have forgotten what it acknowledged, and does not vote.
    pub(crate) fn is_doubted(&self) -> bool {
        self.log.is_doubted()
    }

    /// Begins to ask the others, if there are any and this replica may have forgotten something.
    pub(super) fn settle_doubt(&self, peers: Arc<dyn Peers>) {
        if !self.log.is_doubted() {
            return;
        }
        let has_no_part = self.members().voters.is_empty() && self.log.vote().is_none();
        // What is lost may have said who votes, and that this replica did.
        let nobody_else = (has_no_part || self.is_alone()) && !self.log.is_lost();
        if nobody_else || planted(Bug::VoteInDoubt) {
            self.log.set_doubted(false);
            self.raft.runtime_config().elect(true);
            return;
        }
        let (log, is_leaving) = (self.log.clone(), Arc::clone(&self.is_leaving));
        self.spawn(ask_others(self.raft.clone(), log, is_leaving, Arc::clone(&self.doubt), peers));
    }
}

impl Group {
    /// Takes note of where the log of a replica ends that asks for a vote. If that is before what this leader counts on, the replica
    /// has lost it, or asked before it had it and the question was late: all of its log is compared again, which does no harm.
    pub(super) async fn note_end(&self, candidate: &VoteRequest<TypeConfig>) -> Result<(), Error> {
        let id = candidate.vote.leader_id.voted_for;
        let counted = self.raft.metrics().borrow_watched().replication.as_ref().and_then(|all| *all.get(&id)?);
        if counted.is_none() || candidate.last_log_id >= counted {
            return Ok(());
        }
        let (shard, end) = (self.log.shard(), candidate.last_log_id.map(|id| id.index));
        tracing::info!(
            %shard, replica = id, ?end,
            "L5: a replica asks for votes with less than it has acknowledged: it asked late, or lost it; its log is compared again"
        );
        let allowed = self.raft.trigger().allow_next_revert(&id, true).await.map_err(|error| self.stopped(&error))?;
        if let Err(error) = allowed {
            tracing::debug!(%shard, replica = id, %error, "there is nothing to take back any more");
        }
        Ok(())
    }
}

/// Asks the others until this replica's doubt has gone, one way or the other.
async fn ask_others(raft: Raft, log: GroupLog, is_leaving: Arc<AtomicBool>, doubt: Arc<Doubt>, peers: Arc<dyn Peers>) {
    let mut told = None;
    while log.is_doubted() {
        tell(&log, &mut told);
        let voters: BTreeSet<u64> = raft.metrics().borrow_watched().membership_config.voter_ids().collect();
        let others =
            voters.union(&doubt.leaders()).copied().filter(|other| *other != log.replica().0).collect::<Vec<_>>();
        let asked = others.into_iter().map(|other| end_of(&log, &*peers, ReplicaId(other)));
        let ends = futures::future::join_all(asked).await.into_iter().flatten().collect();
        let end = own_end(&log);
        // Who votes may have changed with what is lost: then only a leader knows enough.
        let counting = if log.is_lost() { BTreeSet::new() } else { voters };
        if doubt.answered(ends, &counting, end) {
            no_more(raft, log, is_leaving, "the other voters").await;
            return;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Says that the replica does not vote: once if it doubts, again and again if it lacks what it had.
fn tell(log: &GroupLog, told: &mut Option<Instant>) {
    let (shard, replica) = (log.shard(), log.replica());
    if log.is_lost() && told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
        tracing::error!(
            %shard, %replica,
            "L5: a part of the log of this replica was damaged and set aside: it neither votes nor leads until a leader has sent \
             what was in it. If none comes, so many others are away, or damaged, too, that nobody can know what was acknowledged"
        );
    } else if told.is_none() {
        tracing::warn!(
            %shard, %replica,
            "this replica may lack what it acknowledged: it does not vote until a leader or the others have told"
        );
    } else {
        return;
    }
    *told = Some(Instant::now());
}

/// The replica votes again, and stands for election, once its log is durable up to the end that it was compared with: what
/// is only on its way to the disk may be forgotten once more (L1).
pub(super) async fn no_more(raft: Raft, log: GroupLog, is_leaving: Arc<AtomicBool>, by: &str) {
    // Marks that a log begins anew are among it, too.
    if log.all_durable().await.is_err() || !log.is_doubted() {
        return;
    }
    log.set_doubted(false);
    stand_again(&raft, &is_leaving);
    let shard: ShardId = log.shard();
    tracing::info!(%shard, replica = %log.replica(), by, "nothing that was acknowledged is lacking: this replica votes again");
}

/// Where this replica's log ends.
pub(super) fn own_end(log: &GroupLog) -> Option<LogId> {
    log.ends()[1].map(|(term, index)| log_id(term, index))
}

/// Asks another replica where its log ends, and tells it where this one's does. It is asked for a vote that is never cast:
/// that changes nothing there.
async fn end_of(log: &GroupLog, peers: &dyn Peers, other: ReplicaId) -> Option<(u64, Option<LogId>)> {
    let vote = Vote::new(log.vote().map_or(0, |vote| vote.leader_id.term), log.replica().0);
    let question = Request::PreVote(VoteRequest::new(vote, own_end(log)));
    let route = Route { shard: log.shard(), from: log.replica(), to: other };
    let answer = peers.ask(route, question.encode(), ANSWER_WAIT).await.ok()?;
    match Answer::decode(answer).ok()? {
        Answer::Vote(answer) => Some((other.0, answer.last_log_id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l1_what_a_leader_of_an_earlier_term_says_does_not_end_a_doubt() {
        let (doubt, leader) = (Doubt::default(), Vote::new_committed(10, 3));
        doubt.heard_of(&Vote::new_committed(8, 1), Some(log_id(8, 20)));
        doubt.answered(vec![(3, Some(log_id(10, 41)))], &BTreeSet::new(), None);
        let end = Some(log_id(9, 30));
        assert!(!doubt.is_reached(end, &leader), "it follows the leader of term 10, who has said nothing yet");
        doubt.heard_of(&leader, Some(log_id(10, 41)));
        assert!(!doubt.is_reached(end, &leader));
        assert!(doubt.is_reached(Some(log_id(10, 41)), &leader));
    }

    #[test]
    fn l1_what_the_leader_had_when_it_was_asked_may_be_what_this_replica_acknowledged() {
        let (doubt, leader) = (Doubt::default(), Vote::new_committed(5, 3));
        doubt.heard_of(&leader, Some(log_id(5, 55)));
        let end = Some(log_id(5, 60));
        assert!(!doubt.is_reached(end, &leader), "it was not asked yet");
        doubt.answered(vec![(3, Some(log_id(5, 100)))], &BTreeSet::new(), end);
        assert!(!doubt.is_reached(end, &leader), "up to 100 the old acknowledgements may be counted only now");
        assert!(doubt.is_reached(Some(log_id(5, 100)), &leader));
    }

    #[test]
    fn l1_answers_of_voters_who_may_be_none_any_more_end_no_doubt() {
        let doubt = Doubt::default();
        let end = Some(log_id(5, 50));
        let answers = || vec![(1, end), (3, end)];
        assert!(!doubt.answered(answers(), &BTreeSet::new(), end), "what is lost may say that others vote");
        assert!(!doubt.allows(Some(log_id(9, 90))));
        assert!(doubt.answered(answers(), &BTreeSet::from([1, 2, 3]), end) && doubt.allows(end));
    }

    #[test]
    fn x1_leaders_that_are_made_up_take_no_room_and_do_not_hide_the_real_one() {
        let doubt = Doubt::default();
        for made_up in 0..10_000 {
            assert!(!doubt.is_known_to(&Vote::new(9, made_up)));
        }
        assert_eq!(doubt.leaders().len(), MAX_LEADERS);
        doubt.is_known_to(&Vote::new(9, 3));
        assert!(doubt.leaders().contains(&3));
        doubt.answered(vec![(3, Some(log_id(2, 7)))], &BTreeSet::from([1, 2, 3]), None);
        assert!(doubt.is_known_to(&Vote::new(9, 3)));
    }
}
