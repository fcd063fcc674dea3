//! Files of nodes, by their names only: the harness knows nothing of what is in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::harm::Harm;
use crate::failure::Failure;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Replay segments: records as they were produced.
    Rec,
    /// Column segments: rows, made of these.
    Col,
    /// The log.
    Lane,
    Vote,
    /// What the log of a shard amounts to, with the manifest of its segments.
    State,
}

impl Target {
    /// As the history calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rec => "rec",
            Self::Col => "col",
            Self::Lane => "lane",
            Self::Vote => "vote",
            Self::State => "state",
        }
    }

    /// Whether a whole copy is on other nodes, byte for byte.
    pub(super) fn has_copies(self) -> bool {
        matches!(self, Self::Rec | Self::Col)
    }

    /// All files of the kind in a data directory, in order.
    pub(super) fn files(self, data: &Path) -> Vec<PathBuf> {
        let of_shards = |folder: &str| {
            let shards = entries(&data.join("shards"));
            shards.into_iter().map(|shard| entries(&shard.join(folder))).collect::<Vec<_>>()
        };
        let lanes = || entries(&data.join("lanes"));
        match self {
            Self::Rec | Self::Col => ending(of_shards("segments").into_iter().flatten(), self.name()),
            Self::Lane => ending(lanes().iter().flat_map(|lane| entries(lane)), "log"),
            Self::Vote => ending(lanes().iter().flat_map(|lane| entries(&lane.join("votes"))), "vote"),
            // An older one is never read.
            Self::State => {
                let newest = of_shards("state").into_iter().filter_map(|states| ending(states, "state").pop());
                newest.collect()
            }
        }
    }
}

pub(super) fn ending(paths: impl IntoIterator<Item = PathBuf>, extension: &str) -> Vec<PathBuf> {
    paths.into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// What is in a directory, in order; nothing, for one that is not there.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = found.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// A damaged file.
#[derive(Debug)]
pub(super) struct Wound {
    pub(super) path: PathBuf,
    /// What it was.
    before: Vec<u8>,
    /// What is wrong with it now, for people.
    pub(super) how: String,
}

impl Wound {
    /// Damages a file; `None` where that cannot be done. `stale`: what a chunk of it may become again.
    pub(super) fn inflict(
        path: PathBuf,
        harm: Harm,
        stale: &[u8],
        random: &mut fastrand::Rng,
    ) -> Result<Option<Self>, Failure> {
        Self::inflict_with(path, |bytes| harm.apply(bytes, stale, random))
    }

    /// Flips bits in the first quarter of a file: in a replay segment, records are there.
    pub(super) fn inflict_front(path: PathBuf, random: &mut fastrand::Rng) -> Result<Option<Self>, Failure> {
        Self::inflict_with(path, |bytes| {
            let mut front = bytes[..bytes.len() / 4].to_vec();
            let how = Harm::Flips.apply(&mut front, &[], random)?;
            bytes[..front.len()].copy_from_slice(&front);
            Some(how)
        })
    }

    fn inflict_with(path: PathBuf, harm: impl FnOnce(&mut Vec<u8>) -> Option<String>) -> Result<Option<Self>, Failure> {
        let before = fs::read(&path)?;
        let mut after = before.clone();
        let Some(how) = harm(&mut after) else { return Ok(None) };
        fs::write(&path, after)?;
        Ok(Some(Self { path, before, how }))
    }

    /// Puts back what it was, as an operator does who has a copy.
    pub(super) fn mend(&self) -> Result<(), Failure> {
        Ok(fs::write(&self.path, &self.before)?)
    }

    pub(super) fn name(&self) -> String {
        name_of(&self.path)
    }
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Length and checksum of every file below a directory.
pub(super) type Contents = BTreeMap<PathBuf, (usize, u32)>;

/// # Errors
/// If the file cannot be read.
pub(super) fn content(path: &Path) -> Result<(usize, u32), Failure> {
    let bytes = fs::read(path)?;
    Ok((bytes.len(), crc32fast::hash(&bytes)))
}

/// # Errors
/// If a file cannot be read.
pub(super) fn contents(directory: &Path) -> Result<Contents, Failure> {
    let mut found = Contents::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(entries(&path));
        } else {
            let content = content(&path)?;
            found.insert(path, content);
        }
    }
    Ok(found)
}

/// Files that are gone or have other bytes than before. Those that were never finished may go.
pub(super) fn changed(before: &Contents, after: &Contents) -> Vec<PathBuf> {
    let is_unfinished = |path: &Path| {
        let name = name_of(path);
        name == "LOCK" || name.ends_with(".tmp") || name.ends_with(".part")
    };
    let differs = before.iter().filter(|(path, content)| after.get(*path) != Some(*content));
    differs.map(|(path, _)| path.clone()).filter(|path| !is_unfinished(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_their_names_and_changes_by_their_bytes() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        for name in ["shards/1/segments/a.rec", "shards/1/segments/b.col", "shards/2/segments/c.rec.tmp"] {
            write(name, b"x");
        }
        for name in ["shards/1/state/1.state", "shards/1/state/2.state", "lanes/0/1.log", "lanes/0/votes/1.vote"] {
            write(name, &[7; 5_000]);
        }
        let named =
            |target: Target| -> Vec<String> { target.files(home.path()).iter().map(|path| name_of(path)).collect() };
        let all = [Target::Rec, Target::Col, Target::Lane, Target::Vote, Target::State].map(named).concat();
        assert_eq!(all, ["a.rec", "b.col", "1.log", "1.vote", "2.state"]);

        let before = contents(home.path()).unwrap();
        let vote = home.path().join("lanes/0/votes/1.vote");
        let wound = Wound::inflict(vote.clone(), Harm::Flips, &[], &mut fastrand::Rng::with_seed(1)).unwrap().unwrap();
        write("LOCK", b"");
        fs::remove_file(home.path().join("shards/2/segments/c.rec.tmp")).unwrap();
        assert_eq!(changed(&before, &contents(home.path()).unwrap()), [vote]);
        wound.mend().unwrap();
        assert_eq!(changed(&before, &contents(home.path()).unwrap()), Vec::<PathBuf>::new());
    }
}
