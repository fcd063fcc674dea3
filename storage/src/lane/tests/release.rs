//! Files that nobody needs any more: when they go, what becomes of their space, and what a start makes of the rest.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A lane of which each frame fills a file of its own: frame `n` is in file `n`.
fn filled(disk: &SimDisk, frames: u64) -> (Arc<Lane>, Vec<LanePos>) {
    let (lane, _) = open(disk).unwrap();
    let positions: Vec<_> = (1..=frames).map(|index| append_durably(&lane, vec![large(index)])[0]).collect();
    assert!(positions.iter().zip(1..).all(|(pos, number)| pos.file == number));
    (lane, positions)
}

fn large(index: u64) -> Frame {
    frame(index, 5000)
}

/// The numbers of the lane's files, as their names say.
fn numbers(disk: &SimDisk) -> Vec<u64> {
    let names = disk.list(Path::new(DIR)).unwrap();
    names.iter().filter_map(|name| crate::lane::format::file_number(name)).collect()
}

/// Releases, and waits until that is durable.
fn release_durably(lane: &Lane, disk: &SimDisk, first_needed: u64) {
    lane.release(first_needed);
    let tail = path(lane.usage().last_file);
    wait_until("the floor is durable", || {
        let header = disk.after_power_cut(|| false).edit(&tail, |bytes| bytes[..64].to_vec());
        header[40..48] == first_needed.to_le_bytes()
    });
}

/// Waits for what the lane's threads do by themselves.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it never came about that {what}");
}

#[test]
fn released_files_are_gone_for_readers_at_once_and_from_the_disk_soon() {
    let disk = SimDisk::new();
    let (lane, positions) = filled(&disk, 6);
    lane.release(4);
    assert!(matches!(lane.read(positions[2]), Err(LaneError::Released(pos)) if pos == positions[2]));
    assert!(matches!(lane.read_header(positions[0]), Err(LaneError::Released(_))));
    assert_eq!(lane.read(positions[3]).unwrap(), large(4).payload);
    assert_eq!(lane.usage(), LaneUsage { first_file: 4, last_file: 6, bytes: 3 * 8192 });
    // One is kept, or has become the next file already.
    wait_until("two of three files are removed", || numbers(&disk).iter().filter(|number| **number < 4).count() <= 1);
    drop(lane);

    let (lane, recovery) = open(&disk.after_power_cut(|| false)).unwrap();
    assert_recovered(&lane, &recovery, &[large(4), large(5), large(6)]);
    append_durably(&lane, vec![large(7)]);
}

#[test]
fn release_never_goes_back_and_never_takes_the_file_that_the_log_ends_in() {
    let disk = SimDisk::new();
    let (lane, positions) = filled(&disk, 4);
    lane.release(0);
    lane.release(3);
    lane.release(2);
    assert_eq!(lane.usage().first_file, 3);
    lane.release(u64::MAX);
    assert_eq!(lane.usage(), LaneUsage { first_file: 4, last_file: 4, bytes: 8192 });
    lane.read(positions[3]).unwrap();
    append_durably(&lane, vec![large(5)]);
    drop(lane);
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &[large(4), large(5)]);
}

#[test]
fn a_file_stays_for_as_long_as_somebody_reads_it() {
    let disk = SimDisk::new();
    let (lane, positions) = filled(&disk, 4);
    let (entered, inside) = mpsc::channel();
    let (gate, passed) = mpsc::channel::<()>();
    let (gate_of_reader, first) = (Mutex::new(passed), AtomicBool::new(true));
    disk.set_fault(move |op, at| {
        if op == Op::View && at == path(1) && first.swap(false, Ordering::SeqCst) {
            entered.send(()).unwrap();
            gate_of_reader.lock().recv().ok();
        }
        Ok(())
    });
    let reader = {
        let (lane, pos) = (lane.clone(), positions[0]);
        std::thread::spawn(move || lane.read(pos))
    };
    inside.recv().unwrap();
    for index in 5..10 {
        lane.release(index - 1);
        append_durably(&lane, vec![large(index)]);
    }
    assert!(lane.stats().recycled_files > 0, "other files are used again meanwhile");
    assert!(numbers(&disk).contains(&1));
    drop(gate);
    assert_eq!(reader.join().unwrap().unwrap(), large(1).payload);
    append_durably(&lane, vec![large(10)]);
    wait_until("the file goes, too", || !numbers(&disk).contains(&1));
}

#[test]
fn the_space_of_a_released_file_is_used_again_and_reads_as_zeroes() {
    let disk = SimDisk::new();
    let (lane, _) = filled(&disk, 3);
    for index in 4..20 {
        lane.release(index - 1);
        append_durably(&lane, vec![large(index)]);
    }
    let recycled = lane.stats().recycled_files;
    assert!(recycled >= 10, "only {recycled} files were made of released ones");
    lane.close();
    // All that is not the log reads as zeroes, else recovery would call it damage.
    let (lane, recovery) = open(&disk.after_kill()).unwrap();
    assert_recovered(&lane, &recovery, &[large(18), large(19)]);
    assert_eq!(recovery.torn_tail, None);
}

