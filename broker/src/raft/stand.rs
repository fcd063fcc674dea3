//! Standing for election before the time, where the leader is gone for certain.
//!
//! A replica that only hears nothing waits for the leader's lease and an election timeout more: the leader may be slow. Here
//! the lease alone is waited for, without which no replica would vote for another. That no vote is lost to two candidates,
//! each voter has a turn of its own.

use std::time::Duration;

use stratalog_proto::{Error, ReplicaId};

use super::group::Group;
use super::timing::Timing;

/// A leader that was not heard of for so many heartbeats is worth a look.
const SILENT_HEARTBEATS: f64 = 1.5;
/// Who was not replaced by then cannot be: a majority is away, and nobody needs to look all the time.
const GIVE_UP: Duration = Duration::from_secs(5);
/// An election does not take longer, as a rule: so much later the next one stands.
const TURN: Duration = Duration::from_millis(200);

impl Group {
    /// The leader that this replica follows, if it has not been heard of for a while.
    pub(crate) fn silent_leader(&self) -> Option<ReplicaId> {
        let patience = Timing::default().heartbeat.mul_f64(SILENT_HEARTBEATS);
        let role = *self.role.borrow();
        let leader = role.leader.filter(|leader| *leader != self.log.replica())?;
        self.last_heard().is_some_and(|ago| (patience..GIVE_UP).contains(&ago)).then_some(leader)
    }

    /// Stands for election if the leader's lease is over and it is this replica's turn. A leader that others still hear of is
    /// not disturbed: they are asked first whether they would vote. Does nothing on a replica that
    /// [may not lead](Self::may_lead).
    ///
    /// # Errors
    /// [`Code::Unavailable`](stratalog_proto::Code::Unavailable): the group has stopped.
    pub(crate) async fn stand(&self) -> Result<(), Error> {
        let Some(leader) = self.silent_leader().filter(|_| self.may_lead()) else { return Ok(()) };
        let voters: Vec<ReplicaId> = self.members().voters.into_iter().filter(|voter| *voter != leader).collect();
        let Some(turn) = turn(&voters, self.log.replica(), self.log.shard().0) else { return Ok(()) };
        let waited = Timing::default().election.end + TURN * turn;
        if self.last_heard().is_none_or(|ago| ago < waited) {
            return Ok(());
        }
        self.raft.trigger().elect(true).await.map_err(|error| self.stopped(&error))
    }
}

/// Which turn a replica has among the voters that are left, from 0 on; `None` if it is none of them. Shards begin with
/// different replicas, so that one node does not get to lead them all.
fn turn(voters: &[ReplicaId], own: ReplicaId, shard: u32) -> Option<u32> {
    let (at, count) = (voters.iter().position(|voter| *voter == own)?, voters.len());
    Some(((at + shard as usize) % count) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_voter_has_a_turn_of_its_own() {
        let voters = [3, 5, 9].map(ReplicaId);
        for shard in 0..7 {
            let mut turns: Vec<_> = voters.iter().map(|voter| turn(&voters, *voter, shard).unwrap()).collect();
            assert_eq!(turns[0], shard % 3, "another shard begins with another one");
            turns.sort_unstable();
            assert_eq!(turns, [0, 1, 2]);
        }
        assert_eq!(turn(&voters, ReplicaId(4), 1), None);
        assert_eq!(turn(&[], ReplicaId(4), 1), None);
    }
}
