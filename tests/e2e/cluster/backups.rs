//! A cluster is backed up while records are written, and comes back as another one.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::alone;
use super::ledger::Ledger;
use super::nodes::Cluster;
use crate::harness::{Node, Ran, data_dir, run};

fn backup(cluster: &Cluster, place: &Path) -> Value {
    cluster.run(&["backup", "--to", place.to_str().unwrap(), "--output", "json"]).json()
}

fn restore(place: &Path, data: &Path, further: &[&str]) -> Ran {
    let always = ["restore", "--from", place.to_str().unwrap(), "--data", data.to_str().unwrap(), "--output", "json"];
    run(&[&always[..], further].concat(), b"")
}

/// The hashes of the segments that a backup names.
fn segments(place: &Path, made: &Value) -> BTreeSet<String> {
    let path = place.join("backups").join(made["backup"].as_str().unwrap()).join("manifest");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, body) = text.split_once('\n').unwrap();
    let manifest: Value = serde_json::from_str(body).unwrap();
    let shards = manifest["shards"].as_array().unwrap().iter();
    let all = shards.flat_map(|shard| shard["segments"].as_array().unwrap());
    all.map(|segment| segment["blake3"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn l1_a_backup_under_load_comes_back_with_every_record_and_the_next_one_sends_what_is_new() {
    let _alone = alone();
    let cluster = Cluster::start(3);
    let ledger = Ledger::begin_padded(&cluster, "kept", 2, 2_000);
    ledger.wait_for_each(&cluster, 200);
    let place = data_dir();
    let first = backup(&cluster, place.path());
    assert!(first["segments"].as_u64().unwrap() > 0, "{first}");
    ledger.wait_for_each(&cluster, 100);
    let (known, _) = ledger.known();
    let second = backup(&cluster, place.path());

    let (before, after) = (segments(place.path(), &first), segments(place.path(), &second));
    let new = after.difference(&before).count() as u64;
    // Files that a merge made, and took away again before its shard was copied to the end, were sent, too.
    assert!(second["sent_segments"].as_u64().unwrap() >= new && new < after.len() as u64, "{second}, {new} are new");
    let target = data_dir();
    let restored = restore(place.path(), target.path(), &[]).json();
    assert_eq!(restored["backup"], second["backup"]);
    assert_ne!(restored["cluster"], restored["was_cluster"]);
    let node = Node::start(target.path());
    let other = cluster.runtime.block_on(stratalog_client::Client::connect(&node.grpc)).unwrap();
    let records = ledger.check_prefix(&cluster, &other);
    assert!(records >= known, "L1: {records} records came back, {known} were acknowledged before");
    assert_eq!(node.value("SELECT count(*) FROM kept"), records, "S1");
    let before = data_dir();
    restore(place.path(), before.path(), &["--backup", first["backup"].as_str().unwrap()]).json();
    ledger.check(&cluster);

    let listed = run(&["restore", "--from", place.path().to_str().unwrap(), "--list", "--output", "json"], b"").json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let refused = node.run(&["backup", "--to", place.path().to_str().unwrap()]).failed(1);
    assert!(refused.contains("has the backups of cluster"), "{refused}");
    node.stop();
}

#[test]
fn l5_a_backup_that_was_damaged_says_where_and_starts_nothing() {
    let (data, place) = (data_dir(), data_dir());
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t"]).ok();
    node.run_with(&["produce", "t"], b"{\"n\":1}\n{\"n\":2}\n").ok();
    node.run(&["topic", "seal", "t"]).ok();
    let to = place.path().to_str().unwrap();
    let made = node.run(&["backup", "--to", &format!("file://{to}"), "--rate", "10MiB", "--output", "json"]).json();
    node.stop();
    let hash = segments(place.path(), &made).pop_first().expect("a sealed topic has a segment");
    let segment = place.path().join("segments").join(&hash[..2]).join(&hash);
    let whole = std::fs::read(&segment).unwrap();
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    std::fs::write(&segment, &flipped).unwrap();
    let target = data_dir();
    let error = restore(place.path(), target.path(), &[]).failed(1);
    assert!(error.contains(&hash) && error.contains("not those that were stored"), "{error}");
    let error = run(&["serve", "--data", target.path().to_str().unwrap(), "--grpc", "127.0.0.1:0", "--kafka", ""], b"")
        .failed(1);
    assert!(error.contains("its restore was cut short"), "{error}");

    std::fs::remove_file(&segment).unwrap();
    let error = restore(place.path(), data_dir().path(), &[]).failed(1);
    assert!(error.contains(&hash) && error.contains("is missing"), "{error}");
    std::fs::write(&segment, whole).unwrap();
    let target = data_dir();
    restore(place.path(), target.path(), &[]).json();
    let node = Node::start(target.path());
    assert_eq!(node.value("SELECT sum(n) FROM t"), 3);
    node.stop();
}

#[test]
fn a_backup_that_is_killed_leaves_the_older_one_and_the_next_one_goes_on() {
    let (data, place) = (data_dir(), data_dir());
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t", "--partitions", "1"]).ok();
    let produce = |range: std::ops::Range<u32>| {
        let records: String = range.map(|n| format!("{{\"n\":{n},\"text\":\"{}\"}}\n", fastrand::u128(..))).collect();
        node.run_with(&["produce", "t"], records.as_bytes()).ok();
        node.run(&["topic", "seal", "t"]).ok();
    };
    let to = place.path().to_str().unwrap();
    let list = || run(&["restore", "--from", to, "--list", "--output", "json"], b"").json();
    produce(0..100);
    let first = node.run(&["backup", "--to", to, "--output", "json"]).json();
    produce(100..5_000);
    // It takes minutes at this rate.
    let mut killed = node.spawn(&["backup", "--to", to, "--rate", "1KiB"]);
    let begun = || std::fs::read_dir(place.path().join("backups")).unwrap().count() == 2;
    while !begun() {
        assert_eq!(killed.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(list().as_array().unwrap().len(), 1, "what was cut short is no backup");
    let old = data_dir();
    restore(place.path(), old.path(), &[]).json();
    let next = node.run(&["backup", "--to", to, "--output", "json"]).json();
    assert_eq!((list().as_array().unwrap().len(), list()[0]["backup"] == first["backup"]), (2, true));
    let again = node.run(&["backup", "--to", to, "--output", "json"]).json();
    let (here, wanted) = (segments(place.path(), &next), segments(place.path(), &again));
    // A merge may have come in between.
    assert_eq!(again["sent_segments"].as_u64(), Some(wanted.difference(&here).count() as u64), "{again}");
    node.stop();
    let target = data_dir();
    restore(place.path(), target.path(), &[]).json();
    let node = Node::start(target.path());
    assert_eq!(node.value("SELECT count(DISTINCT n) FROM t"), 5_000);
    node.stop();
    let node = Node::start(old.path());
    assert_eq!(node.value("SELECT count(*) FROM t"), 100);
    node.stop();
}

#[test]
fn l5_the_newest_are_kept_and_a_check_finds_what_a_restore_would_fail_at() {
    let (data, place) = (data_dir(), data_dir());
    let node = Node::start(data.path());
    node.run(&["topic", "create", "t", "--partitions", "1"]).ok();
    let to = place.path().to_str().unwrap();
    let mut made = Vec::new();
    for n in 0..3 {
        node.run_with(&["produce", "t"], format!("{{\"n\":{n}}}\n").as_bytes()).ok();
        node.run(&["topic", "seal", "t"]).ok();
        made.push(node.run(&["backup", "--to", to, "--keep", "2", "--output", "json"]).json());
    }
    node.stop();
    assert_eq!(made[0]["removed_backups"], serde_json::json!([]));
    assert_eq!(made[2]["removed_backups"], serde_json::json!([made[0]["backup"]]), "{made:?}");
    let listed = run(&["restore", "--from", to, "--list", "--output", "json"], b"").json();
    let ids: Vec<&Value> = listed.as_array().unwrap().iter().map(|one| &one["backup"]).collect();
    assert_eq!(ids, [&made[1]["backup"], &made[2]["backup"]]);

    let check = |further: &[&str]| run(&[&["restore", "--from", to, "--check"][..], further].concat(), b"");
    for one in &made[1..] {
        let clean = check(&["--backup", one["backup"].as_str().unwrap(), "--output", "json"]).json();
        assert_eq!((&clean["clean"], &clean["findings"]), (&true.into(), &serde_json::json!([])), "{clean}");
    }
    assert!(check(&[]).ok().stdout.contains("nothing is damaged or missing"));
    let hash = segments(place.path(), &made[2]).pop_first().unwrap();
    let segment = place.path().join("segments").join(&hash[..2]).join(&hash);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let error = check(&[]).failed(1);
    assert!(error.contains("one object is not there whole"), "{error}");
    std::fs::remove_file(&segment).unwrap();
    let ran = check(&["--output", "json"]);
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    ran.failed(1);
    assert_eq!((&found["clean"], &found["findings"][0]["severity"]), (&false.into(), &"missing".into()), "{found}");
    assert!(found["findings"][0]["object"].as_str().unwrap().ends_with(&hash), "{found}");
}

#[test]
fn places_that_are_none_are_refused_with_words() {
    let empty = data_dir();
    let place = empty.path().to_str().unwrap();
    let error = run(&["restore", "--from", place, "--list"], b"").failed(1);
    assert!(error.contains("there are no backups in"), "{error}");
    let error = run(&["restore", "--from", "ftp://bucket/x", "--data", place], b"").failed(2);
    assert!(error.contains("nothing is known of `ftp`") && error.contains("s3://BUCKET/PATH"), "{error}");
    let error = run(&["restore", "--from", "s3://key:secret@bucket/x", "--check"], b"").failed(2);
    assert!(error.contains("AWS_ACCESS_KEY_ID") && !error.contains("secret@"), "{error}");
    assert!(run(&["backup", "--to", place, "--rate", "fast"], b"").failed(2).contains("a number of bytes"));
    run(&["backup", "--to", place, "--keep", "0"], b"").failed(2);
}
