//! Joining, assigning, leaving, and members that are not heard of.

use super::*;

#[test]
fn members_that_join_together_are_one_generation_and_nobody_hears_of_it_before_it_is_applied() {
    let mut bench = Bench::new();
    let first = bench.join("", |join| join);
    bench.pass(300);
    let second = bench.join("", |join| join);
    bench.pass(LIMITS.initial_delay - 1);
    assert!(bench.flying.is_none(), "the second one made the round longer");
    bench.pass(300);
    assert!(bench.waits(first) && bench.waits(second));
    bench.land();
    let (first, second) = (bench.joined(first), bench.joined(second));
    assert_eq!((first.generation, second.generation), (1, 1));
    assert_eq!((&first.leader, &second.leader), (&first.member_id, &first.member_id));
    let names: Vec<_> = first.members.iter().map(|member| member.member_id.clone()).collect();
    assert_eq!((names, second.members), (vec![first.member_id.clone(), second.member_id.clone()], vec![]));

    let follower = bench.sync(&second.member_id);
    assert!(bench.flying.is_none(), "the leader assigns");
    let leader = bench.sync(&first.member_id);
    assert!(bench.waits(leader) && bench.waits(follower));
    bench.land();
    assert_eq!(bench.synced(leader), first.member_id.as_bytes());
    assert_eq!(bench.synced(follower), second.member_id.as_bytes());
    assert_eq!(bench.membership().phase, Phase::Stable);
    let again = bench.sync(&second.member_id);
    assert_eq!(bench.synced(again), second.member_id.as_bytes(), "a stable group says it again");
}

#[test]
fn the_first_round_is_never_longer_than_a_rebalance() {
    let mut bench = Bench::new();
    let short = |join| Join { rebalance_timeout: Duration::from_millis(1_200), ..join };
    bench.join("", short);
    for _ in 0..3 {
        bench.pass(390);
        bench.join("", short);
    }
    assert!(bench.flying.is_none());
    bench.pass(31);
    assert!(bench.flying.is_some(), "{} ms", bench.now);
}

#[test]
fn g1_a_member_that_joins_makes_all_others_join_the_next_generation() {
    let (mut bench, ids) = Bench::stable(2);
    let third = bench.join("", |join| join);
    assert_eq!(bench.heartbeat(&ids[0]), Err(Refusal::RebalanceInProgress));
    let late = bench.sync(&ids[1]);
    assert_eq!(bench.refused(late), Refusal::RebalanceInProgress);
    let back: Vec<_> = ids.iter().map(|id| bench.join(id, |join| join)).collect();
    bench.land();
    assert_eq!(bench.joined(third).generation, 2);
    assert!(back.into_iter().all(|ticket| bench.joined(ticket).generation == 2));
    assert_eq!(bench.membership().members.len(), 3);
    assert!(bench.membership().members.values().all(|member| member.assignment.is_empty()));
}

#[test]
fn who_does_not_join_in_time_is_left_behind() {
    let (mut bench, ids) = Bench::stable(2);
    let third = bench.join("", |join| join);
    let back = bench.join(&ids[1], |join| join);
    for _ in 0..REBALANCE / 5_000 - 1 {
        bench.pass(5_000);
        assert_eq!(bench.heartbeat(&ids[0]), Err(Refusal::RebalanceInProgress), "it lives, and does not join");
    }
    assert!(bench.waits(third));
    bench.pass(5_000);
    bench.land();
    let joined = bench.joined(back);
    assert_eq!((joined.generation, joined.leader), (2, ids[1].clone()), "one that has joined leads");
    assert_eq!(bench.joined(third).generation, 2);
    assert_eq!(bench.heartbeat(&ids[0]), Err(Refusal::UnknownMember));
}

#[test]
fn a_member_that_is_not_heard_of_makes_the_others_join_anew() {
    let (mut bench, ids) = Bench::stable(2);
    bench.pass(SESSION - 1);
    assert_eq!(bench.heartbeat(&ids[1]), Ok(()));
    bench.pass(1);
    assert_eq!(bench.heartbeat(&ids[1]), Err(Refusal::RebalanceInProgress));
    assert_eq!(bench.heartbeat(&ids[0]), Err(Refusal::UnknownMember));
    let back = bench.join(&ids[1], |join| join);
    bench.land();
    assert_eq!(bench.joined(back).leader, ids[1]);
}

