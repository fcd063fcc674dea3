//! Devices that are full. They are file systems in memory of a few megabytes, which needs root.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::ledger::Ledger;
use super::machine::system;
use super::network::Network;
use super::nodes::Cluster;
use super::{alone, rounds};

/// Large enough for the log's files and its reserve, small enough to be filled.
const DISK: &str = "size=160m";

/// A file system of its own at a node's data directory; dropping it unmounts it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(data: &Path) -> Result<Self, String> {
        fs::create_dir_all(data).map_err(|error| error.to_string())?;
        let path = data.to_str().ok_or("the path is not text")?;
        system("mount", &["-t", "tmpfs", "-o", DISK, "stratalog-test", path])?;
        Ok(Self(data.to_owned()))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Until nothing fits any more.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file can be made");
        let block = vec![7; 1 << 20];
        for bytes in [1 << 20, 64 << 10, 4 << 10] {
            while ballast.write_all(&block[..bytes]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.ballast()).expect("the ballast is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Processes that still use it keep it until they end.
        let _ = system("umount", &["--lazy", &self.0.to_string_lossy()]);
    }
}

/// Fills the device of a follower, then that of a leader: the others go on, or the node gives leadership up, or producers wait
/// until there is room; nothing that was acknowledged is lost.
#[test]
fn l1_full_devices_lose_nothing() {
    let _alone = alone();
    let mut disks = Vec::new();
    let cluster = Cluster::start_prepared(Network::loopback(), 3, |member| disks.push(SmallDisk::mount(&member.data)));
    let disks: Vec<SmallDisk> = match disks.into_iter().collect() {
        Ok(disks) => disks,
        Err(why) => return eprintln!("skipped: no device can be filled here: {why}"),
    };
    let ledger = Ledger::begin(&cluster, "full", 2);
    for round in 0..rounds(1) {
        ledger.wait_for(&cluster, 300);
        let leader = cluster.leader_of(1 + (round % 4) as u32);
        let follower = cluster.numbers().into_iter().find(|number| *number != leader).unwrap();
        disks[follower as usize - 1].fill();
        ledger.wait_for(&cluster, 500);
        disks[follower as usize - 1].empty();
        cluster.wait_whole();

        let leader = cluster.leader_of(1 + (round % 4) as u32);
        disks[leader as usize - 1].fill();
        std::thread::sleep(std::time::Duration::from_secs(5));
        disks[leader as usize - 1].empty();
        ledger.wait_for(&cluster, 500);
        cluster.wait_whole();
    }
    ledger.check(&cluster);
}
