//! What the lane does with the space of its device, and what it tells about its work.

use super::*;
use crate::{RealDisk, Space};

#[test]
fn the_log_leaves_the_reserve_of_a_device_free() {
    let disk = SimDisk::new();
    disk.set_capacity(10 * 8192);
    // A small device: the reserve is a sixteenth of it, which is less than a file.
    let (mut lane, _) = SteppedLane::open(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap();
    let mut index = 0;
    while lane.make_spare() {
        index += 1;
        lane.lane().append(vec![frame(index, 5000)], Box::new(|result| result.unwrap())).unwrap();
        assert!(lane.flush());
    }
    assert_eq!((index, disk.used_bytes()), (9, 9 * 8192), "the tenth file would take the reserve");
    assert!(lane.lane().room_bytes() > 1024);
    lane.lane().append(vec![frame(index + 1, 100)], Box::new(|result| result.unwrap())).unwrap();
    assert!(lane.flush(), "what is left of the last file is used");
    lane.lane().append(vec![frame(index + 2, 5000)], Box::new(|result| result.unwrap())).unwrap();
    assert!(!lane.flush() && lane.lane().room_bytes() == 0);
    disk.set_capacity(11 * 8192);
    assert!(lane.flush(), "it waited for room, and there is some");
}

#[test]
fn a_lane_is_not_begun_on_a_device_that_it_would_fill() {
    let disk = SimDisk::new();
    disk.set_capacity(8192 + 100);
    let error = open(&disk).unwrap_err();
    assert!(error.is_full(), "{error}");
    for number in ["8192 bytes", "8292 bytes are free", "518 of them"] {
        assert!(error.to_string().contains(number), "{error}");
    }
    disk.set_capacity(8192 + 600);
    open(&disk).unwrap();
}

#[test]
fn a_lane_on_a_full_device_is_opened_and_read() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    append_durably(&lane, vec![frame(1, 5000)]);
    drop(lane);
    disk.set_capacity(0);
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &[frame(1, 5000)]);
    append_durably(&lane, vec![frame(2, 100)]);
}

#[test]
fn the_reserve_is_scaled_down_on_small_devices() {
    let reserve = |total| super::super::options::reserve_of(Space { total, free: total }, 256 << 20);
    assert_eq!(reserve(1 << 40), 256 << 20);
    assert_eq!(reserve(4 << 30), 256 << 20);
    assert_eq!(reserve(1 << 30), 64 << 20);
    assert_eq!(reserve(0), 0);
}

#[test]
fn files_are_used_again_on_the_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = LaneOptions { file_bytes: 256 << 10, ..options() };
    let frames: Vec<_> = (1..=40).map(|index| frame(index, 100_000)).collect();
    let (lane, _) = Lane::open(Arc::new(RealDisk), dir.path(), options.clone()).unwrap();
    for frame in &frames {
        let file = append_durably(&lane, vec![frame.clone()])[0].file;
        lane.release(file.saturating_sub(2));
    }
    let stats = lane.stats();
    drop(lane);
    let names = RealDisk.list(dir.path()).unwrap();
    assert!(names.len() <= 6, "released files are still there: {names:?}");
    let (lane, recovery) = Lane::open(Arc::new(RealDisk), dir.path(), options).unwrap();
    let kept = recovery.frames.len();
    assert!((4..=8).contains(&kept), "{kept} frames were not released");
    assert_recovered(&lane, &recovery, &frames[40 - kept..]);
    assert_eq!(recovery.torn_tail, None);
    // Some file systems cannot; those that a node is meant for can.
    assert!(stats.recycled_files > 0 || cannot_zero(dir.path()));
}

fn cannot_zero(dir: &Path) -> bool {
    let file = RealDisk.open(&dir.join("probe"), crate::OpenMode::CreateNew).unwrap();
    file.write_at(0, &[1; 8192]).unwrap();
    file.zero_range(0..8192).is_err()
}

#[test]
fn an_observer_is_told_of_each_group_of_frames() {
    #[derive(Debug, Default)]
    struct Seen(Mutex<Vec<GroupTimes>>);
    impl LaneObserver for Seen {
        fn group(&self, times: &GroupTimes) {
            self.0.lock().push(*times);
        }
    }
    let seen = Arc::new(Seen::default());
    let options = LaneOptions { observer: Some(seen.clone()), ..options() };
    let (mut lane, _) = SteppedLane::open(Arc::new(SimDisk::new()), Path::new(DIR), options).unwrap();
    let nothing = || Box::new(|result: Result<(), LaneError>| result.unwrap());
    lane.lane().append(vec![frame(1, 100), frame(2, 1000)], nothing()).unwrap();
    lane.lane().append(vec![frame(3, 100)], nothing()).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    assert!(lane.flush() && lane.mark());
    lane.lane().append(vec![frame(4, 10)], nothing()).unwrap();
    assert!(lane.flush());
    let seen = std::mem::take(&mut *seen.0.lock());
    assert_eq!(seen.iter().map(|times| (times.frames, times.bytes)).collect::<Vec<_>>(), [(3, 1536), (1, 512)]);
    assert!(seen[0].queued >= Duration::from_millis(2), "{seen:?}");
    assert_eq!(lane.lane().stats().groups, 3, "a mark is a group, but no frame waited for it");
}