#[test]
fn who_waits_for_an_answer_lives() {
    let (mut bench, ids) = Bench::stable(2);
    let back = bench.join(&ids[0], |join| join);
    bench.pass(SESSION + 1);
    assert!(bench.flying.is_some(), "the other one was not heard of");
    assert!(bench.waits(back));
    bench.land();
    assert_eq!(bench.joined(back).generation, 2);
}

#[test]
fn an_assignment_that_does_not_come_ends_the_generation() {
    let mut bench = Bench::new();
    let tickets = [bench.join("", |join| join), bench.join("", |join| join)];
    bench.pass(2 * LIMITS.initial_delay);
    bench.land();
    let ids = tickets.map(|ticket| bench.joined(ticket).member_id);
    let waiting = bench.sync(&ids[1]);
    for _ in 0..REBALANCE / 5_000 {
        assert_eq!(bench.heartbeat(&ids[0]), Ok(()));
        bench.pass(5_000);
    }
    assert_eq!(bench.refused(waiting), Refusal::RebalanceInProgress);
    assert_eq!(bench.heartbeat(&ids[0]), Err(Refusal::UnknownMember), "the leader is gone");
}

#[test]
fn g1_the_last_one_that_leaves_ends_a_generation() {
    let (mut bench, ids) = Bench::stable(3);
    assert_eq!(bench.leave(&[&ids[2]]), [Ok(())]);
    assert_eq!(bench.heartbeat(&ids[0]), Err(Refusal::RebalanceInProgress));
    assert_eq!(bench.leave(&[&ids[0], "nobody", &ids[1]]), [Ok(()), Err(Refusal::UnknownMember), Ok(())]);
    bench.land();
    let left = bench.membership();
    assert_eq!((left.phase, left.generation, left.protocol_type.as_str()), (Phase::Empty, 2, "consumer"));
    assert!(bench.machine.is_idle());
}

#[test]
fn a_group_that_never_had_a_generation_is_nothing_to_remember() {
    let mut bench = Bench::new();
    let first = bench.join("", |join| join);
    assert_eq!(bench.leave(&["m0"]), [Ok(())]);
    assert_eq!(bench.refused(first), Refusal::UnknownMember);
    bench.pass(LIMITS.initial_delay);
    assert!(bench.flying.is_none() && bench.machine.is_idle() && bench.machine.wake().is_none());
}

#[test]
fn an_id_that_was_given_out_is_waited_for() {
    let (mut bench, leader) = Bench::begun();
    let asks_twice = |join| Join { needs_member_id: true, ..join };
    let ticket = bench.join("", asks_twice);
    let Refusal::MemberIdRequired(id) = bench.refused(ticket) else { panic!("an id is given first") };
    let back = bench.join(&leader, |join| Join { protocols: vec![("range".into(), Bytes::from_static(b"u"))], ..join });
    assert!(bench.flying.is_none(), "one is about to join");
    let second = bench.join(&id, asks_twice);
    bench.land();
    assert_eq!((bench.joined(back).generation, bench.joined(second).member_id), (2, id));
}

#[test]
fn an_id_that_nobody_joins_with_is_forgotten() {
    let (mut bench, leader) = Bench::begun();
    let ticket = bench.join("", |join| Join { needs_member_id: true, ..join });
    let Refusal::MemberIdRequired(id) = bench.refused(ticket) else { panic!("an id is given first") };
    let back = bench.join(&leader, knowing(&["range", "sticky"]));
    bench.pass(SESSION);
    bench.land();
    assert_eq!(bench.joined(back).generation, 2);
    let late = bench.join(&id, |join| join);
    assert_eq!(bench.refused(late), Refusal::UnknownMember);
}

#[test]
fn most_members_choose_among_what_all_of_them_know() {
    let mut bench = Bench::new();
    let first = bench.join("", knowing(&["a", "b", "c"]));
    bench.join("", knowing(&["c", "b"]));
    bench.join("", knowing(&["b", "c"]));
    let none = bench.join("", knowing(&["a"]));
    assert_eq!(bench.refused(none), Refusal::InconsistentProtocol);
    let other = bench.join("", |join| Join { protocol_type: "connect".to_owned(), ..join });
    assert_eq!(bench.refused(other), Refusal::InconsistentProtocol);
    bench.pass(2 * LIMITS.initial_delay);
    bench.land();
    assert_eq!(bench.joined(first).protocol, "b");
}

