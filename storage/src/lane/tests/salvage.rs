//! Lanes that are damaged in what was durable, and end before that once the damage was set aside.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::damage::closed_lane;
use super::*;

/// The bytes of all files below the lane's directory, by their paths.
fn files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = disk.paths().into_iter().filter(|path| path.starts_with(DIR));
    paths.map(|path| (path.clone(), disk.edit(&path, |bytes| bytes.clone()))).collect()
}

fn look(disk: &SimDisk) -> Option<DamagedLane> {
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    DamagedLane::look(&io, Path::new(DIR), &options()).unwrap()
}

fn open_stepped(disk: &SimDisk) -> Result<(SteppedLane, Recovery), LaneError> {
    SteppedLane::open(Arc::new(disk.clone()), Path::new(DIR), options())
}

/// Sets the damage of a lane aside; the lane then holds a beginning of `frames`, and can be written. How many it holds.
fn repaired(disk: &SimDisk, frames: &[Frame], what: &str) -> usize {
    let before = files(disk);
    let damaged = look(disk).unwrap_or_else(|| panic!("{what}: it is damaged"));
    let kept = damaged.frames().len();
    assert!(files(disk) == before, "{what}: looking changes nothing");
    for (frame, expected) in damaged.frames().iter().zip(frames) {
        assert_eq!(damaged.payload(frame).unwrap(), expected.payload);
    }
    let aside = damaged.set_aside().unwrap();
    assert_kept(disk, &before, what);
    let listed = Lane::list_aside(disk, Path::new(DIR)).unwrap();
    assert_eq!(listed, [aside]);
    let (mut lane, recovery) = open_stepped(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(recovery.torn_tail.is_none() && kept <= frames.len(), "{what}");
    assert_recovered(lane.lane(), &recovery, &frames[..kept]);
    let more = frame(1_000, 900);
    lane.lane().append(vec![more.clone()], Box::new(|result| result.unwrap())).unwrap();
    assert!(lane.flush() || lane.make_spare() && lane.flush(), "{what}");
    while lane.flush() {}
    drop(lane);
    let (lane, recovery) = open_stepped(&disk.after_power_cut(|| false)).unwrap();
    assert_recovered(lane.lane(), &recovery, &[&frames[..kept], &[more]].concat());
    kept
}

/// L5: every file of before is somewhere, byte for byte.
fn assert_kept(disk: &SimDisk, before: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let now: Vec<Vec<u8>> = files(disk).into_values().collect();
    for (path, bytes) in before.iter().filter(|(path, _)| path.extension().is_some_and(|found| found == "log")) {
        assert!(now.contains(bytes), "L5: {what}: {} is gone", path.display());
    }
}

/// The frames that lie in files below `number`.
fn frames_below(disk: &SimDisk, number: u64) -> usize {
    let (_, recovery) = open_stepped(&disk.after_kill()).unwrap();
    recovery.frames.iter().filter(|frame| frame.pos.file < number).count()
}

#[test]
fn l5_a_lane_ends_before_damage_anywhere_and_all_its_files_are_kept() {
    let (disk, frames) = closed_lane();
    assert!(look(&disk).is_none(), "all of it is whole");
    let mut counts = std::collections::BTreeSet::new();
    for (number, at) in (3..=5).flat_map(|number| (0..16).map(move |sector| (number, sector * 512 + 20))) {
        let hurt = disk.after_kill();
        hurt.edit(&path(number), |bytes| bytes[at] ^= 0x21);
        if open_stepped(&hurt.after_kill()).is_ok() {
            continue;
        }
        let kept = repaired(&hurt, &frames, &format!("byte {at} of file {number}"));
        let below = frames_below(&disk, number);
        assert!((below..=below + 5).contains(&kept), "{kept} are kept, {below} are in files before {number}");
        counts.insert(kept);
    }
    assert!(counts.len() > 6, "{counts:?}");
}

#[test]
fn l5_what_was_set_aside_is_the_whole_log_again_with_a_copy_of_what_was_damaged() {
    let (disk, frames) = closed_lane();
    for (number, at) in [(4, 20), (4, 532), (4, 1_700), (5, 20), (5, 532)] {
        let hurt = disk.after_kill();
        hurt.edit(&path(number), |bytes| bytes[at] ^= 0x21);
        repaired(&hurt, &frames, &format!("byte {at} of file {number}"));
        let aside = Path::new(DIR).join("damaged").join("1");
        let named = |dir: &Path| hurt.list(dir).unwrap().into_iter().filter(|name| name.ends_with(".log"));
        let lowest = named(&aside).min().unwrap();
        named(Path::new(DIR))
            .filter(|name| *name >= lowest)
            .for_each(|name| hurt.remove(&Path::new(DIR).join(name)).unwrap());
        for name in named(&aside) {
            let whole = disk.edit(&Path::new(DIR).join(&name), |bytes| bytes.clone());
            crate::write_durably(&hurt, &Path::new(DIR).join(&name), &[&whole]).unwrap();
        }
        let (lane, recovery) = open_stepped(&hurt).unwrap();
        assert_recovered(lane.lane(), &recovery, &frames);
    }
}

#[test]
fn l5_a_lane_goes_on_without_a_file_that_is_gone_or_cut_short() {
    let (disk, frames) = closed_lane();
    for number in 3..=5 {
        let gone = disk.after_kill();
        gone.remove(&path(number)).unwrap();
        let short = disk.after_kill();
        short.edit(&path(number), |bytes| bytes.truncate(1_000));
        let below = frames_below(&disk, number);
        for (hurt, what) in [(gone, "gone"), (short, "cut short")].into_iter().skip(usize::from(number == 3)) {
            assert_eq!(repaired(&hurt, &frames, &format!("file {number} is {what}")), below);
        }
    }
    // Without the first file the others are a log that begins later: whose entries are whole is not for the lane to say.
    let hurt = disk.after_kill();
    hurt.remove(&path(3)).unwrap();
    assert_eq!(
        repaired(&hurt, &frames[frames_below(&disk, 4)..], "the first file is gone"),
        frames.len() - frames_below(&disk, 4)
    );
}

#[test]
fn l5_a_lane_whose_floor_only_a_damaged_file_says_keeps_what_is_there() {
    let (disk, frames) = closed_lane();
    let floors: Vec<u8> = (3..=6).map(|number| disk.edit(&path(number), |bytes| bytes[40])).collect();
    assert_eq!(floors, [2, 3, 3, 3], "the first file was made before the second one was released");
    for number in (3..=6).filter(|number| floors[(number - 3) as usize] == 3) {
        let hurt = disk.after_kill();
        hurt.edit(&path(number), |bytes| bytes[70..].fill(0xee));
        assert_eq!(repaired(&hurt, &frames, &format!("file {number}")), frames_below(&disk, number));
    }
    let hurt = disk.after_kill();
    (3..=6).for_each(|number| hurt.edit(&path(number), |bytes| bytes[1] ^= 1));
    assert_eq!(repaired(&hurt, &frames, "all headers"), 0);
}

#[test]
fn l5_a_power_cut_at_any_step_of_setting_damage_aside_is_made_good_by_the_next_start() {
    let (disk, frames) = closed_lane();
    for (number, at) in [(3, 600), (4, 1_700), (4, 40), (5, 600)] {
        let hurt = disk.after_kill();
        hurt.edit(&path(number), |bytes| bytes[at] ^= 0x21);
        let (before, damaged) = (files(&hurt), look(&hurt).unwrap());
        let kept = damaged.frames().len();
        let cuts = Arc::new(Mutex::new(Vec::new()));
        let (recorded, cut) = (Arc::clone(&cuts), hurt.clone());
        hurt.set_fault(move |op, _| {
            if op != Op::View {
                let mut bits = recorded.lock().len() as u32;
                recorded.lock().push(cut.after_power_cut(move || {
                    bits = bits.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                    bits >> 31 == 1
                }));
            }
            Ok(())
        });
        damaged.set_aside().unwrap();
        hurt.clear_fault();
        let cuts = std::mem::take(&mut *cuts.lock());
        assert!(cuts.len() > 8, "{} steps", cuts.len());
        for (step, left) in cuts.into_iter().enumerate() {
            let what = format!("byte {at} of file {number}, step {step}");
            assert_kept(&left, &before, &what);
            assert!(Lane::is_in(&left, Path::new(DIR)).unwrap(), "{what}: somebody takes it for an empty directory");
            if let Err(error) = open_stepped(&left) {
                corrupt_at(error);
                look(&left).unwrap_or_else(|| panic!("{what}")).set_aside().unwrap();
            }
            let (lane, recovery) = open_stepped(&left).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_recovered(lane.lane(), &recovery, &frames[..kept]);
            assert_kept(&left, &before, &what);
        }
    }
}

#[test]
fn l5_a_copy_that_is_put_where_a_damaged_file_was_is_kept_though_setting_aside_was_cut_short() {
    let (disk, frames) = closed_lane();
    let whole = disk.edit(&path(4), |bytes| bytes.clone());
    let hurt = disk.after_kill();
    hurt.edit(&path(4), |bytes| bytes[1_700] ^= 0x21);
    let damaged = look(&hurt).unwrap();
    let (kept, before) = (damaged.frames().len(), files(&hurt));
    hurt.fail_next(Op::Create, ".log.tmp", std::io::ErrorKind::StorageFull);
    damaged.set_aside().unwrap_err();
    crate::write_durably(&hurt, &path(4), &[&whole]).unwrap();
    let (lane, recovery) = open_stepped(&hurt).unwrap();
    assert_recovered(lane.lane(), &recovery, &frames[..kept]);
    assert_kept(&hurt, &before, "what was damaged");
    assert!(files(&hurt).values().any(|bytes| *bytes == whole), "the copy");
}

#[test]
fn what_was_set_aside_is_told_by_a_look_and_does_not_hide_damage() {
    let (disk, _) = closed_lane();
    disk.edit(&path(4), |bytes| bytes[1_700] ^= 0x21);
    look(&disk).unwrap().set_aside().unwrap();
    let told = Mutex::new(Vec::new());
    crate::lane::walk::walk(&disk, Path::new(DIR), &mut |event| {
        match event {
            crate::lane::walk::LaneEvent::Aside(aside) => told.lock().push(aside),
            crate::lane::walk::LaneEvent::Broken(error) => panic!("{error}"),
            crate::lane::walk::LaneEvent::Stray { path } => panic!("{} is not ours", path.display()),
            _ => {}
        }
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let aside = told.into_inner().pop().unwrap();
    assert_eq!((aside.dir, aside.files, aside.bytes), (Path::new(DIR).join("damaged/1"), 3, 3 * 8192));
}
