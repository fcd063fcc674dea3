//! The checks of the storage crate catch the bugs that can be planted in it: each passes without the bug, and fails with it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stratalog_proto::{RaftIndex, ReplicaId, ShardId, Term};
use stratalog_storage::sabotage::{Bug, plant};
use stratalog_storage::simulation::{SimDisk, SteppedLane};
use stratalog_storage::{Frame, FrameKind, LaneOptions, Votes};

const DIR: &str = "/lane";
const FRAMES: u64 = 5;

/// A bug is planted in the whole process: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Planted {
    _turn: MutexGuard<'static, ()>,
}

impl Planted {
    fn new(bug: Option<Bug>) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        plant(bug);
        Self { _turn: turn }
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        plant(None);
    }
}

/// Asserts that a check holds, and no longer does with the bug in place.
fn is_caught(bug: Bug, check: impl Fn() -> Result<(), String>) {
    let honest = Planted::new(None);
    check().unwrap();
    drop(honest);
    let _planted = Planted::new(Some(bug));
    check().expect_err("the bug is not caught");
}

fn open(disk: &SimDisk) -> Result<(SteppedLane, u64), String> {
    let options = LaneOptions { file_bytes: 1 << 16, ..LaneOptions::default() };
    let opened = SteppedLane::open(Arc::new(disk.clone()), Path::new(DIR), options);
    opened.map(|(lane, recovery)| (lane, recovery.frames.len() as u64)).map_err(|error| error.to_string())
}

/// A lane of some groups, each acknowledged.
fn acknowledged_groups(disk: &SimDisk) -> Result<(), String> {
    let (mut lane, _) = open(disk)?;
    for index in 1..=FRAMES {
        let frame = Frame {
            shard: ShardId(1),
            term: Term(1),
            replica: ReplicaId(1),
            index: RaftIndex(index),
            kind: FrameKind::Normal,
            payload: vec![index as u8; 900].into(),
        };
        lane.lane().append(vec![frame], Box::new(|result| result.unwrap())).map_err(|error| error.to_string())?;
        lane.flush();
    }
    Ok(())
}

fn l1_acknowledged_frames_survive_a_power_cut() -> Result<(), String> {
    let disk = SimDisk::new();
    acknowledged_groups(&disk)?;
    match open(&disk.after_power_cut(|| false))?.1 {
        FRAMES => Ok(()),
        found => Err(format!("L1: {found} of {FRAMES} acknowledged frames are there")),
    }
}

fn l5_damage_is_never_truncated_away() -> Result<(), String> {
    let disk = SimDisk::new();
    acknowledged_groups(&disk)?;
    let path = disk.paths().into_iter().find(|path| path.extension().is_some_and(|name| name == "log"));
    disk.edit(&path.ok_or("there is no log")?, |bytes| bytes[2500] ^= 1);
    match open(&disk) {
        Err(told) if told.contains("damaged") => Ok(()),
        Err(other) => Err(other),
        Ok((_, found)) => Err(format!("L5: the lane was opened with {found} of {FRAMES} acknowledged frames")),
    }
}

fn a_vote_survives_a_power_cut() -> Result<(), String> {
    let disk = SimDisk::new();
    let votes = |disk: &SimDisk| Votes::open(Arc::new(disk.clone()), Path::new("/votes")).map_err(|e| e.to_string());
    votes(&disk)?.save(ShardId(1), b"term 5, for replica 3").map_err(|error| error.to_string())?;
    let found = votes(&disk.after_power_cut(|| false))?.load(ShardId(1)).map_err(|error| error.to_string())?;
    if found.as_deref() == Some(b"term 5, for replica 3") { Ok(()) } else { Err(format!("the vote is {found:?}")) }
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    is_caught(Bug::AckBeforeFsync, l1_acknowledged_frames_survive_a_power_cut);
}

#[test]
fn a_truncation_at_a_bad_checksum_is_caught() {
    is_caught(Bug::TruncateOnBadChecksum, l5_damage_is_never_truncated_away);
}

#[test]
fn a_vote_that_is_not_kept_is_caught() {
    is_caught(Bug::VoteNotPersisted, a_vote_survives_a_power_cut);
}