#[test]
fn a_group_takes_members_up_to_its_bound() {
    let (mut bench, ids) = Bench::stable(LIMITS.max_members);
    let more = bench.join("", |join| join);
    assert_eq!(bench.refused(more), Refusal::GroupFull);
    let back = bench.join(&ids[1], |join| join);
    assert_eq!(bench.joined(back).generation, 1, "who is in it stays");
}

#[test]
fn x1_what_members_say_is_bounded() {
    let (mut bench, leader) = Bench::begun();
    let large = vec![("range".to_owned(), Bytes::from(vec![0; 900 << 10]))];
    let first = bench.join("", |join| Join { protocols: large.clone(), ..join });
    let second = bench.join("", |join| Join { protocols: large, ..join });
    assert_eq!(bench.refused(second), Refusal::GroupFull);
    bench.join(&leader, |join| join);
    bench.land();
    bench.joined(first);
    let generation = bench.membership().generation;
    let assignments = vec![(leader.clone(), Bytes::from(vec![0; 2 << 20]))];
    let too_much = bench.ask(Ask::Sync(Sync {
        group: GROUP.to_owned(),
        generation,
        member_id: leader,
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments,
    }));
    assert!(matches!(bench.refused(too_much), Refusal::Other(error) if error.code == Code::MessageTooLarge));
}

#[test]
fn x1_what_waits_for_a_command_is_bounded() {
    let mut bench = Bench::new();
    bench.join("", |join| join);
    bench.pass(LIMITS.initial_delay);
    let most = DEFERRED_OF_EACH * LIMITS.max_members;
    let waiting: Vec<_> = (0..=most).map(|_| bench.join("", |join| join)).collect();
    assert!(waiting[..most].iter().all(|ticket| bench.waits(*ticket)));
    assert!(matches!(bench.refused(waiting[most]), Refusal::Other(error) if error.code == Code::Overloaded));
}

#[test]
fn a_follower_without_news_hears_the_generation_again_and_a_leader_begins_another() {
    let (mut bench, ids) = Bench::stable(2);
    let same = bench.join(&ids[1], |join| join);
    assert_eq!(bench.joined(same).generation, 1);
    let leader = bench.join(&ids[0], |join| join);
    assert!(bench.waits(leader));
    let follower = bench.join(&ids[1], |join| join);
    bench.land();
    assert_eq!((bench.joined(leader).generation, bench.joined(follower).generation), (2, 2));
}

#[test]
fn of_a_request_that_comes_again_the_later_one_is_answered() {
    let mut bench = Bench::new();
    let asks = |join| Join { needs_member_id: true, ..join };
    let ticket = bench.join("", asks);
    let Refusal::MemberIdRequired(id) = bench.refused(ticket) else { panic!("an id is given first") };
    let (first, again) = (bench.join(&id, asks), bench.join(&id, asks));
    assert_eq!(bench.refused(first), Refusal::RebalanceInProgress);
    bench.pass(LIMITS.initial_delay);
    bench.land();
    assert_eq!(bench.joined(again).member_id, id);
    let twice = bench.join(&id, asks);
    assert_eq!(bench.joined(twice).generation, 1, "it had not heard the answer");
}

#[test]
fn g1_commits_are_of_members_of_the_generation() {
    let (mut bench, ids) = Bench::stable(1);
    let now = bench.now;
    let mut may = |generation, member: &str| bench.machine.may_commit(now, generation, member, None);
    assert_eq!(may(1, &ids[0]), Ok(()));
    assert_eq!(may(0, &ids[0]), Err(Refusal::IllegalGeneration));
    assert_eq!(may(1, "other"), Err(Refusal::UnknownMember));
    assert_eq!(may(-1, ""), Err(Refusal::UnknownMember), "the group has members");
    let second = bench.join("", |join| join);
    assert_eq!(bench.machine.may_commit(now, 1, &ids[0], None), Ok(()), "before it joins anew");
    bench.join(&ids[0], |join| join);
    bench.land();
    bench.joined(second);
    assert_eq!(bench.machine.may_commit(now, 2, &ids[0], None), Err(Refusal::RebalanceInProgress));
}
