//! Groups that grow, shrink and change while they are written to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::EmptyNode;
use openraft::{EntryPayload, Membership};
use stratalog_proto::{Code, ReplicaId};
use stratalog_storage::simulation::Dice;
use tokio::time::{sleep, timeout};

use super::super::group::Group;
use super::cluster::{ALL, Cluster, simulate};

/// How long a change that failures disturb may take.
const CHANGE_WAIT: Duration = Duration::from_secs(300);
/// How long a majority may take to confirm who leads.
const CONFIRM_WAIT: Duration = Duration::from_secs(2);

fn ids(replicas: impl IntoIterator<Item = u64>) -> BTreeSet<ReplicaId> {
    replicas.into_iter().map(ReplicaId).collect()
}

/// Has the members of the group be these voters, as a level-triggered loop does: one step at a time, by whoever leads.
async fn reach(cluster: &Cluster, voters: &BTreeSet<ReplicaId>) {
    loop {
        let leader = cluster.new_leader(0).await;
        let group = &cluster.at(leader).group;
        let members = group.members();
        if members.voters == *voters && members.learners.is_empty() && !members.changing {
            return;
        }
        let joining = voters.difference(&members.voters).next().copied();
        let leaving = members.voters.difference(voters).next().copied();
        let step = match (joining, leaving) {
            (Some(joining), _) if !members.learners.contains(&joining) => group.add_learner(joining).await,
            (Some(joining), _) => group.promote(joining).await,
            (None, Some(leaving)) if leaving.0 == leader => group.hand_over().await,
            (None, Some(leaving)) => group.remove(leaving).await,
            (None, None) => Ok(()),
        };
        if step.is_err() {
            sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn reached(cluster: &mut Cluster, voters: impl IntoIterator<Item = u64>) {
    let voters = ids(voters);
    timeout(CHANGE_WAIT, reach(cluster, &voters)).await.expect("the change comes to its end");
}

/// The first of the two entries of a change by which a voter loses its vote, and not the second.
async fn leave_half_done(group: &Group, leaving: u64) {
    let membership = group.raft.server_metrics().borrow_watched().membership_config.membership().clone();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let left = voters.iter().copied().filter(|voter| *voter != leaving).collect();
    let nodes: BTreeMap<u64, EmptyNode> = membership.nodes().map(|(id, _)| (*id, EmptyNode {})).collect();
    let joint = Membership::new(vec![voters, left], nodes).unwrap();
    group.raft.append_membership(joint, EntryPayload::Blank, []).await.unwrap();
}

#[test]
fn l1_a_group_grows_from_one_to_five_voters_and_shrinks_to_others_under_writes() {
    simulate(async {
        let mut cluster = Cluster::start_alone(21).await;
        for id in 2..=5 {
            cluster.produce_some(5).await;
            cluster.add(id).await;
            reached(&mut cluster, 1..=id).await;
        }
        cluster.produce_some(5).await;
        for gone in [1, 2] {
            reached(&mut cluster, gone + 1..=5).await;
            cluster.take_away(gone).await;
            cluster.produce_some(5).await;
        }
        cluster.settle().await;
        cluster.check();
        let leader = cluster.leader().unwrap();
        assert_eq!(cluster.at(leader).group.members().voters, ids(3..=5));
    });
}

#[test]
fn a_voter_that_loses_its_vote_follows_on() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(28, 3).await;
        let demoted = ALL.into_iter().find(|id| *id != leader).unwrap();
        cluster.at(leader).group.demote(ReplicaId(demoted)).await.unwrap();
        let members = cluster.at(leader).group.members();
        assert!(!members.voters.contains(&ReplicaId(demoted)));
        assert_eq!(members.learners, ids([demoted]));
        cluster.produce_some(5).await;
        cluster.agree(&ALL).await;
        let refused = cluster.at(leader).group.demote(ReplicaId(leader)).await.unwrap_err();
        assert_eq!(refused.code, Code::InvalidRequest, "{refused}");
        cluster.at(leader).group.demote(ReplicaId(demoted)).await.expect("nothing to do");
        cluster.check();
    });
}

#[test]
fn a_change_of_voters_whose_second_entry_was_refused_comes_to_its_end_under_the_same_leader() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(29, 3).await;
        let gone = ALL.into_iter().find(|id| *id != leader).unwrap();
        let group = cluster.at(leader).group.clone();
        leave_half_done(&group, gone).await;
        assert!(group.members().changing);
        cluster.produce_some(5).await;
        let ended = async {
            while group.members().changing {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(10), ended).await.expect("nobody has to lead anew for that");
        assert!(group.is_leader());
        assert_eq!(group.members().voters, ids(ALL.into_iter().filter(|id| *id != gone)));
        assert_eq!(group.members().learners, ids([gone]), "whether it is to be one is for others to say");
        cluster.produce_some(5).await;
        cluster.agree(&ALL).await;
        cluster.check();
    });
}

