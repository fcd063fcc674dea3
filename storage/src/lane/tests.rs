//! What tests of the lane share, and the cases of appending and reading.

mod append;
mod crash;
mod damage;
mod descriptors;
mod faults;
mod recovery;
mod release;
mod rotate;
mod salvage;
mod space;
mod stepped;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use stratalog_proto::{RaftIndex, ReplicaId, ShardId, Term};

use super::format::file_name;
use super::*;
use crate::io::sim::{Op, SimDisk};

const DIR: &str = "/lane";

/// Small files, and no mark unless the lane is closed.
fn options() -> LaneOptions {
    LaneOptions { file_bytes: 8192, group_bytes: 4096, mark_after: Duration::from_secs(3600), ..LaneOptions::default() }
}

fn open(disk: &SimDisk) -> Result<(Arc<Lane>, Recovery), LaneError> {
    Lane::open(Arc::new(disk.clone()), Path::new(DIR), options())
}

fn path(number: u64) -> PathBuf {
    Path::new(DIR).join(file_name(number))
}

/// A frame whose payload has no byte that is zero, and is different for each index.
fn frame(index: u64, bytes: usize) -> Frame {
    let payload: Vec<u8> = (0..bytes as u64).map(|n| ((index * 131 + n * 7) % 255) as u8 + 1).collect();
    Frame {
        shard: ShardId(index as u32 % 3),
        term: Term(2),
        replica: ReplicaId(5),
        index: RaftIndex(index),
        kind: FrameKind::Normal,
        payload: payload.into(),
    }
}

/// Appends and hands out the result as a channel.
fn append(lane: &Lane, frames: Vec<Frame>) -> (Vec<LanePos>, Receiver<Result<(), LaneError>>) {
    let (sender, receiver) = mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap_or(()));
    (lane.append(frames, done).unwrap(), receiver)
}

/// Appends and waits until it is durable: one group each.
fn append_durably(lane: &Lane, frames: Vec<Frame>) -> Vec<LanePos> {
    let (positions, done) = append(lane, frames);
    done.recv().unwrap().unwrap();
    positions
}

/// Asserts that exactly these frames were recovered, in this order, and that they read back.
fn assert_recovered(lane: &Lane, recovery: &Recovery, expected: &[Frame]) {
    let found: Vec<_> = recovery.frames.iter().map(|found| (found.shard, found.index, found.kind)).collect();
    let wanted: Vec<_> = expected.iter().map(|frame| (frame.shard, frame.index, frame.kind)).collect();
    assert_eq!(found, wanted);
    for (found, frame) in recovery.frames.iter().zip(expected) {
        assert_eq!(lane.read(found.pos).unwrap(), frame.payload);
        assert_eq!(lane.read_header(found.pos).unwrap(), *found);
    }
}

/// Where an error says the damage is.
fn corrupt_at(error: LaneError) -> (PathBuf, u64) {
    match error {
        LaneError::Corrupt { path, offset, .. } => (path, offset),
        other => panic!("not a Corrupt error: {other}"),
    }
}
