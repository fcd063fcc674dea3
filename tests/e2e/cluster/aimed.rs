//! Kills at the moment when a node is in the middle of something. Files that are not whole yet tell of it.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::nodes::Cluster;
use super::segments::{file_name, files_of_shards};
use super::trial::{Load, kill_for, light, under_load};

/// Such a moment lasts some milliseconds.
const LOOK_EVERY: Duration = Duration::from_micros(300);
/// Nobody waits longer for such a moment.
const LOOKS: u32 = 200_000;
/// Long enough for the others to notice that somebody is gone.
const GONE_FOR: Duration = Duration::from_secs(3);

/// What a node may be in the middle of.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// A leader writes a column segment.
    Seal,
    /// A replica writes a replay segment.
    Roll,
    /// A follower gets a column segment from another node.
    Fetch,
    /// A replica gets a snapshot.
    Snapshot,
}

impl Work {
    /// Whether the node with this data directory is in the middle of it.
    fn is_going_on(self, data: &Path) -> bool {
        let (folder, begin, end) = match self {
            Self::Seal => ("segments", "", ".col.tmp"),
            Self::Roll => ("segments", "", ".rec.tmp"),
            Self::Fetch => ("segments", "", ".col.part"),
            Self::Snapshot => ("state", "incoming-", ".tmp"),
        };
        let mut names = files_of_shards(data, folder).map(|path| file_name(&path));
        names.any(|name| name.starts_with(begin) && name.ends_with(end))
    }
}

/// Waits until one of these nodes is in the middle of it; the node.
fn caught(cluster: &Cluster, work: Work, among: &[u64]) -> u64 {
    for _ in 0..LOOKS {
        if let Some(number) = among.iter().find(|number| work.is_going_on(&cluster.member(**number).data)) {
            return *number;
        }
        sleep(LOOK_EVERY);
    }
    panic!("none of the nodes {among:?} was found in the middle of a {work:?}");
}

/// Kills whoever is in the middle of it first, and starts it again.
fn kill_in(cluster: &mut Cluster, work: Work) {
    let number = caught(cluster, work, &cluster.numbers());
    kill_for(cluster, &[number], GONE_FOR);
}

fn padded(topic: &'static str, padding: usize) -> Load {
    Load { padding, ..light(topic) }
}

#[test]
fn l1_s2_a_kill_in_a_seal_and_in_a_roll() {
    under_load(padded("seals", 1_000), 1, |cluster, ledger, _| {
        for work in [Work::Seal, Work::Roll] {
            ledger.wait_for(cluster, 300);
            kill_in(cluster, work);
        }
    });
}

/// Of the one that gets a segment, and of the one that has it: the leader, which may not propose what nobody else has.
#[test]
fn l1_s2_kills_of_both_ends_of_a_fetch() {
    under_load(padded("fetches", 1_000), 2, |cluster, ledger, round| {
        ledger.wait_for(cluster, 300);
        if round % 2 == 0 {
            kill_in(cluster, Work::Fetch);
            return;
        }
        let fetches = caught(cluster, Work::Fetch, &cluster.numbers());
        let others: Vec<u64> = cluster.numbers().into_iter().filter(|number| *number != fetches).collect();
        kill_for(cluster, &others, GONE_FOR);
    });
}

/// A node was away until the others had nothing left of the log that it lacks, and dies while it takes their state.
#[test]
fn l1_l4_a_kill_in_a_snapshot() {
    under_load(padded("snapshots", 3_000), 1, |cluster, ledger, round| {
        let away = 1 + round % 3;
        ledger.wait_for(cluster, 300);
        cluster.kill(away);
        // More than the log may take.
        ledger.wait_for(cluster, 4_000);
        cluster.launch(away);
        caught(cluster, Work::Snapshot, &[away]);
        kill_for(cluster, &[away], GONE_FOR);
    });
}
