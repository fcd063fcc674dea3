//! Leadership: handed over, lost, confirmed.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use stratalog_proto::{Code, RaftIndex, ReplicaId};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::cluster::{ALL, Cluster, append, simulate};
use crate::raft::{Group, Message, leave_stalled};

const WAIT: Duration = Duration::from_secs(5);

fn other(id: u64) -> u64 {
    ALL.into_iter().find(|other| *other != id).unwrap()
}

#[test]
fn l1_leadership_is_handed_over_amid_writes_sooner_than_an_election_takes() {
    simulate(async {
        let mut cluster = Cluster::start(31).await;
        for _ in 0..6 {
            cluster.produce_some(3).await;
            let leader = cluster.new_leader(0).await;
            let started = Instant::now();
            cluster.at(leader).group.transfer_leader(ReplicaId(other(leader))).await.unwrap();
            cluster.produce_some(1).await;
            assert!(started.elapsed() < Duration::from_millis(700), "{:?}", started.elapsed());
            assert_eq!(cluster.leader(), Some(other(leader)));
        }
        cluster.settle().await;
        cluster.check();
    });
}

/// From the loss of a leader until a write through the next one is acknowledged.
async fn gap(seed: u64) -> Duration {
    let (mut cluster, lost) = Cluster::led(seed, 2).await;
    sleep(Duration::from_millis(seed * 37 % 300)).await;
    let started = Instant::now();
    // The machine is gone: nothing says so to the others.
    cluster.network.isolate(lost);
    let batch = cluster.batch();
    let answer = cluster.propose_beside(lost, &append(&batch)).await;
    cluster.note(&batch, answer).unwrap();
    let gap = started.elapsed();
    cluster.settle().await;
    cluster.check();
    gap
}

#[test]
fn a_lost_leader_is_a_pause_below_two_seconds() {
    let mut gaps = Vec::new();
    for seed in 60..90 {
        let (gaps, test) = (&mut gaps, gap(seed));
        simulate(async move { gaps.push(test.await) });
    }
    gaps.sort();
    // Two candidates may take each other's votes; then it takes another round.
    assert!(gaps[gaps.len() * 9 / 10] < Duration::from_secs(2), "{gaps:?}");
}

