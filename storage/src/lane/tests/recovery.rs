//! Damage of every kind at every kind of place. Flips and holes in what is known to be durable are errors; what a crash
//! leaves at the end is discarded; nothing shrinks silently.

use super::*;
use crate::lane::format::{FILE_HEADER_BYTES, GROUP_HEADER_BYTES, SECTOR};

/// A lane of four groups, the third with three frames, killed before any mark: its disk, frames and positions.
fn killed_lane() -> (SimDisk, Vec<Frame>, Vec<LanePos>) {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    let frames: Vec<_> = (1..=6).map(|index| frame(index, 300)).collect();
    let groups = [&frames[..1], &frames[1..2], &frames[2..5], &frames[5..]];
    let positions = groups.iter().flat_map(|group| append_durably(&lane, group.to_vec())).collect();
    (disk.after_kill(), frames, positions)
}

/// The same, closed in order: a mark lies behind the last group.
fn closed_lane() -> (SimDisk, Vec<Frame>, Vec<LanePos>) {
    let (disk, frames, positions) = killed_lane();
    open(&disk).unwrap().0.close();
    (disk.after_kill(), frames, positions)
}

/// Where the group that starts with the frame at `pos` starts.
fn group_start(pos: LanePos) -> usize {
    pos.offset as usize - GROUP_HEADER_BYTES
}

/// The end of what is not zero.
fn used(disk: &SimDisk) -> usize {
    disk.edit(&path(1), |bytes| bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1)
}

#[test]
fn an_empty_lane_recovers_to_nothing() {
    let disk = SimDisk::new();
    open(&disk).unwrap().0.close();
    for _ in 0..2 {
        let (lane, recovery) = open(&disk).unwrap();
        assert_recovered(&lane, &recovery, &[]);
        assert_eq!(recovery.torn_tail, None);
    }
}

#[test]
fn restarts_alone_do_not_make_the_log_longer() {
    let (disk, frames, _) = closed_lane();
    let before = used(&disk);
    for _ in 0..3 {
        let (lane, recovery) = open(&disk).unwrap();
        assert_recovered(&lane, &recovery, &frames);
        assert_eq!(recovery.torn_tail, None);
    }
    assert_eq!(used(&disk), before);
}

#[test]
fn every_flipped_byte_of_a_closed_lane_is_an_error_or_harmless() {
    let (disk, frames, _) = closed_lane();
    let mut harmless = 0;
    for at in 0..used(&disk) {
        let hurt = disk.after_kill();
        hurt.edit(&path(1), |bytes| bytes[at] ^= 0x10);
        let before = hurt.edit(&path(1), |bytes| bytes.clone());
        match open(&hurt) {
            Ok((lane, recovery)) => {
                assert_recovered(&lane, &recovery, &frames);
                assert_eq!(recovery.torn_tail, None, "byte {at}");
                harmless += 1;
            }
            Err(error) => {
                let (file, offset) = corrupt_at(error);
                let near = (at as u64).saturating_sub(48 + 304)..=at as u64;
                assert!(file == path(1) && near.contains(&offset), "byte {at} was hurt, the error names {offset}");
                assert_eq!(hurt.edit(&path(1), |bytes| bytes.clone()), before, "L5: nothing is changed");
            }
        }
    }
    // Padding and end marks have no checksum, and nothing else is without.
    let covered = FILE_HEADER_BYTES + 5 * GROUP_HEADER_BYTES + frames.len() * (48 + 300);
    assert_eq!(harmless, used(&disk) - covered);
}

#[test]
fn every_flipped_byte_of_the_last_unmarked_group_is_an_error_too() {
    let (disk, frames, positions) = killed_lane();
    let last = *positions.last().unwrap();
    for at in group_start(last)..last.offset as usize + 48 + last.len as usize {
        let hurt = disk.after_kill();
        hurt.edit(&path(1), |bytes| bytes[at] ^= 0x10);
        let error = open(&hurt).unwrap_err();
        let expected = if at < last.offset as usize { group_start(last) as u64 } else { last.offset };
        assert_eq!(corrupt_at(error), (path(1), expected), "byte {at}");
    }
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &frames);
}

#[test]
fn a_bad_frame_before_whole_ones_of_its_group_is_an_error() {
    let (disk, _, positions) = killed_lane();
    // The last group so far is the one of three frames.
    let third = positions[2];
    disk.edit(&path(1), |bytes| {
        bytes[group_start(positions[5])..].fill(0);
        bytes[third.offset as usize + 60] ^= 1;
    });
    assert_eq!(corrupt_at(open(&disk).unwrap_err()), (path(1), third.offset));
}

