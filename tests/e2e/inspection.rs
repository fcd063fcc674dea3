//! `stratalog log`: a data directory without its node.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Node, Ran, data_dir, run};

fn node_with_records(data: &Path) -> Node {
    let node = Node::start(data);
    node.run(&["topic", "create", "t", "--partitions", "2"]).ok();
    let records: String = (0..500).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    node.run_with(&["produce", "t"], records.as_bytes()).ok();
    node
}

fn log(data: &Path, arguments: &[&str]) -> Ran {
    let data = data.to_str().unwrap();
    run(&[&["log", arguments[0], data], &arguments[1..]].concat(), b"")
}

fn log_file(data: &Path) -> PathBuf {
    data.join("lanes/0/00000000000000000001.log")
}

#[test]
fn a_stopped_and_a_killed_node_leave_a_directory_that_verifies() {
    let data = data_dir();
    node_with_records(data.path()).stop();
    let report = log(data.path(), &["verify", "--deep", "--output", "json"]).json();
    assert_eq!(report["clean"], true, "{report}");
    assert!(report["batches"].as_u64().unwrap() > 0, "{report}");
    assert!(log(data.path(), &["verify"]).ok().stdout.contains("nothing is damaged or missing"));
    Node::start(data.path()).kill();
    log(data.path(), &["verify", "--deep"]).ok();
    assert!(
        run(&["verify", "--deep", "--data", data.path().to_str().unwrap()], b"").ok().stdout.contains("nothing is")
    );
}

#[test]
fn the_log_is_dumped_in_order_with_what_it_commands() {
    let data = data_dir();
    node_with_records(data.path()).stop();
    let dumped = log(data.path(), &["dump", "--output", "json"]).json();
    let frames = dumped.as_array().unwrap();
    let keys: Vec<&String> = frames[0].as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 10, "{keys:?}");
    let told = |part: &str| frames.iter().any(|frame| frame["commands"].as_str().unwrap().contains(part));
    assert!(told("create topic t") && told("append to "), "{dumped}");
    assert!(frames.is_sorted_by_key(|frame| (frame["file"].as_str().unwrap(), frame["offset"].as_u64())));

    let one = log(data.path(), &["dump", "--shard", "0", "--from", "1", "-n", "1", "--output", "json"]).json();
    assert_eq!(one.as_array().unwrap().len(), 1);
    assert_eq!((&one[0]["shard"], &one[0]["index"]), (&Value::from(0), &Value::from(1)));
    assert!(log(data.path(), &["dump"]).ok().stdout.contains("append to "));
}

#[test]
fn a_directory_in_use_is_not_looked_into() {
    let data = data_dir();
    let node = node_with_records(data.path());
    for command in ["dump", "verify"] {
        let error = log(data.path(), &[command]).failed(1);
        assert!(error.contains("uses the data directory"), "{error}");
    }
    node.stop();
}

#[test]
fn l5_damage_is_told_with_its_place_and_nothing_is_changed() {
    let data = data_dir();
    node_with_records(data.path()).stop();
    let file = OpenOptions::new().read(true).write(true).open(log_file(data.path())).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 600).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 600).unwrap();
    let before = read(&file);

    let ran = log(data.path(), &["verify", "--output", "json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let finding = &report["findings"][0];
    assert_eq!((&report["clean"], &finding["severity"]), (&false.into(), &"damage".into()), "{report}");
    assert_eq!(finding["file"], "lanes/0/00000000000000000001.log");
    assert!((512..=600).contains(&finding["offset"].as_u64().unwrap()), "{finding}");
    assert!(log(data.path(), &["dump"]).failed(1).contains("stratalog verify"));
    assert_eq!(run(&["verify", "--data", data.path().to_str().unwrap()], b"").code, 1);
    assert!(read(&file) == before, "nothing is changed");
}

#[test]
fn what_is_no_data_directory_is_said_to_be_none() {
    let data = data_dir();
    for path in [data.path().to_owned(), data.path().join("none")] {
        assert!(log(&path, &["verify"]).failed(1).contains("is no data directory"));
    }
    run(&["log", "verify"], b"").failed(2);
}

/// What the log has been written to.
fn read(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let read = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(read);
    bytes
}
