//! Files of a lane, as they lie on a disk.

use std::ops::ControlFlow;
use std::path::Path;

use stratalog_mutation::Decoder;

use super::disk_with;
use crate::lane::resealed::reseal;
use crate::lane::walk::{LaneEvent, walk};
use crate::simulation::SteppedLane;
use crate::{Io, LaneOptions};

/// The number of a lane's only file (u8), and the file. It is tried as it is, and under checksums that are right for it.
pub const LANE: Decoder = Decoder { name: "lane", samples: files, run: read_both, words: &[], memory_bytes: 8 << 20 };

const DIR: &str = "/lane";

fn files() -> Vec<Vec<u8>> {
    let first = [&[1], &include_bytes!("../../tests/fixtures/lane-v1.log")[..]].concat();
    let second = [&[2], &include_bytes!("../../tests/fixtures/lane-v2.log")[..]].concat();
    vec![first, second]
}

fn read_both(bytes: &[u8]) -> bool {
    let Some((number, file)) = bytes.split_first() else { return false };
    let mut file = file.to_vec();
    let opens = read_lane(*number, &file);
    reseal(&mut file);
    read_lane(*number, &file) && opens
}

/// Whether a node would start with it.
fn read_lane(number: u8, file: &[u8]) -> bool {
    let path = Path::new(DIR).join(format!("{number:020}.log"));
    let io = disk_with(&path, file);
    let whole = walked(&*io);
    let options = LaneOptions { file_bytes: 8192, group_bytes: 4096, ..LaneOptions::default() };
    let Ok((lane, recovery)) = SteppedLane::open(io, Path::new(DIR), options) else { return false };
    for frame in &recovery.frames {
        assert_eq!(lane.lane().read_header(frame.pos).as_ref().ok(), Some(frame), "L1: what was recovered can be read");
        assert_eq!(lane.lane().read(frame.pos).map(|payload| payload.len()).ok(), Some(frame.pos.len as usize));
    }
    assert!(whole >= recovery.frames.len(), "an inspection finds what a start finds");
    true
}

/// How many whole frames an inspection finds.
fn walked(io: &dyn Io) -> usize {
    let mut whole = 0;
    let mut tell = |event: LaneEvent<'_>| {
        if let LaneEvent::Frame(frame) = event {
            whole += usize::from(frame.payload().is_ok());
        }
        ControlFlow::Continue(())
    };
    walk(io, Path::new(DIR), &mut tell).expect("the directory is there");
    whole
}
