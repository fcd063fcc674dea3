//! What nodes have set aside of their logs, by the names of the files only.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::{Wound, ending, entries, name_of};
use crate::failure::Failure;

/// The files that a node has set aside: where each was, and where it is now.
pub(super) fn files(data: &Path) -> Vec<(PathBuf, PathBuf)> {
    let lanes = entries(&data.join("lanes"));
    let of_lane = |lane: &PathBuf| {
        let dirs = entries(&lane.join("damaged"));
        let files = dirs.iter().flat_map(|dir| entries(dir));
        files.map(|path| (lane.join(name_of(&path)), path)).collect::<Vec<_>>()
    };
    lanes.iter().flat_map(of_lane).collect()
}

/// Removes them, as an operator does once nobody lacks anything.
///
/// # Errors
/// Those of the disk.
pub(super) fn clear(data: &Path) -> Result<(), Failure> {
    for dir in entries(&data.join("lanes")).iter().map(|lane| lane.join("damaged")).filter(|dir| dir.is_dir()) {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// Puts them back, on a node that does not run and whose shards had no leader meanwhile, with a copy of what each damaged one was.
///
/// # Errors
/// Those of the disk.
pub(super) fn put_back(data: &Path, wounds: &[Wound]) -> Result<(), Failure> {
    let kept = files(data);
    for lane in entries(&data.join("lanes")) {
        let first = kept.iter().map(|(was, _)| was).filter(|was| was.parent() == Some(&lane)).min();
        let mut newer =
            ending(entries(&lane), "log").into_iter().filter(|path| first.is_some_and(|first| path >= first));
        newer.try_for_each(fs::remove_file)?;
        ending(entries(&lane.join("votes")), "lost").into_iter().try_for_each(fs::remove_file)?;
    }
    for (was, is) in &kept {
        fs::rename(is, was)?;
    }
    for states in entries(&data.join("shards")).iter().map(|shard| entries(&shard.join("state"))) {
        for state in ending(states, "aside") {
            fs::rename(&state, state.with_extension(""))?;
        }
    }
    clear(data)?;
    let was_needed = |wound: &&Wound| kept.iter().any(|(was, _)| *was == wound.path);
    wounds.iter().filter(was_needed).try_for_each(Wound::mend)
}

#[cfg(test)]
mod tests {
    use super::super::harm::Harm;
    use super::*;

    #[test]
    fn what_was_set_aside_is_put_back_where_it_was() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path();
        let write = |name: &str, bytes: &[u8]| {
            let path = data.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            path
        };
        let damaged = write("lanes/0/2.log", &[7; 2_000]);
        let wound = Wound::inflict(damaged, Harm::Flips, &[], &mut fastrand::Rng::with_seed(1)).unwrap().unwrap();
        fs::create_dir_all(data.join("lanes/0/damaged/1")).unwrap();
        fs::rename(data.join("lanes/0/2.log"), data.join("lanes/0/damaged/1/2.log")).unwrap();
        for (name, bytes) in [("1.log", b"one"), ("2.log", b"new"), ("3.log", b"new"), ("damaged/1/3.log", b"old")] {
            write(&format!("lanes/0/{name}"), bytes);
        }
        write("lanes/0/votes/0000000001.lost", b"");
        write("lanes/0/votes/0000000001.vote", b"vote");
        write("shards/0001/state/9.state.aside", b"state");
        put_back(data, &[wound]).unwrap();
        let read = |name: &str| fs::read(data.join(name)).unwrap();
        assert_eq!((read("lanes/0/1.log"), read("lanes/0/3.log")), (b"one".to_vec(), b"old".to_vec()));
        assert_eq!((read("lanes/0/2.log"), read("shards/0001/state/9.state")), (vec![7; 2_000], b"state".to_vec()));
        assert!(files(data).is_empty() && !data.join("lanes/0/votes/0000000001.lost").exists());
        assert_eq!(read("lanes/0/votes/0000000001.vote"), b"vote");
    }
}
