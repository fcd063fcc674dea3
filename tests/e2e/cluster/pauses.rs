//! Nodes whose process stands still for a while, and then goes on as if nothing had been.

use std::time::Duration;

use super::trial::{light, under_load};

#[test]
fn l1_a_leader_that_stands_still_and_wakes_up_changes_nothing() {
    under_load(light("pauses"), 2, |cluster, ledger, round| {
        ledger.wait_for(cluster, 300);
        let leader = cluster.leader_of(1 + (round % 4) as u32);
        // From shorter than an election to longer than everybody's patience.
        cluster.pause(leader, Duration::from_secs([4, 1, 12, 30][(round % 4) as usize]));
        ledger.wait_for(cluster, 300);
        cluster.wait_whole();
    });
}
