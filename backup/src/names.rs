//! What is called how at a target.

use chrono::{DateTime, Utc};
use object_store::path::Path;

use crate::blob::Hash;

/// Says whose backups these are.
pub(crate) const CLUSTER: &str = "cluster.json";
/// Where segments are, of all backups.
pub(crate) const SEGMENTS: &str = "segments";
/// Where everything else is, by backup.
pub(crate) const BACKUPS: &str = "backups";
/// Where whoever is at work says so.
pub(crate) const RUNNING: &str = "running";
const MANIFEST: &str = "manifest";
/// The longest id of a backup.
const MAX_ID_BYTES: usize = 64;

/// The segment with this hash.
pub(crate) fn segment(hash: Hash) -> Path {
    let hash = hash.to_string();
    Path::from_iter([SEGMENTS, &hash[..2], &hash])
}

/// The hash in the name of a segment; `None` for another name.
pub(crate) fn segment_hash(path: &Path) -> Option<Hash> {
    let hash = Hash::parse(path.filename()?)?;
    (segment(hash) == *path).then_some(hash)
}

/// What makes a backup one.
pub(crate) fn manifest(id: &str) -> Path {
    Path::from_iter([BACKUPS, id, MANIFEST])
}

/// The backup of which this is the manifest; `None` for another name.
pub(crate) fn manifest_id(path: &Path) -> Option<String> {
    let id = path.parts().nth(1)?.as_ref().to_owned();
    (is_id(&id) && manifest(&id) == *path).then_some(id)
}

/// The state of a shard.
pub(crate) fn state(id: &str, shard: u32) -> Path {
    Path::from_iter([BACKUPS, id, &format!("{shard:04}.state")])
}

/// The log of a shard.
pub(crate) fn log(id: &str, shard: u32) -> Path {
    Path::from_iter([BACKUPS, id, &format!("{shard:04}.log")])
}

/// The backup to which this object belongs; `None` for a name that no backup gives.
pub(crate) fn backup_of(path: &Path) -> Option<String> {
    let id = path.parts().nth(1)?.as_ref().to_owned();
    let shard = || path.filename()?.split_once('.')?.0.parse::<u32>().ok();
    let is_one = |shard: Option<u32>| shard.is_some_and(|shard| state(&id, shard) == *path || log(&id, shard) == *path);
    (is_id(&id) && (manifest(&id) == *path || is_one(shard()))).then_some(id)
}

/// What says that somebody is at work.
pub(crate) fn running(work: Work, id: &str) -> Path {
    Path::from_iter([RUNNING, &format!("{}-{id}", work.name())])
}

/// Who says so with this name; `None` for another name.
pub(crate) fn running_work(path: &Path) -> Option<(Work, String)> {
    let (name, id) = path.filename()?.split_once('-')?;
    let work = [Work::Backup, Work::Removal].into_iter().find(|work| work.name() == name)?;
    (is_id(id) && running(work, id) == *path).then(|| (work, id.to_owned()))
}

/// What is done at a target besides reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A backup is made.
    Backup,
    /// Older backups are removed.
    Removal,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Work::Backup => "backup",
            Work::Removal => "removal",
        }
    }
}

/// Whether a backup may be called so: nothing that leads elsewhere.
pub(crate) fn is_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(allowed)
}

/// The id of what begins then: those of what begins later sort behind it.
pub(crate) fn new_id(began: DateTime<Utc>) -> String {
    began.format("%Y%m%dT%H%M%S%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        let hash = Hash([0xab; 32]);
        assert_eq!(segment_hash(&segment(hash)), Some(hash));
        assert_eq!(segment_hash(&Path::from("segments/ab/xyz")), None);
        assert_eq!(segment_hash(&Path::from_iter([SEGMENTS, "cd", &hash.to_string()])), None, "another folder");
        let id = new_id(Utc::now());
        assert_eq!(manifest_id(&manifest(&id)), Some(id.clone()));
        assert_eq!(manifest_id(&Path::from("backups/x/0001.state")), None);
        for path in [manifest(&id), state(&id, 0), log(&id, 12_345)] {
            assert_eq!(backup_of(&path), Some(id.clone()), "{path}");
        }
        for path in ["backups/x/1.state", "backups/x/0001.other", "backups/x/y/manifest", "backups/manifest", "x"] {
            assert_eq!(backup_of(&Path::from(path)), None, "{path}");
        }
        for work in [Work::Backup, Work::Removal] {
            assert_eq!(running_work(&running(work, &id)), Some((work, id.clone())));
        }
        assert_eq!(running_work(&Path::from("running/other-x")), None);
    }

    #[test]
    fn x1_no_id_leads_elsewhere() {
        for id in ["", "..", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(!is_id(id), "{id}");
        }
    }
}
