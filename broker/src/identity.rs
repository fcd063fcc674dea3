//! Who a data directory is, and that only one process uses it.
//!
//! `node.toml` is written once, when the directory begins a cluster or joins one, and never changed. A directory that
//! waits for a cluster has `incarnation` instead: it is the same in every try to join, and goes when `node.toml` is there.
//! All these files are a subset of TOML: one `key = value` a line, `#` starts a comment.
//!
//! A directory that was emptied must not come back as who it was: others count on what it acknowledged (L1). So the log is
//! made before `node.toml`, which is never there without it, and without `node.toml` nobody knows who the directory was.

mod replica;
mod restoring;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use stratalog_proto::{Code, Error, NodeId, ShardId};
use stratalog_storage::{Io, Lane, OpenMode, write_durably};
use uuid::Uuid;

pub(crate) use replica::{Mark, local_replicas, mark};
pub(crate) use restoring::{begin_restore, check_empty, end_restore};

const IDENTITY_FILE: &str = "node.toml";
const INCARNATION_FILE: &str = "incarnation";
const LOCK_FILE: &str = "LOCK";
const FORMAT_VERSION: u32 = 1;
/// Voters of a shard, unless it is said.
const DEFAULT_REPLICATION: u32 = 3;
/// The file has a few lines; anything larger is not ours.
const MAX_IDENTITY_BYTES: u64 = 4_096;
/// The most shards of a node.
pub(crate) const MAX_SHARDS: u32 = 1_024;

/// What `node.toml` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The cluster that the directory belongs to.
    pub(crate) cluster: Uuid,
    /// The node.
    pub(crate) node: NodeId,
    /// New with each new directory: a wiped node is not the node that it was.
    pub(crate) incarnation: Uuid,
    /// Shards that the cluster began with, or had when the node joined; without the metadata group.
    pub(crate) shards: u32,
    /// Voters that a new shard is to have, when the cluster began or the node joined.
    pub(crate) replication: u32,
    /// It joined a cluster that others began. Else the cluster began in this directory, and replica 1 of each of these
    /// shards was made here.
    pub(crate) joined: bool,
}

