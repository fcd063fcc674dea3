//! A bug that is planted, and has to be noticed. It is in all of its process, which is therefore one of its own.

use std::process::{Command as Process, Stdio};

use stratalog_storage::sabotage::{Bug, plant};

use super::*;

/// Says to the process that it has the bug.
const VARIABLE: &str = "STRATALOG_PLANTED_BUG";

#[test]
fn l2_what_a_producer_sends_again_is_appended_once() {
    if std::env::var_os(VARIABLE).is_some() {
        plant(Some(Bug::NoDedup));
    }
    let mut state = hosting(&[0]);
    let sent = append(0, batch(3, Some((1, 0, 0))));
    let effects = apply(&mut state, 2, 0, &[sent.clone(), sent]);
    assert_eq!(codes(effects), [appended(0, false), appended(0, true)]);
    assert_eq!(state.partition(TOPIC, PartitionId(0)).unwrap().high_watermark(), Offset(3));
}

#[test]
fn l2_a_shard_that_does_not_deduplicate_is_caught() {
    let test = "shard::state::tests::sabotage::l2_what_a_producer_sends_again_is_appended_once";
    let mut run = Process::new(std::env::current_exe().unwrap());
    let run = run.args(["--exact", test]).env(VARIABLE, "no-dedup").stdout(Stdio::null()).stderr(Stdio::null());
    assert!(!run.status().unwrap().success());
}