#[test]
fn damage_before_a_later_group_is_never_truncated() {
    let (disk, _, positions) = closed_lane();
    let second = group_start(positions[1]);
    let third = group_start(positions[2]);
    for (what, range) in [
        ("zeroed sector of a header", second..second + 512),
        ("zeroed group", second..third),
        ("zeroed payload", second + 200..second + 300),
        ("zeroed groups up to the mark", second..used(&disk) - 512),
    ] {
        let hurt = disk.after_kill();
        hurt.edit(&path(1), |bytes| bytes[range.clone()].fill(0));
        let before = hurt.edit(&path(1), |bytes| bytes.clone());
        let (file, offset) = corrupt_at(open(&hurt).unwrap_err());
        assert_eq!(file, path(1), "{what}");
        assert!((second as u64..third as u64).contains(&offset), "{what}: {offset}");
        assert_eq!(hurt.edit(&path(1), |bytes| bytes.clone()), before, "{what}: nothing is changed");
    }
}

#[test]
fn a_write_that_ended_early_is_discarded_at_every_length() {
    let (disk, frames, positions) = killed_lane();
    let start = group_start(*positions.last().unwrap());
    let full = used(&disk);
    for kept in start + 1..full {
        let torn = disk.after_kill();
        torn.edit(&path(1), |bytes| bytes[kept..].fill(0));
        let (lane, recovery) = open(&torn).unwrap();
        let whole = kept >= start + GROUP_HEADER_BYTES + 48 + 300;
        assert_recovered(&lane, &recovery, if whole { &frames } else { &frames[..5] });
        assert_eq!(recovery.torn_tail.is_some(), !whole, "{kept}");
        if let Some(tail) = recovery.torn_tail {
            assert_eq!((tail.file, tail.offset), (1, start as u64));
            assert!((1..=(kept - start) as u64).contains(&tail.bytes));
        }
    }
}

#[test]
fn a_write_that_lacks_sectors_is_discarded_whole() {
    let (disk, frames, positions) = killed_lane();
    disk.edit(&path(1), |bytes| bytes[group_start(positions[5])..].fill(0));
    let start = group_start(positions[2]);
    let sectors = (used(&disk) - start) / 512;
    assert_eq!(sectors, 3);
    for lost in 1u32..1 << sectors {
        let torn = disk.after_kill();
        torn.edit(&path(1), |bytes| {
            for sector in (0..sectors).filter(|n| lost & (1 << n) != 0) {
                bytes[start + sector * 512..][..512].fill(0);
            }
        });
        let (lane, recovery) = open(&torn).unwrap();
        assert_recovered(&lane, &recovery, &frames[..2]);
        assert_eq!(recovery.torn_tail.is_some(), lost != 7, "sectors {lost:b}");
        // What is appended next lies where the torn group lay, and no byte of that comes back.
        append_durably(&lane, vec![frame(9, 20)]);
        let (lane, recovery) = open(&torn.after_kill()).unwrap();
        assert_recovered(&lane, &recovery, &[&frames[..2], &[frame(9, 20)]].concat());
        assert_eq!(recovery.torn_tail, None);
    }
}

#[test]
fn stale_bytes_of_a_torn_tail_are_gone_even_if_discarding_is_cut_short() {
    let (disk, frames, _) = killed_lane();
    let (lane, _) = open(&disk).unwrap();
    let start = group_start(append_durably(&lane, (7..17).map(|index| frame(index, 300)).collect())[0]);
    let disk = disk.after_kill();
    disk.edit(&path(1), |bytes| bytes[start + 1024..start + 1536].fill(0));
    disk.open(&path(1), crate::OpenMode::Write).unwrap().sync_data().unwrap();
    // The first open fails while it discards, and any of its zeroes may have reached the medium.
    let log = path(1);
    disk.set_fault(
        move |op, at| {
            if op == Op::Sync && at == log { Err(std::io::ErrorKind::Other.into()) } else { Ok(()) }
        },
    );
    open(&disk).unwrap_err();
    for reached in 0u32..128 {
        let mut sector = 0;
        let left = disk.after_power_cut(|| {
            sector += 1;
            reached & (1 << (sector - 1)) != 0
        });
        let (lane, recovery) = open(&left).unwrap();
        assert_recovered(&lane, &recovery, &frames);
        append_durably(&lane, vec![frame(20, 20)]);
        let (lane, recovery) = open(&left.after_kill()).unwrap();
        assert_recovered(&lane, &recovery, &[&frames[..], &[frame(20, 20)]].concat());
        assert_eq!(recovery.torn_tail, None);
    }
}

