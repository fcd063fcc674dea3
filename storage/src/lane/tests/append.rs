use std::io;

use parking_lot::Mutex;

use super::*;
use crate::RealDisk;

#[test]
fn frames_read_back_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<_> = [0, 1, 2047, 2048, 2049, 3900].iter().zip(1..).map(|(n, index)| frame(index, *n)).collect();
    let io: Arc<dyn Io> = Arc::new(RealDisk);
    {
        let (lane, recovery) = Lane::open(io.clone(), dir.path(), options()).unwrap();
        assert_recovered(&lane, &recovery, &[]);
        let positions = append_durably(&lane, frames.clone());
        for (pos, frame) in positions.iter().zip(&frames) {
            assert_eq!(lane.read(*pos).unwrap(), frame.payload);
        }
    }
    let (lane, recovery) = Lane::open(io, dir.path(), options()).unwrap();
    assert_recovered(&lane, &recovery, &frames);
    assert_eq!(recovery.torn_tail, None);
}

#[test]
fn appends_that_wait_share_one_sync() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    let (gate, passed) = mpsc::channel::<()>();
    let passed = Mutex::new(passed);
    // The first group waits at its sync until all others are queued behind it.
    disk.set_fault(move |op, _| {
        if op == Op::Sync {
            passed.lock().recv().ok();
        }
        Ok(())
    });
    let waiting: Vec<_> = (1..=20).map(|index| append(&lane, vec![frame(index, 50)]).1).collect();
    drop(gate);
    waiting.iter().for_each(|done| done.recv().unwrap().unwrap());
    let stats = lane.stats();
    assert_eq!(stats.frames, 20);
    // Two if the flush thread was late and took them all at once behind the first.
    assert!(stats.groups <= 3, "20 appends took {} syncs", stats.groups);
}

#[test]
fn dones_run_in_the_order_of_the_appends() {
    let (lane, _) = open(&SimDisk::new()).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for index in 0..100 {
        let order = order.clone();
        let frames = if index % 10 == 9 { vec![] } else { vec![frame(index, 700)] };
        lane.append(frames, Box::new(move |result| order.lock().push((index, result.is_ok())))).unwrap();
    }
    lane.close();
    assert_eq!(*order.lock(), (0..100).map(|index| (index, true)).collect::<Vec<_>>());
}

#[test]
fn the_log_goes_on_in_the_next_file() {
    let disk = SimDisk::new();
    let frames: Vec<_> = (1..=40).map(|index| frame(index, 1000)).collect();
    let (lane, _) = open(&disk).unwrap();
    let positions: Vec<_> = frames.iter().flat_map(|frame| append_durably(&lane, vec![frame.clone()])).collect();
    assert!(positions.is_sorted());
    assert!(positions.last().unwrap().file >= 6);
    assert_eq!(lane.read(positions[0]).unwrap(), frames[0].payload);
    drop(lane);
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &frames);
}

#[test]
fn one_append_may_span_groups_and_files() {
    let disk = SimDisk::new();
    let frames: Vec<_> = (1..=40).map(|index| frame(index, 1000)).collect();
    let (lane, _) = open(&disk).unwrap();
    append_durably(&lane, frames.clone());
    drop(lane);
    let (lane, recovery) = open(&disk).unwrap();
    assert_recovered(&lane, &recovery, &frames);
}

#[test]
fn a_frame_larger_than_a_file_is_refused_whole() {
    let (lane, _) = open(&SimDisk::new()).unwrap();
    let too_large = lane.max_payload() + 1;
    let frames = vec![frame(1, 10), frame(2, too_large)];
    let error = lane.append(frames, Box::new(|_| panic!("nothing was queued"))).unwrap_err();
    assert!(matches!(&error, LaneError::TooLarge { index: RaftIndex(2), .. }), "{error}");
    assert!(error.to_string().contains(&too_large.to_string()));
    append_durably(&lane, vec![frame(1, lane.max_payload())]);
    assert_eq!(lane.stats().frames, 1);
}

#[test]
fn a_position_that_is_not_durable_cannot_be_read() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    let pos = append_durably(&lane, vec![frame(1, 100)])[0];
    disk.set_fault(|op, _| if op == Op::Sync { Err(io::ErrorKind::Other.into()) } else { Ok(()) });
    let (positions, done) = append(&lane, vec![frame(2, 100)]);
    done.recv().unwrap().unwrap_err();
    assert!(matches!(lane.read(positions[0]), Err(LaneError::NotDurable(_))));
    assert!(matches!(lane.read(LanePos { file: 9, ..pos }), Err(LaneError::NotDurable(_))));
    assert!(matches!(lane.read(LanePos { offset: u64::MAX, ..pos }), Err(LaneError::NotDurable(_))));
    assert_eq!(corrupt_at(lane.read(LanePos { len: 99, ..pos }).unwrap_err()), (path(1), pos.offset));
    lane.read(pos).unwrap();
}

#[test]
fn rot_under_a_read_names_file_and_offset() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    let pos = append_durably(&lane, vec![frame(1, 100)])[0];
    for at in [0, 47, 48, 147] {
        disk.edit(&path(1), |bytes| bytes[pos.offset as usize + at] ^= 4);
        assert_eq!(corrupt_at(lane.read(pos).unwrap_err()), (path(1), pos.offset), "byte {at}");
        disk.edit(&path(1), |bytes| bytes[pos.offset as usize + at] ^= 4);
    }
    lane.read(pos).unwrap();
}

#[test]
fn a_closed_lane_refuses_appends_and_still_reads() {
    let (lane, _) = open(&SimDisk::new()).unwrap();
    let pos = append_durably(&lane, vec![frame(1, 100)])[0];
    lane.close();
    lane.close();
    assert!(matches!(lane.append(vec![frame(2, 1)], Box::new(|_| {})), Err(LaneError::Closed)));
    lane.read(pos).unwrap();
}

#[test]
fn quiet_leaves_a_mark_once() {
    let disk = SimDisk::new();
    let options = LaneOptions { mark_after: Duration::from_millis(1), ..options() };
    let (lane, _) = Lane::open(Arc::new(disk), Path::new(DIR), options).unwrap();
    append_durably(&lane, vec![frame(1, 100)]);
    while lane.stats().groups < 2 {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(lane.stats().groups, 2);
    append_durably(&lane, vec![frame(2, 100)]);
}

#[test]
fn options_out_of_bounds_are_refused() {
    for file_bytes in [0, 512, 5000, 4096 + 1, (1 << 30) + 512] {
        let options = LaneOptions { file_bytes, ..options() };
        let error = Lane::open(Arc::new(SimDisk::new()), Path::new(DIR), options).unwrap_err();
        assert!(matches!(error, LaneError::Options(_)), "{error}");
    }
}
