//! What becomes of commands when leadership comes and goes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::Code;
use stratalog_proto::entry::Command;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::{ALL, Cluster, append, simulate};
use crate::metrics::Stages;
use crate::outcome::CommandResult;
use crate::raft::Reign;
use crate::shard::{Admission, Batcher, ShardState};

/// How long a command waits for its answer.
const DEADLINE: Duration = Duration::from_secs(10);

fn batcher(cluster: &Cluster, id: u64) -> Arc<Batcher> {
    let replica = cluster.at(id);
    let admission = Arc::new(Admission::new(1 << 20, DEADLINE, DEADLINE));
    let machine = Arc::clone(&replica.machine);
    let last_time_ns = move || machine.read(ShardState::time_ns);
    Arc::new(Batcher::start(Arc::clone(&replica.group), admission, Stages::default(), last_time_ns))
}

async fn write(batcher: &Batcher, batch: &Bytes) -> Result<CommandResult, stratalog_proto::Error> {
    batcher.propose(append(batch)).await.map(|(_, result)| result)
}

#[test]
fn a_command_for_another_leader_is_refused_at_once_with_its_name() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(51, 0).await;
        let follower = ALL.into_iter().find(|id| *id != leader).unwrap();
        cluster.agree(&ALL).await;
        sleep(Duration::from_secs(1)).await;
        let (batch, started) = (cluster.batch(), Instant::now());
        let refused = write(&batcher(&cluster, follower), &batch).await.unwrap_err();
        assert_eq!((refused.code, started.elapsed()), (Code::NotLeader, Duration::ZERO));
        assert!(refused.message.contains(&format!("replica {leader}")), "{refused}");
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn l1_when_leadership_is_lost_what_waited_was_not_written_and_what_was_in_flight_is_unknown() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(52, 0).await;
        let at_leader = batcher(&cluster, leader);
        let first = cluster.batch();
        let answer = write(&at_leader, &first).await;
        cluster.note(&first, answer).unwrap();
        cluster.network.isolate(leader);
        let (mut writing, mut batches) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            let (batch, at_leader) = (cluster.batch(), Arc::clone(&at_leader));
            batches.push(batch.clone());
            writing.push(tokio::spawn(async move { write(&at_leader, &batch).await }));
            // Each in an entry of its own, until as many as may be are in flight.
            sleep(Duration::from_millis(5)).await;
        }
        let answers = timeout(Duration::from_secs(8), futures::future::join_all(writing)).await;
        let answers = answers.expect("sooner than the deadline of a command");
        let codes: Vec<Code> = answers.into_iter().map(|answer| answer.unwrap().unwrap_err().code).collect();
        assert!(codes[..4].iter().all(|code| *code == Code::Timeout), "{codes:?}");
        assert!(codes[4..].iter().all(|code| *code == Code::NotLeader), "{codes:?}");
        cluster.settle().await;
        cluster.check();
        for unwritten in &batches[4..] {
            assert!(ALL.iter().all(|id| cluster.at(*id).machine.batches().values().all(|held| held != unwritten)));
        }
    });
}

#[test]
fn l2_what_comes_while_no_majority_answers_for_a_moment_keeps_its_order() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(58, 0).await;
        let at_leader = batcher(&cluster, leader);
        cluster.agree(&ALL).await;
        // Longer than a leader's lease, and shorter than anybody waits before it stands for election.
        cluster.network.isolate(leader);
        sleep(Duration::from_millis(1_000)).await;
        let (mut writing, mut batches) = (Vec::new(), Vec::new());
        for number in 0..40 {
            if number == 20 {
                cluster.network.heal();
            }
            let (batch, at_leader) = (cluster.batch(), Arc::clone(&at_leader));
            batches.push(batch.clone());
            writing.push(tokio::spawn(async move { at_leader.propose(append(&batch)).await }));
            sleep(Duration::from_millis(2)).await;
        }
        let answers = timeout(DEADLINE, futures::future::join_all(writing)).await.expect("they are answered");
        let mut at = Vec::new();
        for (answer, batch) in answers.into_iter().zip(&batches) {
            let (index, result) = answer.unwrap().expect("the same replica leads in the same term");
            cluster.note(batch, Ok(result.clone())).unwrap();
            at.push((index, result));
        }
        let offsets = at.iter().map(|(_, result)| match result {
            CommandResult::Appended { base_offset, .. } => *base_offset,
            other => panic!("an append was answered with {other:?}"),
        });
        assert!(offsets.is_sorted(), "{at:?}");
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn what_is_in_flight_is_answered_before_leadership_is_handed_over() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(57, 0).await;
        let at_leader = batcher(&cluster, leader);
        cluster.agree(&ALL).await;
        let (mut writing, mut batches) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (batch, at_leader) = (cluster.batch(), Arc::clone(&at_leader));
            batches.push(batch.clone());
            writing.push(tokio::spawn(async move { write(&at_leader, &batch).await }));
            // Each in an entry of its own.
            tokio::task::yield_now().await;
        }
        cluster.at(leader).group.hand_over().await.unwrap();
        tokio::task::yield_now().await;
        assert!(
            writing.iter().all(tokio::task::JoinHandle::is_finished),
            "nobody waits for what the next leader tells"
        );
        for (writing, batch) in writing.into_iter().zip(&batches) {
            let answer = writing.await.unwrap();
            cluster.note(batch, answer).expect("it was taken before leadership went");
        }
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn a1_a_new_leader_with_a_slow_clock_writes_nothing_older_than_what_is_there() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(53, 0).await;
        let ahead = i64::MAX / 2;
        let mut entry = stratalog_proto::entry::EntryBuilder::with_capacity(64);
        entry.push(&append(&cluster.batch()));
        let term = cluster.at(leader).group.watch_role().borrow().term;
        let written = cluster.at(leader).group.submit(entry.finish(ahead).into(), term).await.unwrap();
        written.unwrap().outcome().await.unwrap();
        let batchers = ALL.map(|id| (id, batcher(&cluster, id)));
        let next = ALL.into_iter().find(|id| *id != leader).unwrap();
        cluster.at(leader).group.transfer_leader(stratalog_proto::ReplicaId(next)).await.unwrap();
        let (_, at_next) = batchers.iter().find(|(id, _)| *id == next).unwrap();
        let batch = cluster.batch();
        timeout(DEADLINE, async { while write(at_next, &batch).await.is_err() {} }).await.expect("it leads");
        assert_eq!(cluster.at(next).machine.read(ShardState::time_ns), ahead);
    });
}