#[test]
fn l1_that_the_end_was_discarded_is_told_until_somebody_ends_the_doubt() {
    let (disk, frames, positions) = killed_lane();
    assert!(open(&disk.after_kill()).unwrap().1.doubt.is_none());
    disk.edit(&path(1), |bytes| bytes[group_start(positions[5]) + 100..].fill(0));
    for _ in 0..3 {
        let (lane, recovery) = open(&disk).unwrap();
        assert_recovered(&lane, &recovery, &frames[..5]);
        assert!(recovery.doubt.is_some());
        drop(lane);
    }
    // Whatever of discarding a power cut leaves, the doubt is there before anything of the end is gone.
    let (_, recovery) = open(&disk.after_power_cut(|| false)).unwrap();
    recovery.doubt.unwrap().end().unwrap();
    let disk = disk.after_kill();
    open(&disk).unwrap().1.doubt.unwrap().end().unwrap();
    assert!(open(&disk.after_power_cut(|| false)).unwrap().1.doubt.is_none());
}

#[test]
fn a_group_copied_to_another_place_is_not_taken() {
    let (disk, _, positions) = killed_lane();
    let (from, to) = (group_start(positions[0]), used(&disk));
    let len = group_start(positions[1]) - from;
    disk.edit(&path(1), |bytes| bytes.copy_within(from..from + len, to));
    assert_eq!(corrupt_at(open(&disk).unwrap_err()), (path(1), to as u64));
}

#[test]
fn bytes_of_another_lane_are_not_taken() {
    let (one, _, positions) = killed_lane();
    let (other, _, _) = killed_lane();
    // The same groups at the same places, but for the lane's number.
    let last = group_start(positions[5]);
    let stale = other.edit(&path(1), |bytes| bytes[last..].to_vec());
    one.edit(&path(1), |bytes| bytes[last..].copy_from_slice(&stale));
    assert_eq!(corrupt_at(open(&one).unwrap_err()), (path(1), last as u64));
}

#[test]
fn a_prepared_file_without_groups_is_the_next_file() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    // More than half of the file: the next one is made.
    append_durably(&lane, vec![frame(1, 5000)]);
    while !disk.exists(&path(2)).unwrap() {
        std::thread::yield_now();
    }
    lane.close();
    let mut frames = vec![frame(1, 5000)];
    for index in 2..5 {
        let disk = disk.after_kill();
        let (lane, recovery) = open(&disk).unwrap();
        assert_recovered(&lane, &recovery, &frames[..1]);
        assert!(lane.room_bytes() > 8192, "the prepared file is kept");
        assert_eq!(append_durably(&lane, vec![frame(index, 5000)])[0].file, 2);
    }
    let (lane, _) = open(&disk).unwrap();
    frames.push(frame(2, 5000));
    append_durably(&lane, vec![frames[1].clone()]);
    drop(lane);
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &frames);
}

#[test]
fn a_torn_first_group_of_the_next_file_is_discarded() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    append_durably(&lane, vec![frame(1, 5000)]);
    append_durably(&lane, vec![frame(2, 5000)]);
    let disk = disk.after_kill();
    disk.edit(&path(2), |bytes| bytes[2000..].fill(0));
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &[frame(1, 5000)]);
    assert_eq!(recovery.torn_tail.map(|tail| (tail.file, tail.offset)), Some((2, SECTOR)));
    // A small frame still fits the first file, a large one goes to the second.
    assert_eq!(append_durably(&lane, vec![frame(2, 100)])[0].file, 1);
    assert_eq!(append_durably(&lane, vec![frame(3, 5000)])[0].file, 2);
    drop(lane);
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &[frame(1, 5000), frame(2, 100), frame(3, 5000)]);
}

#[test]
fn an_unfinished_file_of_a_crash_is_removed() {
    let (disk, frames, _) = closed_lane();
    disk.open(&Path::new(DIR).join("00000000000000000002.log.tmp"), crate::OpenMode::CreateNew).unwrap();
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &frames);
    assert!(!disk.exists(&Path::new(DIR).join("00000000000000000002.log.tmp")).unwrap());
}