/// Keeps other processes out of a data directory until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// Locks a directory that exists.
///
/// # Errors
/// [`Code::Unavailable`], naming the directory, if another process has it; [`Code::Io`].
pub(crate) fn lock(dir: &Path) -> Result<DirLock, Error> {
    let failed = |error: std::io::Error| {
        Error::new(Code::Io, format!("cannot lock the data directory {}: {error}", dir.display()))
    };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK_FILE)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(DirLock { _file: file }),
        Err(TryLockError::WouldBlock) => {
            let message = format!(
                "the data directory {} is in use by another stratalog process; stop it, or choose another directory",
                dir.display()
            );
            Err(Error::new(Code::Unavailable, message))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Keeps nodes out of a directory while it is looked at; several may look at the same time, and nothing is written.
/// `None` for a directory that no node has used where it is, such as a copy without `LOCK`.
///
/// # Errors
/// [`Code::Unavailable`], naming the directory, if a node uses it; [`Code::Io`].
pub fn lock_to_inspect(dir: &Path) -> Result<Option<DirLock>, Error> {
    let failed = |error: std::io::Error| {
        Error::new(Code::Io, format!("cannot lock the data directory {}: {error}", dir.display()))
    };
    let file = match File::open(dir.join(LOCK_FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(DirLock { _file: file })),
        Err(TryLockError::WouldBlock) => {
            let message = format!("a node uses the data directory {}; stop it first", dir.display());
            Err(Error::new(Code::Unavailable, message))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The identity of a directory; `None` for one that belongs to no cluster yet.
///
/// # Errors
/// [`Code::CorruptData`] if there is data and no identity, an identity and no log, or an identity that cannot be read;
/// [`Code::NewerVersion`]; [`Code::Io`].
pub(crate) fn load(io: &dyn Io, dir: &Path) -> Result<Option<Identity>, Error> {
    restoring::check_none(io, dir)?;
    let path = dir.join(IDENTITY_FILE);
    if let Some(text) = read_small(io, &path)? {
        let identity = Identity::parse(&text).map_err(|error| within(&path, error))?;
        return check_log(io, dir, &identity).map(|()| Some(identity));
    }
    if has_data(io, dir).map_err(|error| failed(&path, &error))? {
        return Err(unreadable(&path, "it is missing, and the directory has data; restore it from a copy"));
    }
    Ok(None)
}

/// Refuses a directory whose log is gone: it would vote, and answer, as somebody who never acknowledged anything (L1).
fn check_log(io: &dyn Io, dir: &Path, identity: &Identity) -> Result<(), Error> {
    let (lane, node) = (lane_dir(dir), identity.node);
    if Lane::is_in(io, &lane).map_err(|error| failed(&lane, &error))? {
        return Ok(());
    }
    let message = format!(
        "{} is missing or empty: the log of node {node}, with what it acknowledged, is lost. Nothing was changed; restore it \
         from a copy. Without one, start with an empty data directory: in a cluster of several it joins as a new node, and \
         `stratalog cluster remove-node {node} --force` gives the old one up",
        lane.display()
    );
    Err(Error::new(Code::CorruptData, message))
}

/// Whether somebody who is not known any more wrote here. A directory that was about to get its identity has a log
/// without entries, and its incarnation.
fn has_data(io: &dyn Io, dir: &Path) -> std::io::Result<bool> {
    if io.exists(&dir.join("lanes"))? && !io.exists(&dir.join(INCARNATION_FILE))? {
        return Ok(true);
    }
    has_files_of_shards(io, dir)
}

/// Whether there is a segment or a state file.
fn has_files_of_shards(io: &dyn Io, dir: &Path) -> std::io::Result<bool> {
    let shards = dir.join("shards");
    let names = if io.exists(&shards)? { io.list(&shards)? } else { Vec::new() };
    for within in names.iter().flat_map(|name| ["state", "segments"].map(|within| shards.join(name).join(within))) {
        if io.exists(&within)? && !io.list(&within)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the very first start of a directory was cut short by release 0.1, which made the identity before the log: then
/// there is a directory of votes, and nothing that it could have acknowledged.
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn lacks_its_first_log(io: &dyn Io, dir: &Path) -> Result<bool, Error> {
    // Releases from 0.2 on say it, and have made the log before.
    let is_of_first_release = |text: String| Identity::parse(&text).is_ok() && value(&text, "replication").is_none();
    if !read_small(io, &dir.join(IDENTITY_FILE))?.is_some_and(is_of_first_release) {
        return Ok(false);
    }
    let (lane, votes) = (lane_dir(dir), lane_dir(dir).join("votes"));
    let is_untouched = || -> std::io::Result<bool> {
        let never_voted = io.exists(&votes)? && io.list(&votes)?.is_empty();
        Ok(never_voted && !Lane::is_in(io, &lane)? && !has_files_of_shards(io, dir)?)
    };
    is_untouched().map_err(|error| failed(&lane, &error))
}

/// Gives a directory without data its identity, for ever.
///
/// # Errors
/// [`Code::InvalidConfig`] for a number of shards out of bounds; [`Code::Io`].
pub(crate) fn write(io: &dyn Io, dir: &Path, identity: &Identity) -> Result<(), Error> {
    if !(1..=MAX_SHARDS).contains(&identity.shards) {
        let message = format!("a data directory has 1 to {MAX_SHARDS} shards, not {}", identity.shards);
        return Err(Error::new(Code::InvalidConfig, message));
    }
    let path = dir.join(IDENTITY_FILE);
    write_durably(io, &path, &[identity.to_text().as_bytes()]).map_err(|error| failed(&path, &error))
}

/// Removes the incarnation of a directory that has its identity: whoever took the identity away would else come back as
/// the same node, without what that acknowledged (L1).
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn forget_incarnation(io: &dyn Io, dir: &Path) -> Result<(), Error> {
    remove_durably(io, dir, INCARNATION_FILE)
}

/// Removes a file, if it is there.
fn remove_durably(io: &dyn Io, dir: &Path, name: &str) -> Result<(), Error> {
    let path = dir.join(name);
    let remove = || match io.exists(&path)? {
        true => io.remove(&path).and_then(|()| io.sync_dir(dir)),
        false => Ok(()),
    };
    remove().map_err(|error| failed(&path, &error))
}

/// Forgets which replica of a shard a directory without an identity was about to hold.
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn forget_mark(io: &dyn Io, dir: &Path, shard: ShardId) -> Result<(), Error> {
    remove_durably(io, &shard_dir(dir, shard.0), replica::MARK_FILE)
}

/// The incarnation of a directory that belongs to no cluster yet; made when it is asked for first.
///
/// # Errors
/// [`Code::CorruptData`] for a file that is none; [`Code::Io`].
pub(crate) fn incarnation(io: &dyn Io, dir: &Path) -> Result<Uuid, Error> {
    let path = dir.join(INCARNATION_FILE);
    if let Some(text) = read_small(io, &path)? {
        return uuid(&text, "incarnation").map_err(|error| within(&path, error));
    }
    let incarnation = Uuid::now_v7();
    let text = format!(
        "# Tells this Stratalog data directory from others until it belongs to a cluster.\nincarnation = \"{incarnation}\"\n"
    );
    write_durably(io, &path, &[text.as_bytes()]).map_err(|error| failed(&path, &error))?;
    Ok(incarnation)
}

impl Identity {
    fn to_text(&self) -> String {
        let joined = if self.joined { "joined = true\n" } else { "" };
        format!(
            "# Identity of this Stratalog data directory. Written once; changing it makes the data unusable.\n\
             format_version = {FORMAT_VERSION}\n\
             cluster_id = \"{}\"\n\
             node_id = {}\n\
             incarnation = \"{}\"\n\
             shards = {}\n\
             replication = {}\n\
             {joined}",
            self.cluster, self.node, self.incarnation, self.shards, self.replication
        )
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let version = number(text, "format_version")?;
        if version != u64::from(FORMAT_VERSION) {
            let message = format!("it has format version {version}, this version of Stratalog knows {FORMAT_VERSION}");
            return Err(Error::new(Code::NewerVersion, message));
        }
        let shards = u32::try_from(number(text, "shards")?).ok().filter(|shards| (1..=MAX_SHARDS).contains(shards));
        // A directory of release 0.1 does not say it.
        let replication =
            value(text, "replication").map_or(Ok(DEFAULT_REPLICATION.into()), |_| number(text, "replication"))?;
        let joined = match value(text, "joined") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(malformed("`joined` is neither true nor false")),
        };
        Ok(Self {
            cluster: uuid(text, "cluster_id")?,
            node: NodeId(number(text, "node_id")?),
            incarnation: uuid(text, "incarnation")?,
            shards: shards.ok_or_else(|| malformed("`shards` is out of bounds"))?,
            replication: u32::try_from(replication).map_err(|_| malformed("`replication` is out of bounds"))?,
            joined,
        })
    }
}

/// The text of a file of a few lines; `None` if there is none.
fn read_small(io: &dyn Io, path: &Path) -> Result<Option<String>, Error> {
    let failed = |error: std::io::Error| failed(path, &error);
    if !io.exists(path).map_err(failed)? {
        return Ok(None);
    }
    let file = io.open(path, OpenMode::Read).map_err(failed)?;
    let len = file.len().map_err(failed)?;
    if len > MAX_IDENTITY_BYTES {
        return Err(unreadable(path, "it is too large"));
    }
    let bytes = file.view(0..len).map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The value of a key, without quotes.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split('#').next()?.split_once('='));
    let mut found = lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().trim_matches('"'));
    found.next()
}

fn required<'a>(text: &'a str, key: &str) -> Result<&'a str, Error> {
    value(text, key).ok_or_else(|| malformed(&format!("it has no `{key}`")))
}

fn number(text: &str, key: &str) -> Result<u64, Error> {
    required(text, key)?.parse().map_err(|_| malformed(&format!("`{key}` is not a number")))
}

fn uuid(text: &str, key: &str) -> Result<Uuid, Error> {
    required(text, key)?.parse().map_err(|_| malformed(&format!("`{key}` is not a UUID")))
}

/// Where the log of all groups is.
pub(crate) fn lane_dir(dir: &Path) -> PathBuf {
    dir.join("lanes").join("0")
}

/// Where a shard's segments are.
pub(crate) fn segments_dir(dir: &Path, shard: u32) -> PathBuf {
    shard_dir(dir, shard).join("segments")
}

/// Where the state files of a group are; group 0 is the metadata.
pub(crate) fn state_dir(dir: &Path, shard: u32) -> PathBuf {
    shard_dir(dir, shard).join("state")
}

/// Everything of a group but its log.
pub(crate) fn shard_dir(dir: &Path, shard: u32) -> PathBuf {
    dir.join("shards").join(format!("{shard:04}"))
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Code::Io, format!("{}: {error}", path.display()))
}

