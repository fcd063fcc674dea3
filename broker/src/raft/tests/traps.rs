//! The ways in which the consensus library loses data if it is not held to it.

use std::time::Duration;

use openraft::raft::VoteRequest;
use stratalog_proto::Code;
use tokio::time::{sleep, timeout};

use super::cluster::{ALL, Cluster, append, simulate};
use crate::raft::types::{Vote, log_id};
use crate::raft::wire::{Answer, Request};

/// A leader's followers commit what it has not flushed yet; it loses that, and is back before anybody misses it. In the
/// same term it would write other entries at the same log ids.
async fn tail(seed: u64) {
    let (mut cluster, leader) = Cluster::agreed(seed, 3).await;
    cluster.at(leader).stall(true);
    cluster.produce_some(3).await;
    cluster.crash(leader, true).await;
    cluster.restart(leader).await.unwrap();
    for _ in 0..3 {
        let batch = cluster.batch();
        let answer = timeout(Duration::from_secs(1), cluster.propose_at(leader, &append(&batch))).await;
        if let Ok(answer) = answer {
            let _ = cluster.note(&batch, answer);
        }
    }
    sleep(Duration::from_secs(10)).await;
    cluster.settle().await;
    cluster.check();
}

#[test]
fn l1_a_leader_that_lost_its_unflushed_tail_does_not_go_on_in_its_term() {
    (0..4).for_each(|seed| simulate(tail(seed)));
}

#[test]
fn l1_a_state_is_never_durable_ahead_of_its_log() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(1, 3).await;
        let follower = ALL.into_iter().find(|id| *id != leader).unwrap();
        cluster.agree(&ALL).await;
        cluster.at(follower).stall(true);
        cluster.produce_some(3).await;
        sleep(Duration::from_secs(1)).await;
        let before = cluster.at(follower).log().last_index();
        let saved = timeout(Duration::from_secs(20), cluster.at(follower).group.snapshot()).await;
        assert!(saved.is_err(), "a state was saved at {saved:?}, and nothing became durable meanwhile");
        cluster.crash(follower, true).await;
        cluster.restart(follower).await.unwrap();
        let [purged, last] = cluster.at(follower).log().ends();
        assert!(purged.is_none() && last.is_some_and(|(_, index)| Some(index) < before), "{purged:?}, {last:?}");
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn l1_writes_that_wait_for_stalled_disks_are_answered_once_and_kept() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(2, 3).await;
        ALL.into_iter().filter(|id| *id != leader).for_each(|id| cluster.at(id).stall(true));
        let (first, second) = (cluster.batch(), cluster.batch());
        let stalled = async {
            sleep(Duration::from_secs(8)).await;
            ALL.into_iter().for_each(|id| cluster.at(id).stall(false));
        };
        let late = async {
            sleep(Duration::from_secs(6)).await;
            cluster.propose_at(leader, &append(&second)).await
        };
        let command = append(&first);
        let (answer, late, ()) = futures::join!(cluster.propose_at(leader, &command), late, stalled);
        for (batch, answer) in [(first, answer), (second, late)] {
            if let Err(error) = cluster.note(&batch, answer) {
                assert!(matches!(error.code, Code::NotLeader | Code::Timeout), "{error}");
            }
        }
        cluster.settle().await;
        cluster.check();
    });
}

/// Asks a replica for its vote; whether it gives it.
async fn votes_for(cluster: &Cluster, voter: u64, term: u64, candidate: u64) -> bool {
    let group = &cluster.at(voter).group;
    let last = group.log().ends()[1].map(|(term, index)| log_id(term, index));
    let request = Request::Vote(VoteRequest::new(Vote::new(term, candidate), last));
    let answer = group.answer(request.encode()).await.unwrap();
    matches!(Answer::decode(answer).unwrap(), Answer::Vote(answer) if answer.vote_granted)
}

#[test]
fn l1_a_replica_votes_once_in_a_term_whatever_happens_to_its_power() {
    simulate(async {
        let (mut cluster, leader) = Cluster::agreed(3, 2).await;
        let [voter, other] =
            <[u64; 2]>::try_from(ALL.into_iter().filter(|id| *id != leader).collect::<Vec<_>>()).unwrap();
        cluster.network.isolate(voter);
        sleep(Duration::from_secs(10)).await;
        assert!(votes_for(&cluster, voter, 50, leader).await, "nobody else asked in term 50");
        cluster.crash(voter, true).await;
        cluster.restart(voter).await.unwrap();
        assert!(!votes_for(&cluster, voter, 50, other).await, "it had voted in term 50");
        assert!(votes_for(&cluster, voter, 51, other).await);
    });
}
