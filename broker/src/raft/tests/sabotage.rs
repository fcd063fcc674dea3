//! Bugs that are planted, and have to be noticed. Each run is a process of its own: a planted bug is in all of it.

use std::process::{Command, Stdio};

use stratalog_storage::sabotage::{Bug, plant};

/// Names the bug to the process that has it.
const VARIABLE: &str = "STRATALOG_PLANTED_BUG";

pub(super) fn plant_what_is_asked_for() {
    if let Ok(name) = std::env::var(VARIABLE) {
        plant(Some(Bug::named(&name).expect("a bug that is known")));
    }
}

/// Runs one test of this file's siblings in a process with the bug; whether it passes.
fn passes_with(bug: &str, test: &str) -> bool {
    let mut run = Command::new(std::env::current_exe().unwrap());
    let run = run.args(["--exact", &format!("raft::tests::{test}")]).env(VARIABLE, bug);
    run.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

#[test]
fn l1_a_leader_that_goes_on_in_its_term_is_caught() {
    let test = "traps::l1_a_leader_that_lost_its_unflushed_tail_does_not_go_on_in_its_term";
    assert!(!passes_with("leader-restore", test));
}

#[test]
fn l1_a_vote_of_a_replica_that_forgot_is_caught() {
    let test = "doubts::l1_a_replica_that_forgot_what_it_acknowledged_helps_nobody_to_lead_who_never_had_it";
    assert!(!passes_with("vote-in-doubt", test));
}

#[test]
fn l1_a_vote_that_is_not_kept_is_caught() {
    let test = "traps::l1_a_replica_votes_once_in_a_term_whatever_happens_to_its_power";
    assert!(!passes_with("vote-not-persisted", test));
}

#[test]
fn q1_a_leader_that_asks_no_majority_before_it_answers_is_caught() {
    let test = "leading::a_read_index_needs_a_majority_and_covers_what_was_acknowledged";
    assert!(!passes_with("stale-read", test));
}