#[test]
fn missing_shortened_and_foreign_files_are_errors() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    (1..=4).for_each(|index| drop(append_durably(&lane, vec![frame(index, 5000)])));
    lane.close();
    let disk = disk.after_kill();

    for number in 1..=3 {
        let hurt = disk.after_kill();
        hurt.remove(&path(number)).unwrap();
        assert_eq!(corrupt_at(open(&hurt).unwrap_err()), (path(number), 0), "file {number} is missing");
    }
    for (len, offset) in [(0, 0), (100, 100), (7680, 7680), (9000, 8192)] {
        let hurt = disk.after_kill();
        hurt.edit(&path(2), |bytes| bytes.resize(len, 0));
        assert_eq!(corrupt_at(open(&hurt).unwrap_err()), (path(2), offset), "file 2 has {len} bytes");
    }
    let hurt = disk.after_kill();
    let third = hurt.edit(&path(3), |bytes| bytes.clone());
    hurt.edit(&path(2), |bytes| *bytes = third);
    assert_eq!(corrupt_at(open(&hurt).unwrap_err()), (path(2), 0), "file 2 is a copy of file 3");

    // All groups of a file in the middle are gone: the next file proves that they were there.
    let hurt = disk.after_kill();
    hurt.edit(&path(2), |bytes| bytes[512..].fill(0));
    let (file, _) = corrupt_at(open(&hurt).unwrap_err());
    assert_eq!(file, path(1), "the log breaks off at the end of file 1");
}

#[test]
fn a_newer_file_version_is_said_to_be_one() {
    let (disk, _, _) = closed_lane();
    disk.edit(&path(1), |bytes| {
        bytes[8] = 3;
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(matches!(open(&disk), Err(LaneError::NewerVersion { version: 3, .. })));
}

#[test]
fn garbage_behind_the_end_is_an_error() {
    let (disk, _, _) = closed_lane();
    let end = used(&disk);
    disk.edit(&path(1), |bytes| bytes[end + 700..end + 900].fill(7));
    // Not what a write leaves: its first sector is missing, but nothing of a group lies behind.
    let (lane, recovery) = open(&disk).unwrap();
    assert_eq!(recovery.torn_tail.map(|tail| tail.offset), Some(end as u64));
    drop(lane);
    disk.edit(&path(1), |bytes| bytes[end..end + 900].fill(7));
    assert_eq!(corrupt_at(open(&disk).unwrap_err()), (path(1), end as u64));
}

#[test]
fn a_file_of_version_1_is_read_for_ever() {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let file = disk.open(&path(1), crate::OpenMode::CreateNew).unwrap();
    file.write_at(0, include_bytes!("../../../tests/fixtures/lane-v1.log")).unwrap();
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &[frame(1, 0), frame(2, 10), frame(3, 2500)]);
    assert_eq!(recovery.frames[2].pos, LanePos { file: 1, offset: 1096, len: 2500 });
    append_durably(&lane, vec![frame(4, 10)]);
}

/// What the fixture of version 2 holds: the second file of a lane whose first one was released, and a mark.
fn second_file_of_version_2() -> (SimDisk, Vec<Frame>) {
    let disk = SimDisk::new();
    let options = LaneOptions { file_bytes: 5632, ..options() };
    let (mut lane, _) = SteppedLane::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    let frames = [frame(1, 4000), frame(2, 0), frame(3, 10), frame(4, 2500)];
    for group in [&frames[..1], &frames[1..3], &frames[3..]] {
        lane.lane().append(group.to_vec(), Box::new(|result| result.unwrap())).unwrap();
        assert!(lane.flush());
    }
    lane.lane().release(2);
    assert!(lane.mark() && !lane.flush(), "the mark's sync made the floor durable, too");
    (disk, frames[1..].to_vec())
}

#[test]
fn a_file_of_version_2_is_read_for_ever() {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let file = disk.open(&path(2), crate::OpenMode::CreateNew).unwrap();
    let fixture = include_bytes!("../../../tests/fixtures/lane-v2.log");
    file.write_at(0, fixture).unwrap();
    let (lane, recovery) = open(&disk).unwrap();
    let (made_now, frames) = second_file_of_version_2();
    assert_recovered(&lane, &recovery, &frames);
    assert_eq!(recovery.frames[2].pos, LanePos { file: 2, offset: 1096, len: 2500 });
    append_durably(&lane, vec![frame(5, 10)]);
    assert!(made_now.edit(&path(2), |bytes| bytes == fixture), "the same bytes are written today");
}
