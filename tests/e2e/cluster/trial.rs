//! The frame of a fault: three nodes, a topic that is written to, and in the end nothing of it is lost.

use std::thread::sleep;
use std::time::Duration;

use super::ledger::Ledger;
use super::nodes::Cluster;
use super::{alone, rounds};

/// What is written meanwhile.
pub(super) struct Load {
    pub(super) topic: &'static str,
    pub(super) writers: u32,
    /// Bytes that each record has beside what it says, so that logs and files fill sooner.
    pub(super) padding: usize,
}

/// Two writers of small records.
pub(super) fn light(topic: &'static str) -> Load {
    Load { topic, writers: 2, padding: 0 }
}

/// Does a fault to three nodes under load, in as many rounds as are asked for, or `short` ones. It is told which round it is.
pub(super) fn under_load(load: Load, short: u64, mut fault: impl FnMut(&mut Cluster, &Ledger, u64)) {
    let _alone = alone();
    let mut cluster = Cluster::start(3);
    let ledger = Ledger::begin_padded(&cluster, load.topic, load.writers, load.padding);
    for round in 0..rounds(short) {
        fault(&mut cluster, &ledger, round);
    }
    ledger.check(&cluster);
}

/// Kills nodes, starts them again after a while, and waits until the cluster is whole.
pub(super) fn kill_for(cluster: &mut Cluster, numbers: &[u64], time: Duration) {
    numbers.iter().for_each(|number| cluster.kill(*number));
    sleep(time);
    numbers.iter().for_each(|number| cluster.launch(*number));
    cluster.wait_whole();
}