fn malformed(what: &str) -> Error {
    Error::new(Code::CorruptData, what)
}

fn unreadable(path: &Path, what: &str) -> Error {
    within(path, malformed(what))
}

fn within(path: &Path, error: Error) -> Error {
    let message = format!("{} identifies the data directory and cannot be used: {}", path.display(), error.message);
    Error::new(error.code, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stratalog_mutation::Decoder;
    use stratalog_storage::{LaneOptions, RealDisk};

    use super::*;

    const IDENTITY: Decoder = Decoder {
        name: "identity",
        samples: identities,
        run: read_identity,
        words: &["shards = ", "joined = true", "format_version = 1\n", "\"", "#", "=", "\n", "\r\n", "-1", "é"],
        memory_bytes: 1 << 20,
    };

    fn identities() -> Vec<Vec<u8>> {
        let (cluster, incarnation) = (Uuid::from_u128(7), Uuid::from_u128(8));
        [false, true].map(|joined| Identity { cluster, incarnation, ..identity(joined) }.to_text().into_bytes()).into()
    }

    fn read_identity(bytes: &[u8]) -> bool {
        let Ok(identity) = Identity::parse(&String::from_utf8_lossy(bytes)) else { return false };
        assert_eq!(Identity::parse(&identity.to_text()), Ok(identity), "what was written is read again");
        true
    }

    #[test]
    fn x1_identities_that_lie() {
        IDENTITY.check();
    }

    fn identity(joined: bool) -> Identity {
        let (cluster, incarnation) = (Uuid::now_v7(), Uuid::now_v7());
        Identity { cluster, node: NodeId(7), incarnation, shards: 3, replication: 3, joined }
    }

    fn make_lane(dir: &Path) {
        let options = LaneOptions { file_bytes: 1 << 20, ..LaneOptions::default() };
        Lane::make(Arc::new(RealDisk), &lane_dir(dir), &options).unwrap();
    }

    #[test]
    fn an_identity_is_kept_as_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(&RealDisk, dir.path()).unwrap(), None);
        let first = incarnation(&RealDisk, dir.path()).unwrap();
        assert_eq!(incarnation(&RealDisk, dir.path()).unwrap(), first);
        make_lane(dir.path());
        assert_eq!(load(&RealDisk, dir.path()).unwrap(), None, "a crash before the identity leaves a new directory");
        for joined in [false, true] {
            let made = identity(joined);
            write(&RealDisk, dir.path(), &made).unwrap();
            assert_eq!(load(&RealDisk, dir.path()).unwrap(), Some(made));
        }
    }

    #[test]
    fn l1_a_directory_that_lost_its_log_is_not_taken_for_the_node_that_it_was() {
        let dir = tempfile::tempdir().unwrap();
        make_lane(dir.path());
        write(&RealDisk, dir.path(), &identity(true)).unwrap();
        for lost in
            [lane_dir(dir.path()).join("00000000000000000001.log"), lane_dir(dir.path()), dir.path().join("lanes")]
        {
            if lost.is_dir() { std::fs::remove_dir_all(&lost) } else { std::fs::remove_file(&lost) }.unwrap();
            let error = load(&RealDisk, dir.path()).unwrap_err();
            assert_eq!(error.code, Code::CorruptData);
            assert!(error.message.contains("lanes/0") && error.message.contains("remove-node 7"), "{error}");
        }
    }

    #[test]
    fn l1_a_directory_that_lost_its_identity_has_a_new_incarnation() {
        let dir = tempfile::tempdir().unwrap();
        let first = incarnation(&RealDisk, dir.path()).unwrap();
        write(&RealDisk, dir.path(), &identity(true)).unwrap();
        forget_incarnation(&RealDisk, dir.path()).unwrap();
        forget_incarnation(&RealDisk, dir.path()).unwrap();
        std::fs::remove_file(dir.path().join(IDENTITY_FILE)).unwrap();
        assert_ne!(incarnation(&RealDisk, dir.path()).unwrap(), first);
    }

    #[test]
    fn data_without_an_identity_is_not_taken_for_a_new_directory() {
        let dir = tempfile::tempdir().unwrap();
        make_lane(dir.path());
        assert_eq!(load(&RealDisk, dir.path()).unwrap_err().code, Code::CorruptData);
        std::fs::remove_dir_all(dir.path().join("lanes")).unwrap();
        assert_eq!(load(&RealDisk, dir.path()).unwrap(), None);
        std::fs::create_dir_all(state_dir(dir.path(), 0)).unwrap();
        std::fs::write(state_dir(dir.path(), 0).join("5.state"), "x").unwrap();
        assert_eq!(load(&RealDisk, dir.path()).unwrap_err().code, Code::CorruptData);
    }

    /// A directory as release 0.1 left it at its first start, before the log was there.
    fn cut_short(dir: &Path) {
        let text = identity(false).to_text();
        let lines = text.lines().filter(|line| !line.starts_with("replication"));
        std::fs::write(dir.join(IDENTITY_FILE), lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        std::fs::create_dir_all(segments_dir(dir, 1)).unwrap();
        std::fs::create_dir_all(lane_dir(dir).join("votes")).unwrap();
    }

    #[test]
    fn a_first_start_of_release_0_1_that_was_cut_short_has_lost_no_log() {
        let dir = tempfile::tempdir().unwrap();
        cut_short(dir.path());
        assert!(lacks_its_first_log(&RealDisk, dir.path()).unwrap());
        make_lane(dir.path());
        assert!(!lacks_its_first_log(&RealDisk, dir.path()).unwrap());
        assert!(load(&RealDisk, dir.path()).unwrap().is_some());
    }

    #[test]
    fn l1_a_directory_that_may_have_acknowledged_something_has_lost_its_log() {
        let spoil: [fn(&Path); 4] = [
            |dir| std::fs::write(lane_dir(dir).join("votes/0000000001.vote"), "x").unwrap(),
            |dir| std::fs::write(segments_dir(dir, 1).join("x.col"), "x").unwrap(),
            |dir| std::fs::remove_dir(lane_dir(dir).join("votes")).unwrap(),
            |dir| write(&RealDisk, dir, &identity(false)).unwrap(),
        ];
        for spoil in spoil {
            let dir = tempfile::tempdir().unwrap();
            cut_short(dir.path());
            spoil(dir.path());
            assert!(!lacks_its_first_log(&RealDisk, dir.path()).unwrap());
            assert_eq!(load(&RealDisk, dir.path()).unwrap_err().code, Code::CorruptData);
        }
    }

    #[test]
    fn a_second_user_is_refused_by_name_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err();
        assert!(error.message.contains(&dir.path().display().to_string()), "{error}");
        drop(first);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn who_looks_keeps_nodes_out_and_is_kept_out_by_them() {
        let dir = tempfile::tempdir().unwrap();
        assert!(lock_to_inspect(dir.path()).unwrap().is_none(), "nobody ever used it");
        let node = lock(dir.path()).unwrap();
        assert_eq!(lock_to_inspect(dir.path()).unwrap_err().code, Code::Unavailable);
        drop(node);
        let looking = [lock_to_inspect(dir.path()).unwrap(), lock_to_inspect(dir.path()).unwrap()];
        lock(dir.path()).unwrap_err();
        drop(looking);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn a_newer_or_broken_identity_is_an_error() {
        let code = |text: &str| Identity::parse(text).unwrap_err().code;
        assert_eq!(code("format_version = 2"), Code::NewerVersion);
        assert_eq!(code("format_version = 1\nshards = 4"), Code::CorruptData);
        assert_eq!(code(""), Code::CorruptData);
    }
}
