//! Snapshots over replicas that hold acknowledged records.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use openraft::async_runtime::watch::WatchReceiver;
use stratalog_proto::{Code, RaftIndex, Term};
use stratalog_storage::{LogPoint, StateImage};
use tokio::time::timeout;

use super::cluster::{ALL, Cluster, simulate};
use crate::raft::codec::encode_stored_membership;
use crate::raft::peers::{Incoming, Message, NoAnswer};
use crate::raft::send_state::{head, messages};
use crate::raft::types::Vote;
use crate::raft::wire::Kind;

/// Sends the leader's newest state file to a replica, whether it needs it or not.
pub(super) async fn install(cluster: &Cluster, from: u64, to: u64) {
    let sender = &cluster.at(from).group;
    let vote = sender.log().vote().expect("a leader has a vote");
    let messages =
        messages(vote, sender.snapshots.clone()).map(|message| message.map_err(|error| NoAnswer(error.to_string())));
    cluster.at(to).group.receive_state(messages.boxed()).await.unwrap();
}

/// A cluster in which `behind` misses the end of the log, and the leader has a snapshot above it. With `over_frontier`,
/// `behind` has the log up to above the snapshot's frontier.
pub(super) async fn behind(seed: u64, over_frontier: bool) -> (Cluster, u64, u64) {
    let mut cluster = Cluster::start(seed).await;
    cluster.produce_some(4).await;
    cluster.roll(1).await.unwrap();
    cluster.agree(&ALL).await;
    let leader = cluster.leader().unwrap();
    let behind = ALL.into_iter().find(|id| *id != leader).unwrap();
    // Acknowledged by this replica too, and in no segment of its own.
    cluster.produce_some(6).await;
    cluster.agree(&ALL).await;
    cluster.network.isolate(behind);
    cluster.produce_some(5).await;
    if !over_frontier {
        cluster.roll(2).await.unwrap();
        cluster.produce_some(2).await;
    }
    cluster.at(leader).group.snapshot().await.unwrap();
    cluster.network.heal();
    (cluster, leader, behind)
}

async fn lose_the_leader_after_an_install(seed: u64, over_frontier: bool) {
    let (mut cluster, leader, behind) = behind(seed, over_frontier).await;
    let oldest = cluster.at(behind).log().retained().oldest_file;
    install(&cluster, leader, behind).await;
    let retained = cluster.at(behind).log().retained();
    assert_eq!(retained.oldest_file, oldest, "L4: nothing that it acknowledged is given up");
    cluster.crash(leader, true).await;
    cluster.crash(behind, true).await;
    cluster.restart(behind).await.unwrap();
    assert_eq!(cluster.at(behind).log().retained().oldest_file, oldest, "L4: nor after a power cut");
    cluster.new_leader(leader).await;
    while cluster.produce().await.is_err() {}
    let left: Vec<u64> = ALL.into_iter().filter(|id| *id != leader).collect();
    cluster.agree(&left).await;
    cluster.refetch(behind);
    left.iter().for_each(|id| cluster.check_acked(*id));
    cluster.settle().await;
    cluster.check();
}

#[test]
fn l1_an_install_over_acked_unrolled_records_keeps_them_when_the_leader_is_lost() {
    (0..3).for_each(|seed| simulate(lose_the_leader_after_an_install(seed, true)));
}

#[test]
fn l4_an_install_beyond_the_log_keeps_what_was_acked_until_its_segments_are_here() {
    (0..3).for_each(|seed| simulate(lose_the_leader_after_an_install(seed, false)));
}