/// Has replicas stand whenever they may, as when the leader's process is known to have ended.
async fn stand_while(groups: Vec<Arc<Group>>) {
    loop {
        for group in &groups {
            group.stand().await.unwrap();
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_leader_that_is_gone_for_certain_is_replaced_soon_after_its_lease() {
    for seed in 90..110 {
        simulate(async move {
            let (mut cluster, lost) = Cluster::led(seed, 2).await;
            cluster.agree(&ALL).await;
            sleep(Duration::from_millis(seed * 37 % 300)).await;
            let others = ALL.into_iter().filter(|id| *id != lost);
            let standing = tokio::spawn(stand_while(others.map(|id| Arc::clone(&cluster.at(id).group)).collect()));
            let started = Instant::now();
            cluster.network.isolate(lost);
            let batch = cluster.batch();
            let answer = cluster.propose_beside(lost, &append(&batch)).await;
            cluster.note(&batch, answer).unwrap();
            assert!(started.elapsed() < Duration::from_millis(1_150), "seed {seed}: {:?}", started.elapsed());
            standing.abort();
            cluster.settle().await;
            cluster.check();
        });
    }
}

#[test]
fn nobody_stands_against_a_leader_that_is_heard_of() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(38, 3).await;
        let before = *cluster.at(leader).group.watch_role().borrow();
        let standing = tokio::spawn(stand_while(ALL.map(|id| Arc::clone(&cluster.at(id).group)).into()));
        sleep(Duration::from_secs(20)).await;
        assert_eq!(*cluster.at(leader).group.watch_role().borrow(), before);
        // One that nobody hears of does not get to make the others vote.
        let away = other(leader);
        cluster.network.isolate(away);
        sleep(Duration::from_secs(20)).await;
        assert_eq!(*cluster.at(leader).group.watch_role().borrow(), before);
        standing.abort();
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn nobody_is_handed_leadership_that_cannot_take_it() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(32, 3).await;
        let away = other(leader);
        let group = cluster.at(leader).group.clone();
        assert_eq!(group.transfer_leader(ReplicaId(9)).await.unwrap_err().code, Code::InvalidRequest);
        cluster.crash(away, false).await;
        sleep(Duration::from_secs(3)).await;
        assert_eq!(group.transfer_leader(ReplicaId(away)).await.unwrap_err().code, Code::Unavailable);
        group.hand_over().await.unwrap();
        let third = cluster.new_leader(leader).await;
        assert_ne!(third, away);
        assert_eq!(group.transfer_leader(ReplicaId(third)).await.unwrap_err().code, Code::NotLeader);
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn a_read_index_needs_a_majority_and_covers_what_was_acknowledged() {
    simulate(async {
        let (mut cluster, old) = Cluster::led(33, 3).await;
        let index = cluster.at(old).group.read_index(WAIT).await.unwrap();
        assert!(index >= cluster.at(old).machine.applied());
        let follower = other(old);
        let refused = cluster.at(follower).group.read_index(WAIT).await.unwrap_err();
        assert!(refused.code == Code::NotLeader && refused.message.contains(&format!("replica {old}")), "{refused}");
        cluster.network.isolate(old);
        let new = cluster.new_leader(old).await;
        let written = cluster.batch();
        let answer = cluster.propose_beside(old, &append(&written)).await;
        cluster.note(&written, answer).unwrap();
        let stale = cluster.at(old).group.read_index(WAIT).await;
        assert!(matches!(stale.unwrap_err().code, Code::Timeout | Code::NotLeader), "it knows nothing of the write");
        let index = cluster.at(new).group.read_index(WAIT).await.unwrap();
        assert!(index >= cluster.at(new).machine.applied() && index > RaftIndex(4));
        cluster.settle().await;
        cluster.check();
    });
}

/// As a process that was stopped and goes on: first it reads what was sent to it before, and then what it sends is answered.
#[test]
fn answers_from_before_a_pause_confirm_no_read_of_a_leader_that_was_replaced_meanwhile() {
    simulate(async {
        let (mut cluster, old) = Cluster::led(36, 3).await;
        let others: Vec<u64> = ALL.into_iter().filter(|id| *id != old).collect();
        others.iter().for_each(|other| cluster.network.hold(*other, old));
        // The last that the others take from it, and their answers are on their way.
        let last = cluster.batch();
        let waits = timeout(Duration::from_millis(20), cluster.propose_at(old, &append(&last))).await;
        assert!(waits.is_err(), "nobody has answered");
        others.iter().for_each(|other| cluster.network.hold(old, *other));
        let new = cluster.new_leader(old).await;
        let written = cluster.batch();
        let answer = cluster.propose_beside(old, &append(&written)).await;
        cluster.note(&written, answer).unwrap();
        let acknowledged = cluster.at(new).machine.applied();
        let group = Arc::clone(&cluster.at(old).group);
        let reading = tokio::spawn(async move { group.read_index(WAIT).await });
        sleep(Duration::from_millis(5)).await;
        others.iter().for_each(|other| cluster.network.release(*other, old));
        sleep(Duration::from_millis(50)).await;
        others.iter().for_each(|other| cluster.network.release(old, *other));
        let read = reading.await.unwrap();
        assert!(read.as_ref().is_err_and(|error| error.code == Code::NotLeader), "{read:?} of {acknowledged}");
        cluster.settle().await;
    });
}

#[test]
fn a_leader_that_no_majority_answers_knows_that_it_does_not_lead_and_leads_again_if_nobody_else_did() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(34, 3).await;
        let mut role = cluster.at(leader).group.watch_role();
        let before = *role.wait_for(|role| role.leads).await.unwrap();
        let others: Vec<u64> = ALL.into_iter().filter(|id| *id != leader).collect();
        for other in &others {
            cluster.crash(*other, false).await;
        }
        let lost = *timeout(WAIT, role.wait_for(|role| !role.leads)).await.expect("within seconds").unwrap();
        assert_eq!((lost.term, lost.leader), (before.term, None));
        cluster.restart(others[0]).await.unwrap();
        let again = *timeout(WAIT, role.wait_for(|role| role.leads)).await.expect("it still leads").unwrap();
        assert_eq!(again.term, before.term);
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn everybody_hears_of_a_leader_and_nobody_leads_a_group_that_has_stopped() {
    simulate(async {
        let (cluster, leader) = Cluster::led(35, 0).await;
        for id in ALL {
            let mut role = cluster.at(id).group.watch_role();
            let seen = role.wait_for(|role| role.leader == Some(ReplicaId(leader)) && role.leads == (id == leader));
            timeout(WAIT, seen).await.expect("it is heard of").unwrap();
            if id != leader {
                sleep(Duration::from_secs(1)).await;
                assert!(cluster.at(id).group.last_heard().unwrap() < Duration::from_millis(700));
            }
        }
        let group = &cluster.at(leader).group;
        let mut role = group.watch_role();
        group.stop().await;
        let refused = group.answer(Message::default()).await.unwrap_err();
        assert_eq!(refused.code, Code::Unavailable);
        let ended: Vec<_> = group.answer_all(stream::pending().boxed()).collect().await;
        assert_eq!(ended.iter().map(|end| end.as_ref().unwrap_err().code).collect::<Vec<_>>(), [Code::Unavailable]);
        let last = timeout(WAIT, async { while role.changed().await.is_ok() {} }).await;
        assert!(last.is_ok() && role.borrow().leader.is_none() && !role.borrow().leads);
    });
}

#[test]
fn a_replica_that_is_down_is_tried_now_and_then_and_has_everything_soon_after_it_is_back() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(37, 3).await;
        cluster.network.take_down(other(leader));
        cluster.produce_some(3).await;
        sleep(Duration::from_secs(20)).await;
        let refused = cluster.network.refused();
        assert!((5..100).contains(&refused), "{refused} in twenty seconds");
        let group = &cluster.at(leader).group;
        assert!(group.read_index(WAIT).await.is_ok(), "the third one answers");
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn a_replica_whose_node_is_about_to_stop_is_given_no_leadership_and_stands_for_none() {
    simulate(async {
        let mut cluster = Cluster::start(38).await;
        cluster.produce_some(3).await;
        let leader = cluster.new_leader(0).await;
        let leaving = other(leader);
        cluster.at(leaving).group.leave();
        assert!(!cluster.at(leaving).group.may_lead());
        let handed = cluster.at(leader).group.hand_over_to(|replica| replica.0 != leaving).await;
        let third = cluster.new_leader(leader).await;
        assert!(handed.is_ok() && third != leaving, "{handed:?}");
        // Who hands leadership to it nevertheless does not know: it is refused.
        drop(cluster.at(third).group.transfer_leader(ReplicaId(leaving)).await);
        sleep(Duration::from_secs(10)).await;
        assert_ne!(cluster.leader(), Some(leaving));
        cluster.produce_some(1).await;
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn a_follower_whose_disk_is_stalled_says_so_until_it_is_not() {
    simulate(async {
        let mut cluster = Cluster::start(39).await;
        cluster.produce_some(3).await;
        let stalled = other(cluster.new_leader(0).await);
        let group = cluster.at(stalled).group.clone();
        tokio::spawn(leave_stalled(Arc::downgrade(&group), CancellationToken::new()));
        cluster.at(stalled).stall(true);
        cluster.produce_some(1).await;
        sleep(Duration::from_secs(2)).await;
        assert!(group.may_lead(), "a disk may take its time");
        sleep(Duration::from_secs(3)).await;
        assert!(!group.may_lead());
        cluster.at(stalled).stall(false);
        sleep(Duration::from_secs(1)).await;
        assert!(group.may_lead());
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn a_leader_whose_disk_is_stalled_hands_leadership_over() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(36, 3).await;
        let watched = Arc::downgrade(&cluster.at(leader).group);
        tokio::spawn(leave_stalled(watched, CancellationToken::new()));
        cluster.at(leader).stall(true);
        cluster.produce_some(1).await;
        let new = timeout(WAIT, cluster.new_leader(leader)).await.expect("soon");
        assert_ne!(new, leader);
        cluster.settle().await;
        cluster.check();
    });
}
