//! The short form of `fuzz/`.

use stratalog_mutation::Meter;

use super::*;

#[global_allocator]
static METER: Meter = Meter;

#[test]
fn x1_replay_segments_that_lie() {
    REC.check();
}

#[test]
fn x1_column_segments_that_lie() {
    COL.check();
}

#[test]
fn x1_lanes_that_lie() {
    LANE.check();
}

#[test]
fn x1_votes_and_states_that_lie() {
    VOTE.check();
    STATE_FILE.check();
}

#[test]
fn x1_manifests_that_lie() {
    MANIFEST.check();
    SHARD_STATE.check();
    ERASED.check();
}