#[test]
fn a_snapshot_that_is_not_newer_changes_nothing() {
    simulate(async {
        let (mut cluster, leader, behind) = behind(4, true).await;
        cluster.agree(&ALL).await;
        let before = cluster.at(behind).log().retained();
        install(&cluster, leader, behind).await;
        assert_eq!(cluster.at(behind).log().retained(), before);
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn a_snapshot_that_ends_early_changes_nothing_and_the_next_one_is_taken() {
    simulate(async {
        let (mut cluster, leader, behind) = behind(5, true).await;
        cluster.network.isolate(behind);
        let before = cluster.at(behind).log().retained();
        let sender = &cluster.at(leader).group;
        for taken in 0..3 {
            let sent = messages(sender.log().vote().unwrap(), sender.snapshots.clone()).take(taken);
            let sent = sent.map(|message| message.map_err(|error| NoAnswer(error.to_string())));
            let broken = futures::stream::once(async { Err(NoAnswer("the leader is gone".to_owned())) });
            cluster.at(behind).group.receive_state(sent.chain(broken).boxed()).await.unwrap_err();
        }
        assert_eq!(cluster.at(behind).log().retained(), before);
        install(&cluster, leader, behind).await;
        assert!(cluster.at(behind).log().retained().last > before.last);
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn an_install_that_nobody_waits_for_any_more_is_finished_before_the_next_snapshot_is_received() {
    simulate(async {
        let (mut cluster, leader, behind) = behind(7, true).await;
        cluster.network.isolate(behind);
        let before = cluster.at(behind).log().retained();
        cluster.at(behind).stall(true);
        let given_up = timeout(Duration::from_secs(2), install(&cluster, leader, behind)).await;
        assert!(given_up.is_err(), "it was to wait for the log");
        let sender = &cluster.at(leader).group;
        let again = messages(sender.log().vote().unwrap(), sender.snapshots.clone());
        let again = again.map(|message| message.map_err(|error| NoAnswer(error.to_string())));
        let refused = cluster.at(behind).group.receive_state(again.boxed()).await;
        assert_eq!(refused.unwrap_err().code, Code::Overloaded);
        // Who is to free the log that the install waits for does not wait for the install.
        let own = timeout(Duration::from_secs(1), cluster.at(behind).group.snapshot()).await;
        assert_eq!(own.expect("it waits for nothing").unwrap_err().code, Code::Unavailable);
        cluster.at(behind).stall(false);
        let snapshot = cluster.at(leader).group.snapshots.newest().unwrap().last_log_id.unwrap().index;
        cluster.applied(behind, RaftIndex(snapshot)).await;
        install(&cluster, leader, behind).await;
        assert!(cluster.at(behind).log().retained().last > before.last);
        let staged = cluster.at(behind).disk.paths();
        assert!(staged.iter().all(|path| path.extension().is_none_or(|name| name != "tmp")), "{staged:?}");
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn an_install_that_waits_for_room_to_save_its_state_ends_with_the_group() {
    simulate(async {
        let (cluster, leader, behind) = behind(11, true).await;
        cluster.network.isolate(behind);
        cluster.at(behind).disk.set_fault(|_, path| match path.to_string_lossy().contains(".state") {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        });
        let given_up = timeout(Duration::from_secs(2), install(&cluster, leader, behind)).await;
        assert!(given_up.is_err(), "it was to wait for room");
        let stopped = timeout(Duration::from_secs(60), cluster.at(behind).group.stop()).await;
        stopped.expect("it waits for room no more");
    });
}

/// Batches that take more than four log files.
const MANY: usize = 1_600;

/// What a replica is sent, and after that nothing, for ever.
fn and_then_silence(messages: Vec<Message>) -> Incoming {
    futures::stream::iter(messages.into_iter().map(Ok)).chain(futures::stream::pending()).boxed()
}

async fn sent(cluster: &Cluster, from: u64) -> Vec<Message> {
    let sender = &cluster.at(from).group;
    let sent: Vec<_> = messages(sender.log().vote().unwrap(), sender.snapshots.clone()).collect().await;
    sent.into_iter().map(Result::unwrap).collect()
}

#[test]
fn a_snapshot_that_is_larger_than_the_room_of_the_log_is_installed_file_by_file() {
    simulate(async {
        let (mut cluster, leader, behind) = behind(8, true).await;
        cluster.network.isolate(behind);
        cluster.produce_some(MANY).await;
        cluster.at(leader).group.snapshot().await.unwrap();
        let before = cluster.at(behind).log().retained();
        install(&cluster, leader, behind).await;
        let after = cluster.at(behind).log().retained();
        assert!(after.bytes > before.bytes + 2 * (64 << 10), "{after:?}");
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn x1_a_snapshot_that_its_log_could_not_take_is_refused_before_the_device_is_full() {
    simulate(async {
        let (mut cluster, leader, behind) = behind(9, true).await;
        cluster.network.isolate(behind);
        cluster.produce_some(MANY).await;
        cluster.at(leader).group.snapshot().await.unwrap();
        let sent = sent(&cluster, leader).await;
        let bytes =
            |message: &Message| (message.head.len() + message.parts.iter().map(Bytes::len).sum::<usize>()) as u64;
        let total: u64 = sent.iter().map(bytes).sum();
        // It could be received, and not be taken into the log.
        let disk = cluster.at(behind).disk.clone();
        disk.set_capacity(disk.used_bytes() + total + total / 8);
        let stream = futures::stream::iter(sent.into_iter().map(Ok)).boxed();
        let refused = cluster.at(behind).group.receive_state(stream).await.unwrap_err();
        assert_eq!(refused.code, Code::StorageFull, "{refused}");
        assert!(disk.paths().iter().all(|path| path.extension().is_none_or(|name| name != "tmp")));
        disk.set_capacity(u64::MAX);
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn x1_entries_beyond_their_snapshot_are_refused_as_they_come() {
    simulate(async {
        let (mut cluster, leader, behind) = behind(10, true).await;
        cluster.network.isolate(behind);
        let first = sent(&cluster, leader).await;
        cluster.produce_some(3).await;
        cluster.at(leader).group.snapshot().await.unwrap();
        let more = sent(&cluster, leader).await;
        let states = first.iter().filter(|message| message.head[0] != Kind::StateEntries as u8).cloned();
        let entries = more.iter().filter(|message| message.head[0] == Kind::StateEntries as u8).cloned();
        let stream = and_then_silence(states.chain(entries).collect());
        let refused = timeout(Duration::from_secs(5), cluster.at(behind).group.receive_state(stream)).await;
        assert_eq!(refused.expect("it waits for nothing more").unwrap_err().code, Code::CorruptData);
    });
}

#[test]
fn x1_a_snapshot_that_contradicts_what_is_committed_is_refused_and_the_group_goes_on() {
    simulate(async {
        let mut cluster = Cluster::start(8).await;
        cluster.produce_some(4).await;
        cluster.agree(&ALL).await;
        let leader = cluster.leader().unwrap();
        let told = ALL.into_iter().find(|id| *id != leader).unwrap();
        let vote = cluster.at(told).log().vote().unwrap();
        let (term, members) = (vote.leader_id.term + 1, cluster.at(told).group.raft.metrics());
        let membership = encode_stored_membership(&members.borrow_watched().membership_config);
        for index in 1..=cluster.at(told).machine.applied().0 {
            let at = LogPoint { term: Term(term), index: RaftIndex(index) };
            let image = StateImage { at, frontier: at, membership: membership.clone(), state: "a lie".into() };
            let state = Message { head: vec![Kind::StateBytes as u8].into(), parts: vec![image.state.clone()] };
            let lie = [head(Vote::new_committed(term, leader), &image), state].map(Ok);
            let refused = cluster.at(told).group.receive_state(futures::stream::iter(lie).boxed()).await.unwrap_err();
            assert!(refused.code == Code::CorruptData && refused.message.contains("committed here"), "{refused}");
        }
        cluster.produce_some(1).await;
        assert_eq!(cluster.leader(), Some(leader), "its term is not believed either");
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn x1_a_damaged_snapshot_is_refused() {
    simulate(async {
        let (cluster, leader, behind) = behind(6, true).await;
        cluster.network.isolate(behind);
        let sent = sent(&cluster, leader).await;
        for (at, message) in sent.iter().enumerate() {
            for part in 0..message.parts.len() {
                let mut damaged = sent.clone();
                let mut bytes = damaged[at].parts[part].to_vec();
                let Some(byte) = bytes.last_mut() else { continue };
                *byte ^= 1;
                damaged[at].parts[part] = bytes.into();
                let stream = futures::stream::iter(damaged.into_iter().map(Ok)).boxed();
                let refused = cluster.at(behind).group.receive_state(stream).await;
                let membership = at == 0;
                assert!(refused.is_err() || membership, "message {at}, part {part}");
            }
        }
        assert!(cluster.at(behind).log().retained().first <= RaftIndex(20));
    });
}
