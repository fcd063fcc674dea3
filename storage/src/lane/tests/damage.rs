//! Sectors that hold what belongs elsewhere, or what was there before: a write that went astray, two blocks that changed
//! places, a block that the medium serves from an older time. None of it may shorten what is known to be durable.

use super::*;
use crate::lane::format::SECTOR;

const SECTOR_BYTES: usize = SECTOR as usize;

/// A lane that starts with file 3, of which files 3 to 5 hold groups of one and of several frames, and 6 is prepared. It
/// was closed in order: a mark lies at its end.
pub(super) fn closed_lane() -> (SimDisk, Vec<Frame>) {
    let disk = SimDisk::new();
    let (mut lane, _) = SteppedLane::open(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap();
    let mut frames = Vec::new();
    for file in 1..=5 {
        let sizes: &[&[usize]] = if file < 5 { &[&[700], &[40, 300, 900], &[3800]] } else { &[&[700], &[40, 1500]] };
        for sizes in sizes {
            let group: Vec<_> =
                sizes.iter().zip(frames.len() as u64 + 1..).map(|(bytes, index)| frame(index, *bytes)).collect();
            frames.extend(group.clone());
            let positions = lane.lane().append(group, Box::new(|result| result.unwrap())).unwrap();
            assert!(lane.flush() && positions.iter().all(|pos| pos.file == file));
        }
        lane.lane().release(3);
        assert!(lane.make_spare());
    }
    assert!(lane.flush() || lane.mark());
    while lane.flush() || lane.mark() {}
    assert!(lane.make_spare());
    (disk.after_kill(), frames.split_off(10))
}

/// All sectors of the files that are needed.
fn sectors() -> impl Iterator<Item = (u64, usize)> + Clone {
    (3..=6).flat_map(|file| (0..8192 / SECTOR_BYTES).map(move |n| (file, n)))
}

fn read_sector(disk: &SimDisk, (file, n): (u64, usize)) -> Vec<u8> {
    disk.edit(&path(file), |bytes| bytes[n * SECTOR_BYTES..][..SECTOR_BYTES].to_vec())
}

fn write_sector(disk: &SimDisk, (file, n): (u64, usize), sector: &[u8]) {
    disk.edit(&path(file), |bytes| bytes[n * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(sector));
}

/// Opens a damaged lane: either that is an error and nothing was changed, or all frames are there. Returns whether it
/// was an error.
fn is_noticed(disk: &SimDisk, frames: &[Frame], what: &dyn Fn() -> String) -> bool {
    let before: Vec<_> = (3..=6).map(|file| disk.edit(&path(file), |bytes| bytes.clone())).collect();
    match SteppedLane::open(Arc::new(disk.clone()), Path::new(DIR), options()) {
        Ok((lane, recovery)) => {
            assert_eq!(recovery.frames.len(), frames.len(), "L5: frames are gone after {}", what());
            assert_recovered(lane.lane(), &recovery, frames);
            false
        }
        Err(error) => {
            corrupt_at(error);
            let after: Vec<_> = (3..=6).map(|file| disk.edit(&path(file), |bytes| bytes.clone())).collect();
            assert!(before == after, "L5: something was changed after {}", what());
            true
        }
    }
}

#[test]
fn a_lane_from_its_third_file_on_is_read_back() {
    let (disk, frames) = closed_lane();
    assert_eq!(frames.first().unwrap().index, RaftIndex(11));
    assert!(!is_noticed(&disk, &frames, &|| "nothing".to_owned()));
    assert!(!is_noticed(&disk.after_power_cut(|| false), &frames, &|| "a power cut".to_owned()));
}

#[test]
fn a_sector_that_holds_another_one_is_an_error_or_takes_nothing_away() {
    let (disk, frames) = closed_lane();
    let mut noticed = 0;
    for target in sectors() {
        let whole = read_sector(&disk, target);
        for source in sectors() {
            let stray = read_sector(&disk, source);
            if stray != whole {
                let hurt = disk.after_kill();
                write_sector(&hurt, target, &stray);
                noticed += u32::from(is_noticed(&hurt, &frames, &|| format!("{source:?} lay in {target:?}")));
            }
        }
    }
    assert!(noticed > 1500, "only {noticed} were noticed");
}

#[test]
fn two_sectors_that_changed_places_are_an_error() {
    let (disk, frames) = closed_lane();
    for one in sectors() {
        for other in sectors().filter(|other| one < *other) {
            let (a, b) = (read_sector(&disk, one), read_sector(&disk, other));
            let used = |sector: &[u8]| sector.iter().any(|byte| *byte != 0);
            if a != b && used(&a) && used(&b) {
                let hurt = disk.after_kill();
                write_sector(&hurt, one, &b);
                write_sector(&hurt, other, &a);
                assert!(is_noticed(&hurt, &frames, &|| String::new()), "{one:?} and {other:?} changed places");
            }
        }
    }
}

#[test]
fn a_sector_of_an_older_time_is_an_error_or_takes_nothing_away() {
    let (disk, frames) = closed_lane();
    // What a recycled file held before: the same places in files 1 and 2, made in the same way, of the same lane.
    let old = SimDisk::new();
    let (mut lane, _) = SteppedLane::open(Arc::new(old.clone()), Path::new(DIR), options()).unwrap();
    for index in 1..=12 {
        lane.lane().append(vec![frame(index, 1000)], Box::new(|result| result.unwrap())).unwrap();
        lane.flush();
    }
    let mut noticed = 0;
    for target in sectors() {
        for file in [1, 2] {
            let hurt = disk.after_kill();
            write_sector(&hurt, target, &read_sector(&old, (file, target.1)));
            let what = || format!("{target:?} was what it was in file {file}");
            noticed += u32::from(is_noticed(&hurt, &frames, &what));
        }
    }
    assert!(noticed > 70, "only {noticed} were noticed");
}

#[test]
fn every_flipped_byte_of_a_header_with_a_floor_is_an_error() {
    let (disk, frames) = closed_lane();
    for file in 3..=6 {
        for at in 0..64 {
            let hurt = disk.after_kill();
            hurt.edit(&path(file), |bytes| bytes[at] ^= 0x21);
            assert!(is_noticed(&hurt, &frames, &String::new), "byte {at} of file {file}");
        }
    }
}
