//! What goes on when another node takes a group over, and what a failed command leaves.

use super::*;

impl Bench {
    /// Another node takes over, which knows what the state says.
    fn fail_over(&mut self) {
        let next = Machine::load(GROUP, &self.membership(), LIMITS, self.now);
        let effects = std::mem::replace(&mut self.machine, next).fail(&Refusal::NotCoordinator);
        self.flying = None;
        self.carry_out(effects);
    }
}

#[test]
fn a_stable_group_goes_on_without_a_rebalance() {
    let (mut bench, ids) = Bench::stable(3);
    bench.pass(SESSION - 1);
    bench.fail_over();
    bench.pass(SESSION - 1);
    assert!(ids.iter().all(|id| bench.heartbeat(id) == Ok(())), "every session began anew");
    let again = bench.sync(&ids[2]);
    assert_eq!(bench.synced(again), ids[2].as_bytes());
    bench.pass(SESSION);
    bench.land();
    assert_eq!(bench.heartbeat(&ids[0]), Err(Refusal::UnknownMember), "and ends as ever");
}

#[test]
fn an_assignment_in_flight_is_asked_for_again() {
    let (mut bench, leader) = Bench::begun();
    let lost = bench.sync(&leader);
    bench.fail_over();
    assert_eq!(bench.refused(lost), Refusal::NotCoordinator);
    let again = bench.sync(&leader);
    bench.land();
    assert_eq!(bench.synced(again), leader.as_bytes());
}

#[test]
fn an_assignment_that_nobody_asks_for_again_is_not_waited_for_for_ever() {
    let (mut bench, leader) = Bench::begun();
    bench.fail_over();
    bench.pass(REBALANCE);
    bench.land();
    assert_eq!(bench.membership().phase, Phase::Empty);
    assert_eq!(bench.heartbeat(&leader), Err(Refusal::UnknownMember));
}

#[test]
fn g1_a_round_in_flight_is_lost_and_its_members_join_again() {
    let (mut bench, ids) = Bench::stable(1);
    let second = bench.join("", |join| join);
    let back = bench.join(&ids[0], |join| join);
    assert!(bench.flying.is_some());
    bench.fail_over();
    assert_eq!([bench.refused(second), bench.refused(back)], [Refusal::NotCoordinator, Refusal::NotCoordinator]);
    assert_eq!(bench.heartbeat(&ids[0]), Ok(()), "the generation before goes on");
    let again = bench.join("", |join| join);
    bench.join(&ids[0], |join| join);
    bench.land();
    assert_eq!(bench.joined(again).generation, 2);
}

#[test]
fn g1_a_command_of_a_machine_that_is_gone_is_refused_once_another_one_was_applied() {
    let (mut bench, ids) = Bench::stable(1);
    bench.join(&ids[0], |join| join);
    let late = bench.flying.clone().unwrap();
    bench.fail_over();
    bench.join(&ids[0], |join| join);
    bench.land();
    let refused = bench.apply(Command::GroupState(late)).unwrap_err();
    assert_eq!(refused.code, Code::Conflict);
    assert_eq!(bench.membership().generation, 2);
}
