//! Rolls and seals while leaders change, and logs that are let go of on one replica only.

use std::time::Duration;

use stratalog_proto::entry::Command;
use stratalog_proto::{Code, RaftIndex, internal};
use tokio::time::{sleep, timeout};

use super::cluster::{ALL, Cluster, simulate};
use super::machine::TOPIC;

fn others(id: u64) -> [u64; 2] {
    let others: Vec<u64> = ALL.into_iter().filter(|other| *other != id).collect();
    [others[0], others[1]]
}

/// A command that the leader proposes while nobody hears it, and a rival of the next leader.
async fn rivals(lonely: impl Fn(&Cluster, u64) -> Command, rival: impl Fn(&Cluster, u64) -> Command) -> Cluster {
    let (cluster, old) = Cluster::agreed(5, 4).await;
    cluster.network.isolate(old);
    let unheard = lonely(&cluster, old);
    let proposed = timeout(Duration::from_secs(4), cluster.propose_at(old, &unheard)).await;
    assert!(!matches!(proposed, Ok(Ok(_))), "a minority committed {proposed:?}");
    let heard = rival(&cluster, cluster.new_leader(old).await);
    cluster.propose_beside(old, &heard).await.unwrap();
    let again = cluster.propose_beside(old, &unheard).await.unwrap_err();
    assert_eq!(again.code, Code::Conflict, "S2: {again}");
    cluster
}

#[test]
fn s2_of_two_rolls_by_two_leaders_one_applies() {
    let roll = |salt| move |cluster: &Cluster, id| Command::Roll(cluster.at(id).machine.plan_roll(salt).unwrap());
    simulate(async move {
        let mut cluster = rivals(roll(1), roll(2)).await;
        cluster.settle().await;
        cluster.check();
        for id in ALL {
            let frontier = cluster.at(id).machine.read(|state| state.replay_frontier());
            assert!(frontier > RaftIndex(0) && cluster.at(id).segments.lock().len() == 1);
        }
    });
}

#[test]
fn s2_of_two_seals_by_two_leaders_one_applies() {
    simulate(async {
        let mut cluster = rivals(|cluster, id| seal(cluster, id, 2), |cluster, id| seal(cluster, id, 3)).await;
        cluster.settle().await;
        cluster.check();
    });
}

/// A seal, without rows, of the first `batches` that are not sealed.
fn seal(cluster: &Cluster, id: u64, batches: usize) -> Command {
    cluster.at(id).machine.read(|state| {
        let expect = state.manifest().topic(TOPIC).unwrap().row_frontier;
        let sealed = state.batches_between(expect, RaftIndex(u64::MAX)).into_iter().nth(batches - 1).unwrap().2;
        let count = |value| vec![internal::PartitionCount { partition: 0, value }];
        Command::Seal(internal::Seal {
            topic: TOPIC.to_bytes(),
            expect: expect.0,
            next: sealed.index.0,
            segments: vec![],
            rowless: count(batches as u64),
            ends: count(sealed.next_offset().0),
        })
    })
}

#[test]
fn l4_a_replica_that_let_go_of_its_log_brings_another_up_by_a_snapshot() {
    simulate(async {
        let (mut cluster, leader) = Cluster::agreed(6, 5).await;
        let [behind, _] = others(leader);
        cluster.crash(behind, false).await;
        cluster.produce_some(30).await;
        cluster.roll(1).await.unwrap();
        let frontier = cluster.at(leader).compact().await.unwrap();
        assert!(cluster.at(leader).log().retained().first > RaftIndex(5) && frontier > RaftIndex(30));
        cluster.produce_some(3).await;
        cluster.restart(behind).await.unwrap();
        let sends = async {
            while !cluster.at(leader).group.sends_snapshot() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), sends).await.expect("the log stays while a snapshot is on its way");
        cluster.settle().await;
        let retained = cluster.at(behind).log().retained();
        assert!(retained.first > RaftIndex(5), "it was brought up by a snapshot: {retained:?}");
        assert!(!cluster.at(behind).machine.missing().is_empty(), "it has to fetch what it did not build");
        cluster.check();
    });
}

#[test]
fn l4_a_log_that_one_replica_let_go_of_serves_it_after_restarts() {
    simulate(async {
        let mut cluster = Cluster::start(7).await;
        for round in 0..4 {
            cluster.produce_some(10).await;
            cluster.roll(round).await.unwrap();
            cluster.agree(&ALL).await;
            let one = ALL[round as usize % 3];
            cluster.at(one).compact().await.unwrap();
            cluster.crash(one, true).await;
            while cluster.produce().await.is_err() {}
            cluster.restart(one).await.unwrap();
            sleep(Duration::from_secs(5)).await;
        }
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn l4_a_replica_without_its_segments_keeps_its_log_until_it_has_them() {
    simulate(async {
        let mut cluster = Cluster::start(8).await;
        cluster.produce_some(10).await;
        cluster.roll(1).await.unwrap();
        cluster.agree(&ALL).await;
        let [one, _] = others(cluster.leader().unwrap());
        cluster.at(one).segments.lock().clear();
        let before = cluster.at(one).log().retained();
        cluster.at(one).compact().await.unwrap();
        assert_eq!(cluster.at(one).log().retained().first, before.first, "L4");
        cluster.refetch(one);
        cluster.at(one).compact().await.unwrap();
        assert!(cluster.at(one).log().retained().first > before.first);
        cluster.settle().await;
        cluster.check();
    });
}
