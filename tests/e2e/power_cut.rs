//! L1 on a real file system: the power goes while a real node writes, and every acknowledged record is there afterwards.
//!
//! The data lies on ext4 in a file behind a loop device, and `EXT4_IOC_SHUTDOWN` is the cut: what was synced stays, all
//! else is gone. It needs root, loop devices and `mkfs.ext4`, and is skipped, with a message, where they are not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::blocking::Client;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use crate::harness::{Node, data_dir};

/// Rounds of cut and restart; `E2E_POWER_CUTS` asks for more.
const CUTS: u64 = 4;
const DISK_BYTES: u64 = 768 << 20;
const WRITERS: u64 = 4;
/// `EXT4_IOC_SHUTDOWN`, and its flag that drops the journal too.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;
/// A node whose disk fails ends by itself.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// Small log files, so that rolling, snapshots and recycling are in the middle of their work when the power goes.
const CONFIG: &str =
    "[lane]\nfile = \"1MiB\"\nbudget = \"3MiB\"\nreserve = \"16MiB\"\n[replay]\nroll_bytes = \"256KiB\"\n";

#[test]
fn l1_power_cuts_lose_no_acknowledged_record() {
    let cuts = std::env::var("E2E_POWER_CUTS").map_or(CUTS, |cuts| cuts.parse().expect("E2E_POWER_CUTS is a number"));
    let home = data_dir();
    let disk = match LoopDisk::make(home.path()) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped: no power can be cut here: {why}"),
    };
    let config = home.path().join("node.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let start = || Node::start_with(&disk.data(), &["--config", config.to_str().unwrap()]);
    let node = start();
    node.run(&["topic", "create", "t", "--partitions", "3"]).ok();
    node.stop();
    let acknowledged = Mutex::new(BTreeSet::new());
    for round in 0..cuts {
        let node = start();
        let is_cut = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (http, acknowledged, is_cut) = (&node.http, &acknowledged, &is_cut);
                scope.spawn(move || write_until_the_cut(http, round, writer, acknowledged, is_cut));
            }
            std::thread::sleep(Duration::from_millis(700 + 311 * (round % 7)));
            is_cut.store(true, Ordering::SeqCst);
            disk.cut();
        });
        let status = node.ended_within(ENDS_WITHIN);
        assert!(!status.success(), "a node whose disk failed does not end as if all were well: {status}");
        disk.remount();
        let node = start();
        check(&node, &acknowledged.lock().unwrap());
        node.stop();
    }
    assert!(!acknowledged.lock().unwrap().is_empty(), "nothing was acknowledged: the test tested nothing");
}

/// Sends one block after the other until one is not acknowledged, or the power is cut: the node, which nobody uses then, has
/// to notice by itself. An answer that comes once the power is being cut says nothing:
/// a machine without power gives none, while here a sync that meets the cut may succeed (`jbd2_complete_transaction` takes a
/// transaction that was aborted and is gone for a committed one).
fn write_until_the_cut(
    http: &str,
    round: u64,
    writer: u64,
    acknowledged: &Mutex<BTreeSet<String>>,
    is_cut: &AtomicBool,
) {
    let client = Client::builder().timeout(Duration::from_secs(15)).build().unwrap();
    let padding = "x".repeat(4_000);
    for block in 0.. {
        let ids: Vec<String> = (0..40).map(|n| format!("{round}-{writer}-{block}-{n}")).collect();
        let body: String = ids.iter().map(|id| format!("{{\"id\":\"{id}\",\"padding\":\"{padding}\"}}\n")).collect();
        let request = client.post(format!("{http}/v1/topics/t/records")).header(CONTENT_TYPE, "application/x-ndjson");
        match request.body(body).send() {
            Ok(answer) if answer.status().is_success() && !is_cut.load(Ordering::SeqCst) => {
                acknowledged.lock().unwrap().extend(ids);
            }
            _ => return,
        }
    }
}

fn check(node: &Node, acknowledged: &BTreeSet<String>) {
    let replay = node.run(&["consume", "t", "--output", "ndjson"]).ok().stdout;
    let mut ids = BTreeSet::new();
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for line in replay.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let offset = next.entry(record["partition"].as_u64().unwrap()).or_default();
        assert_eq!(record["offset"].as_u64().unwrap(), *offset, "L2: offsets are dense");
        *offset += 1;
        let value: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
        assert!(ids.insert(value["id"].as_str().unwrap().to_owned()), "a record is there twice: {value}");
    }
    let lost: Vec<_> = acknowledged.difference(&ids).take(5).collect();
    assert!(lost.is_empty(), "L1: of {} acknowledged records these are gone: {lost:?} …", acknowledged.len());
    assert_eq!(node.value("SELECT count(DISTINCT id) FROM t"), ids.len() as u64, "S1: each record is a row");
    assert_eq!(node.value("SELECT count(*) FROM t"), ids.len() as u64, "S1: each record is a row once");
}

/// A file system of its own, in a file.
struct LoopDisk {
    image: PathBuf,
    mount: PathBuf,
}

impl LoopDisk {
    fn make(home: &Path) -> Result<Self, String> {
        let disk = Self { image: home.join("disk.img"), mount: home.join("disk") };
        let file = File::create(&disk.image).map_err(|error| error.to_string())?;
        file.set_len(DISK_BYTES).map_err(|error| error.to_string())?;
        std::fs::create_dir(&disk.mount).map_err(|error| error.to_string())?;
        command("mkfs.ext4", &["-q", "-F", disk.image.to_str().unwrap()])?;
        // Whoever begins a name space of mounts meanwhile, as `ip netns exec` does, has copies of all of them. Below one that is
        // shared they go with ours; one that stayed would keep the file system as it was when its power was cut.
        let place = disk.mount.to_str().unwrap();
        command("mount", &["--bind", place, place])?;
        command("mount", &["--make-shared", place])?;
        command("mount", &["-o", "loop", disk.image.to_str().unwrap(), place])?;
        Ok(disk)
    }

    fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// From here on nothing is written any more, and what was not synced is lost.
    fn cut(&self) {
        let root = File::open(&self.mount).unwrap();
        // SAFETY: the descriptor is open, and the call reads one u32 behind the pointer.
        let cut = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &NO_LOG_FLUSH) };
        assert_eq!(cut, 0, "EXT4_IOC_SHUTDOWN: {}", std::io::Error::last_os_error());
    }

    fn remount(&self) {
        command("umount", &[self.mount.to_str().unwrap()]).unwrap();
        command("mount", &["-o", "loop", self.image.to_str().unwrap(), self.mount.to_str().unwrap()]).unwrap();
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // The file system, and what it is mounted on; also after a failed test, whose node may just be ending.
        for _ in 0..2 {
            let _ = command("umount", &["-l", self.mount.to_str().unwrap()]);
        }
    }
}

fn command(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
