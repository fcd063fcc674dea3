//! Replicas that may have forgotten what they acknowledged.

use std::time::Duration;

use stratalog_proto::Code;
use tokio::time::{sleep, timeout};

use super::cluster::{ALL, Cluster, simulate};

fn others(id: u64) -> [u64; 2] {
    <[u64; 2]>::try_from(ALL.into_iter().filter(|other| *other != id).collect::<Vec<_>>()).unwrap()
}

/// A record that the leader and one other acknowledged; the other lost it, and does not know it. The third never had it.
async fn forgotten(seed: u64) -> (Cluster, u64, u64, u64) {
    let (mut cluster, leader) = Cluster::agreed(seed, 3).await;
    let [forgets, never_had] = others(leader);
    cluster.network.isolate(never_had);
    let earlier = cluster.at(forgets).disk.after_kill();
    cluster.produce_some(3).await;
    for id in ALL {
        cluster.crash(id, false).await;
    }
    cluster.network.heal();
    cluster.restart_torn(forgets, Some(earlier)).await;
    cluster.restart(never_had).await.unwrap();
    (cluster, leader, forgets, never_had)
}

#[test]
fn l1_a_replica_that_forgot_what_it_acknowledged_helps_nobody_to_lead_who_never_had_it() {
    simulate(async {
        for seed in 41..44 {
            let (mut cluster, holds, ..) = forgotten(seed).await;
            sleep(Duration::from_secs(60)).await;
            assert_eq!(cluster.leader(), None, "L1: two that do not have the record elected a leader");
            cluster.restart(holds).await.unwrap();
            let leader = timeout(Duration::from_secs(20), cluster.new_leader(0)).await.expect("all three can tell");
            assert_eq!(leader, holds);
            cluster.settle().await;
            cluster.check();
        }
    });
}

#[test]
fn l1_a_replica_that_is_killed_before_others_have_told_still_does_not_vote() {
    simulate(async {
        let (mut cluster, holds, forgets, _) = forgotten(47).await;
        for _ in 0..2 {
            cluster.crash(forgets, true).await;
            cluster.restart(forgets).await.unwrap();
        }
        sleep(Duration::from_secs(60)).await;
        assert_eq!(cluster.leader(), None, "L1: two that do not have the record elected a leader");
        cluster.restart(holds).await.unwrap();
        timeout(Duration::from_secs(20), cluster.new_leader(0)).await.expect("all three can tell");
        cluster.settle().await;
        assert!(!cluster.at(forgets).log().is_doubted());
        cluster.crash(forgets, true).await;
        cluster.restart(forgets).await.unwrap();
        assert!(!cluster.at(forgets).log().is_doubted(), "what was settled is forgotten");
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn l1_a_replica_that_lost_its_log_and_not_its_vote_helps_nobody_to_lead() {
    simulate(async {
        let (mut cluster, holds) = Cluster::agreed(50, 3).await;
        let [loses, never_had] = others(holds);
        cluster.network.isolate(never_had);
        cluster.produce_some(3).await;
        for id in ALL {
            cluster.crash(id, false).await;
        }
        cluster.network.heal();
        cluster.restart_without_log(loses).await;
        cluster.restart(never_had).await.unwrap();
        sleep(Duration::from_secs(30)).await;
        assert_eq!(cluster.leader(), None);
        cluster.restart(holds).await.unwrap();
        timeout(Duration::from_secs(20), cluster.new_leader(0)).await.expect("two have all of it");
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn l1_a_replica_that_lost_its_vote_and_not_its_log_does_not_start() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(51, 3).await;
        let [loses, _] = others(leader);
        cluster.agree(&ALL).await;
        cluster.crash(loses, false).await;
        let error = cluster.restart_without_vote(loses).await.unwrap_err();
        assert_eq!(error.code, Code::CorruptData);
        assert!(error.message.contains("no vote"), "{error}");
    });
}

#[test]
fn a_leader_that_is_still_there_takes_the_doubt_away() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(45, 3).await;
        let [doubts, away] = others(leader);
        cluster.crash(away, false).await;
        cluster.crash(doubts, false).await;
        cluster.restart_torn(doubts, None).await;
        assert!(cluster.at(doubts).log().is_doubted());
        cluster.produce_some(2).await;
        sleep(Duration::from_secs(1)).await;
        assert!(!cluster.at(doubts).log().is_doubted());
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn a_leader_sends_again_what_a_replica_has_forgotten() {
    simulate(async {
        let (mut cluster, leader) = Cluster::agreed(44, 3).await;
        let [forgets, away] = others(leader);
        cluster.crash(away, false).await;
        let earlier = cluster.at(forgets).disk.after_kill();
        cluster.produce_some(3).await;
        cluster.crash(forgets, false).await;
        cluster.restart_torn(forgets, Some(earlier)).await;
        cluster.produce_some(2).await;
        assert_eq!(cluster.leader(), Some(leader), "it went on");
        assert!(!cluster.at(forgets).log().is_doubted());
        cluster.agree(&[leader, forgets]).await;
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn l1_a_power_cut_of_all_leaves_a_group_that_can_elect_a_leader() {
    simulate(async {
        for seed in 46..49 {
            let (mut cluster, leader) = Cluster::led(seed, 4).await;
            cluster.at(others(leader)[0]).stall(true);
            cluster.produce_some(2).await;
            for id in ALL {
                cluster.crash(id, true).await;
            }
            for id in ALL {
                cluster.restart_torn(id, None).await;
            }
            timeout(Duration::from_secs(20), cluster.new_leader(0)).await.expect("all three can tell");
            cluster.settle().await;
            cluster.check();
        }
    });
}

#[test]
fn a_replica_that_is_alone_does_not_doubt() {
    simulate(async {
        let mut cluster = Cluster::start_alone(49).await;
        cluster.produce_some(2).await;
        cluster.crash(1, true).await;
        cluster.restart_torn(1, None).await;
        assert!(!cluster.at(1).log().is_doubted());
        cluster.at(1).group.lead(Duration::from_secs(5)).await.unwrap();
        cluster.settle().await;
        cluster.check();
    });
}