#[test]
fn a_file_system_that_cannot_zero_gets_new_files() {
    let disk = SimDisk::new();
    let (lane, _) = filled(&disk, 3);
    disk.set_fault(|op, _| if op == Op::Zero { Err(ErrorKind::Unsupported.into()) } else { Ok(()) });
    for index in 4..12 {
        lane.release(index - 1);
        append_durably(&lane, vec![large(index)]);
    }
    assert_eq!(lane.stats().recycled_files, 0);
    drop(lane);
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &[large(10), large(11)]);
}

#[test]
fn leftovers_below_the_floor_are_no_damage_whatever_is_in_them() {
    let disk = SimDisk::new();
    let (lane, _) = filled(&disk, 5);
    let with_all = disk.after_kill();
    release_durably(&lane, &disk, 4);
    lane.close();
    let left = disk.after_kill();
    for number in [1, 3] {
        let bytes = with_all.edit(&path(number), |bytes| bytes.clone());
        let file = left.open(&path(number), crate::OpenMode::CreateOrTruncate).unwrap();
        file.write_at(0, &bytes[..bytes.len() / 2]).unwrap();
        file.write_at(0, &[9; 600]).unwrap();
    }
    let (lane, recovery) = open(&left).unwrap();
    assert_recovered(&lane, &recovery, &[large(4), large(5)]);
    // One may be kept, to make the next file of.
    wait_until("leftovers are removed", || numbers(&left).iter().filter(|number| **number < 4).count() <= 1);
}

#[test]
fn a_file_from_the_floor_on_must_be_there() {
    let disk = SimDisk::new();
    let (lane, _) = filled(&disk, 6);
    release_durably(&lane, &disk, 3);
    lane.close();
    for number in 3..6 {
        let hurt = disk.after_kill();
        hurt.remove(&path(number)).unwrap();
        assert_eq!(corrupt_at(open(&hurt).unwrap_err()), (path(number), 0), "file {number} is missing");
    }
}

#[test]
fn the_first_group_of_the_first_file_is_never_a_torn_tail() {
    let disk = SimDisk::new();
    let (lane, _) = filled(&disk, 3);
    release_durably(&lane, &disk, 3);
    // Nothing follows the group of file 3, so in the middle of a log each of these would be a torn tail.
    for zeroed in [512..8192, 512..1024, 2048..2560, 5000..8192] {
        let hurt = disk.after_kill();
        hurt.edit(&path(3), |bytes| bytes[zeroed.clone()].fill(0));
        let (file, offset) = corrupt_at(open(&hurt).unwrap_err());
        assert!(file == path(3) && offset <= 584, "bytes {zeroed:?}: {offset}");
    }
}

#[test]
fn a_floor_that_a_failed_sync_left_in_memory_is_not_believed() {
    let disk = SimDisk::new();
    let (lane, _) = filled(&disk, 3);
    disk.fail_next(Op::Sync, &file_name(3), ErrorKind::Other);
    lane.release(3);
    wait_until("the lane is dead", || lane.append(vec![], Box::new(|_| {})).is_err());
    drop(lane);
    assert_eq!(numbers(&disk)[..3], [1, 2, 3], "L4: nothing goes by a floor that may not be durable");
    // The process starts again with what is in memory, gives files up by it, and then the power fails.
    let disk = disk.after_kill();
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &[large(3)]);
    wait_until("files are given up", || numbers(&disk).iter().filter(|number| **number < 3).count() < 2);
    let (lane, recovery) = open(&disk.after_power_cut(|| false)).unwrap();
    assert_recovered(&lane, &recovery, &[large(3)]);
}

#[test]
fn a_quiet_lane_on_a_full_device_gives_files_back() {
    let disk = SimDisk::new();
    let (lane, _) = filled(&disk, 5);
    wait_until("the next file is there", || lane.room_bytes() > 8192);
    disk.set_capacity(0);
    let used = disk.used_bytes();
    lane.release(5);
    wait_until("files are given back", || disk.used_bytes() <= used - 3 * 8192);
}

#[test]
fn a_release_makes_room_for_the_frames_that_wait_for_it() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    append_durably(&lane, vec![large(1)]);
    append_durably(&lane, vec![large(2)]);
    wait_until("the next file is there", || lane.room_bytes() > 8192);
    disk.set_capacity(disk.used_bytes());
    append_durably(&lane, vec![large(3)]);
    let (_, done) = append(&lane, vec![large(4)]);
    assert!(done.recv_timeout(Duration::from_millis(50)).is_err(), "there is no room for it");
    lane.release(3);
    done.recv().unwrap().unwrap();
    assert_eq!(lane.stats().recycled_files, 1);
}

#[test]
fn a_lane_of_version_1_gets_a_floor_when_files_are_released() {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let file = disk.open(&path(1), crate::OpenMode::CreateNew).unwrap();
    file.write_at(0, include_bytes!("../../../tests/fixtures/lane-v1.log")).unwrap();
    let (lane, _) = open(&disk).unwrap();
    lane.release(1);
    append_durably(&lane, vec![large(4)]);
    append_durably(&lane, vec![large(5)]);
    release_durably(&lane, &disk, 3);
    drop(lane);
    let (lane, recovery) = open(&disk.after_power_cut(|| false)).unwrap();
    assert_recovered(&lane, &recovery, &[large(5)]);
}
