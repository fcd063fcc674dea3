//! Static members: they keep their place while they are away.

use super::*;

/// Stable, with a static leader and a static follower: their ids.
fn begun() -> (Bench, [String; 2]) {
    let mut bench = Bench::new();
    let tickets = [bench.join("", as_instance("a")), bench.join("", as_instance("b"))];
    bench.pass(2 * LIMITS.initial_delay);
    bench.land();
    let ids = tickets.map(|ticket| bench.joined(ticket).member_id);
    let synced: Vec<_> = ids.iter().map(|id| bench.sync(id)).collect();
    bench.land();
    synced.into_iter().for_each(|ticket| _ = bench.synced(ticket));
    (bench, ids)
}

#[test]
fn one_that_comes_back_goes_on_without_a_rebalance_and_fences_the_one_that_it_was() {
    let (mut bench, [leader, follower]) = begun();
    let back = bench.join("", as_instance("b"));
    assert!(bench.waits(back), "nobody hears of it before it is applied");
    bench.land();
    let back = bench.joined(back);
    assert_eq!((back.generation, &back.leader, back.skip_assignment), (1, &leader, false));
    assert_ne!(back.member_id, follower);
    let kept = bench.sync(&back.member_id);
    assert_eq!(bench.synced(kept), follower.as_bytes(), "what was assigned to it still is");
    assert_eq!(bench.heartbeat(&follower), Err(Refusal::UnknownMember));
    let fenced = bench.ask(Ask::Heartbeat(Heartbeat {
        group: GROUP.to_owned(),
        generation: 1,
        member_id: follower.clone(),
        instance: Some("b".to_owned()),
    }));
    assert_eq!(bench.refused(fenced), Refusal::FencedInstance);
    let fenced = bench.join(&follower, as_instance("b"));
    assert_eq!(bench.refused(fenced), Refusal::FencedInstance);
}

#[test]
fn a_leader_that_comes_back_skips_the_assignment_or_does_not_know_that_it_leads() {
    for knows_skipping in [true, false] {
        let (mut bench, [leader, _]) = begun();
        let back = bench.join("", |join| Join { knows_skipping, ..as_instance("a")(join) });
        bench.land();
        let back = bench.joined(back);
        assert_eq!(bench.membership().leader, back.member_id);
        assert_eq!((back.skip_assignment, back.members.len()), if knows_skipping { (true, 2) } else { (false, 0) });
        assert_eq!(back.leader, if knows_skipping { back.member_id } else { leader });
    }
}

#[test]
fn one_that_comes_back_with_another_choice_begins_a_generation() {
    let (mut bench, [leader, _]) = begun();
    let knows_more = |join| knowing(&["sticky", "range"])(as_instance("a")(join));
    let first = bench.join(&leader, knows_more);
    let back = bench.join("", |join| knowing(&["sticky", "range"])(as_instance("b")(join)));
    bench.land();
    assert_eq!((bench.joined(first).protocol, bench.joined(back).generation), ("sticky".to_owned(), 2));
}

#[test]
fn a_round_waits_for_a_static_member_until_its_session_ends() {
    let (mut bench, ids) = begun();
    let third = bench.join("", |join| join);
    bench.pass(SESSION - 1);
    assert_eq!(bench.heartbeat(&ids[0]), Err(Refusal::RebalanceInProgress));
    let back = bench.join(&ids[0], as_instance("a"));
    assert!(bench.waits(third));
    bench.pass(1);
    bench.land();
    assert_eq!(bench.joined(third).generation, 2);
    assert_eq!(bench.joined(back).members.len(), 2, "the other one was not heard of");
}

#[test]
fn an_operator_takes_a_static_member_out_by_its_instance() {
    let (mut bench, [leader, follower]) = begun();
    let leaving = |instance: &str| Leaving { member_id: String::new(), instance: Some(instance.to_owned()) };
    let ticket = bench.ask(Ask::Leave(vec![leaving("b"), leaving("c")]));
    let left = bench.answers.remove(&ticket);
    assert_eq!(left, Some(Ok(Answer::Left(vec![Ok(()), Err(Refusal::UnknownMember)]))));
    assert_eq!(bench.heartbeat(&follower), Err(Refusal::UnknownMember));
    assert_eq!(bench.heartbeat(&leader), Err(Refusal::RebalanceInProgress));
}

#[test]
fn one_that_comes_back_while_the_leader_assigns_begins_a_generation() {
    let mut bench = Bench::new();
    let tickets = [bench.join("", as_instance("a")), bench.join("", as_instance("b"))];
    bench.pass(2 * LIMITS.initial_delay);
    bench.land();
    let [leader, _] = tickets.map(|ticket| bench.joined(ticket).member_id);
    let back = bench.join("", as_instance("b"));
    let again = bench.join(&leader, as_instance("a"));
    bench.land();
    assert_eq!((bench.joined(back).generation, bench.joined(again).generation), (2, 2));
}