#[test]
fn l1_a_leader_that_was_replaced_does_not_say_who_belongs_to_the_group() {
    simulate(async {
        let (cluster, old) = Cluster::led(27, 3).await;
        let confirmed = async |cluster: &Cluster, id| cluster.at(id).group.confirmed_members(CONFIRM_WAIT).await;
        assert_eq!(confirmed(&cluster, old).await.unwrap().voters, ids(ALL));
        cluster.network.isolate(old);
        let new = cluster.new_leader(old).await;
        // The second entry of the change may be refused while the third one has not answered for a moment.
        let removed = async {
            while cluster.at(new).group.remove(ReplicaId(old)).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(CHANGE_WAIT, removed).await.expect("a majority is there");
        assert_eq!(cluster.at(old).group.members().voters, ids(ALL), "nobody told it");
        let unconfirmed = confirmed(&cluster, old).await.unwrap_err();
        assert!(matches!(unconfirmed.code, Code::Timeout | Code::NotLeader), "{unconfirmed}");
        assert!(!confirmed(&cluster, new).await.unwrap().voters.contains(&ReplicaId(old)));
    });
}

#[test]
fn l4_a_learner_of_a_group_that_let_go_of_its_log_is_brought_up_by_a_snapshot_and_votes() {
    simulate(async {
        let mut cluster = Cluster::start(22).await;
        cluster.produce_some(30).await;
        cluster.roll(1).await.unwrap();
        cluster.agree(&ALL).await;
        for id in ALL {
            cluster.at(id).compact().await.unwrap();
        }
        cluster.produce_some(5).await;
        cluster.add(4).await;
        let leader = cluster.leader().unwrap();
        cluster.at(leader).group.add_learner(ReplicaId(4)).await.unwrap();
        cluster.agree(&[leader, 4]).await;
        assert!(!cluster.at(4).machine.missing().is_empty(), "it has to fetch what was rolled");
        cluster.refetch(4);
        reached(&mut cluster, 1..=4).await;
        let lost = ALL.into_iter().find(|id| *id != leader).unwrap();
        reached(&mut cluster, (1..=4).filter(|id| *id != lost)).await;
        cluster.take_away(lost).await;
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn a_replica_that_does_not_answer_gets_no_vote() {
    simulate(async {
        let mut cluster = Cluster::start(23).await;
        cluster.produce_some(3).await;
        let group = cluster.at(cluster.leader().unwrap()).group.clone();
        assert_eq!(group.promote(ReplicaId(9)).await.unwrap_err().code, Code::InvalidRequest);
        group.add_learner(ReplicaId(9)).await.unwrap();
        assert_eq!(group.promote(ReplicaId(9)).await.unwrap_err().code, Code::Unavailable);
        group.remove(ReplicaId(9)).await.unwrap();
        assert_eq!(group.members().learners, ids([]));
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn the_only_voter_and_the_leader_itself_are_not_removed() {
    simulate(async {
        let cluster = Cluster::start_alone(24).await;
        let refused = cluster.at(1).group.remove(ReplicaId(1)).await.unwrap_err();
        assert_eq!(refused.code, Code::QuorumAtRisk);
        let (cluster, leader) = Cluster::led(24, 0).await;
        let refused = cluster.at(leader).group.remove(ReplicaId(leader)).await.unwrap_err();
        assert_eq!(refused.code, Code::InvalidRequest);
    });
}

/// Replaces voter 1 by 4 while one replica after the other is killed, or cut off, and comes back.
async fn replaced_amid_failures(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut cluster = Cluster::start(seed).await;
    cluster.produce_some(5).await;
    cluster.add(4).await;
    let voters = ids([2, 3, 4]);
    for _ in 0..12 {
        // Wherever the change is by then.
        let _ = timeout(Duration::from_millis(dice.below(1_500)), reach(&cluster, &voters)).await;
        let one = *dice.pick(&[1, 2, 3, 4]).unwrap();
        match dice.below(3) {
            0 => cluster.network.isolate(one),
            _ => cluster.crash(one, dice.chance(1, 2)).await,
        }
        let _ = cluster.produce().await;
        sleep(Duration::from_millis(dice.below(3_000))).await;
        cluster.network.heal();
        cluster.restart(one).await.unwrap();
        let _ = cluster.produce().await;
    }
    reached(&mut cluster, [2, 3, 4]).await;
    cluster.take_away(1).await;
    cluster.settle().await;
    cluster.check();
}

#[test]
fn l1_a_replica_is_replaced_whatever_fails_at_each_step() {
    for seed in 0..4 {
        eprintln!("seed {seed}");
        simulate(replaced_amid_failures(seed));
    }
}