#[test]
fn a_batcher_goes_on_when_its_replica_leads_again() {
    simulate(async {
        let mut cluster = Cluster::start(54).await;
        let batchers = ALL.map(|id| (id, batcher(&cluster, id)));
        for round in 0..6 {
            let leader = cluster.new_leader(0).await;
            let (_, at_leader) = batchers.iter().find(|(id, _)| *id == leader).unwrap();
            for _ in 0..3 {
                let batch = cluster.batch();
                let answer = write(at_leader, &batch).await;
                assert!(cluster.note(&batch, answer).is_ok(), "round {round}");
            }
            cluster.at(leader).group.hand_over().await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn s2_l2_what_was_built_or_taken_in_a_term_is_not_proposed_in_a_later_one_of_the_same_replica() {
    simulate(async {
        let (mut cluster, leader) = Cluster::led(55, 0).await;
        let at_leader = batcher(&cluster, leader);
        let reign = cluster.at(leader).group.watch_role().borrow().reign();
        let term = reign.term;
        let batch = cluster.batch();
        let answer = at_leader.propose_in(term, append(&batch)).await.map(|(_, result)| result);
        cluster.note(&batch, answer).unwrap();

        let other = ALL.into_iter().find(|id| *id != leader).unwrap();
        for (from, to) in [(leader, other), (other, leader)] {
            cluster.at(from).group.transfer_leader(stratalog_proto::ReplicaId(to)).await.unwrap();
            while !cluster.at(to).group.watch_role().borrow().leads {
                sleep(Duration::from_millis(10)).await;
            }
        }
        let late = cluster.batch();
        let refused = at_leader.propose_in(term, append(&late)).await.unwrap_err();
        assert_eq!(refused.code, Code::NotLeader, "{refused}");
        let now = cluster.at(leader).group.watch_role().borrow().reign();
        let before_it_was_cut_off = Reign { number: now.number - 1, ..now };
        for over in [reign, before_it_was_cut_off] {
            let Command::Append(taken) = append(&late) else { panic!("a command that appends") };
            let refused = at_leader.append(taken, over, std::future::ready(Ok(()))).await.unwrap_err();
            assert_eq!(refused.code, Code::NotLeader, "L2: one before it may have been refused: {refused}");
        }
        let batch = cluster.batch();
        let answer = write(&at_leader, &batch).await;
        cluster.note(&batch, answer).expect("what stands on no term goes on");
        cluster.settle().await;
        cluster.check();
        assert!(ALL.iter().all(|id| cluster.at(*id).machine.batches().values().all(|held| *held != late)));
    });
}

#[test]
fn l2_a_batch_that_waits_is_refused_when_its_term_ends_so_that_those_behind_it_do_not_pass_it() {
    simulate(async {
        let mut cluster = Cluster::start(56).await;
        let leader = cluster.new_leader(0).await;
        let at_leader = batcher(&cluster, leader);
        let reign = cluster.at(leader).group.watch_role().borrow().reign();
        let Command::Append(waits) = append(&cluster.batch()) else { panic!("a command that appends") };
        let waiting = tokio::spawn({
            let at_leader = Arc::clone(&at_leader);
            async move { at_leader.append(waits, reign, std::future::pending()).await }
        });
        sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        cluster.at(leader).group.hand_over().await.unwrap();
        let refused = timeout(Duration::from_secs(1), waiting).await.expect("at once").unwrap().unwrap_err();
        assert_eq!(refused.code, Code::NotLeader, "{refused}");
        cluster.settle().await;
        cluster.check();
    });
}
