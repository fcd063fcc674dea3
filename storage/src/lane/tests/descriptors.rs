use super::*;
use crate::PooledDisk;

/// The tail, the file that is made next, and two for all that is read.
const LIMIT: usize = 4;

fn open_pooled(disk: &SimDisk) -> (Arc<Lane>, Recovery) {
    let pooled = PooledDisk::with_capacity(Arc::new(disk.clone()), LIMIT - 2);
    Lane::open(Arc::new(pooled), Path::new(DIR), options()).unwrap()
}

#[test]
fn a_lane_may_have_more_files_than_the_process_descriptors() {
    let disk = SimDisk::new();
    disk.limit_open_files(LIMIT);
    let frames: Vec<_> = (1..=40).map(|index| frame(index, 5000)).collect();
    let (lane, _) = open_pooled(&disk);
    let positions: Vec<_> = frames[..30].iter().map(|frame| append_durably(&lane, vec![frame.clone()])[0]).collect();
    assert_eq!(positions[29].file, 30, "each file holds one");
    for (pos, frame) in positions.iter().zip(&frames) {
        assert_eq!(lane.read(*pos).unwrap(), frame.payload);
    }
    drop(lane);

    let (lane, recovery) = open_pooled(&disk);
    assert_recovered(&lane, &recovery, &frames[..30]);
    for frame in &frames[30..] {
        append_durably(&lane, vec![frame.clone()]);
    }
    drop(lane);
    let (lane, recovery) = open_pooled(&disk);
    assert_recovered(&lane, &recovery, &frames);
    drop(lane);
    assert_eq!(disk.open_files(), 0, "a lane that is closed holds nothing open");
}

#[test]
fn a_torn_tail_is_discarded_with_few_descriptors() {
    let disk = SimDisk::new();
    let (lane, _) = open_pooled(&disk);
    let frames: Vec<_> = (1..=10).map(|index| frame(index, 5000)).collect();
    let last = frames.iter().map(|frame| append_durably(&lane, vec![frame.clone()])[0]).last().unwrap();
    drop(lane);
    // The mark behind the last group was lost, and so was the end of that group.
    let group = last.offset as usize / 512 * 512;
    disk.edit(&path(last.file), |bytes| bytes[group + 1024..].fill(0));
    disk.limit_open_files(LIMIT);
    let (lane, recovery) = open_pooled(&disk);
    assert_eq!(recovery.torn_tail.map(|torn| torn.file), Some(last.file));
    assert_recovered(&lane, &recovery, &frames[..9]);
}

#[test]
fn a_lack_of_descriptors_is_waited_for_when_the_next_file_is_made() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    disk.limit_open_files(disk.open_files());
    append_durably(&lane, vec![frame(1, 5000)]);
    let (_, done) = append(&lane, vec![frame(2, 5000)]);
    assert!(done.recv_timeout(Duration::from_millis(50)).is_err(), "it cannot be written yet");
    disk.limit_open_files(usize::MAX);
    done.recv().unwrap().unwrap();
}
