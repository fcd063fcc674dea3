//! The commands of the harness that need no cluster.

use std::process::{Command, Output};

fn harness(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stratalog-jepsen")).args(arguments).output().unwrap()
}

#[test]
fn the_list_has_rows_and_what_this_machine_can_inject() {
    let listed = harness(&["list"]);
    let told = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success());
    for part in ["kill-leader", "not built: it waits for", "this machine:", "network-namespaces"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let without = harness(&["list", "--kafka-python", "/nowhere/python3"]);
    let told = String::from_utf8(without.stdout).unwrap();
    assert!(told.contains("rebalance") && told.contains("[needs kafka-client]"), "{told}");
    assert!(told.contains("no: /nowhere/python3: No such file") && told.contains("kafka-client --install"), "{told}");
}

#[test]
fn what_cannot_be_run_is_no_pass_and_says_what_could() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().to_string_lossy().into_owned();
    let run = |arguments: &[&str], words: &str| {
        let ran = harness(&[arguments, &["--binary", "/nowhere/stratalog", "--dir", &dir]].concat());
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.code() == Some(2) && told.contains(words), "{:?}: {told}", ran.status);
    };
    run(&["run", "kill"], "there is no scenario `kill`; there are calm");
    run(&["run", "calm"], "cannot run /nowhere/stratalog");
    run(&["matrix", "--only", "calm,kill"], "there is no scenario `kill`");
    run(&["sabotage", "--bug", "none"], "there is no bug `none`; there are ack-before-fsync");
    let no_history = harness(&["check", "/nowhere/history.jsonl"]);
    assert_eq!(no_history.status.code(), Some(2));
}
