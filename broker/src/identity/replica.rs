//! Which replica of its shard a directory holds, and which ones have left it.

use std::collections::BTreeMap;
use std::path::Path;

use stratalog_proto::{Code, Error, ReplicaId, ShardId};
use stratalog_storage::{Io, write_durably};

use super::{Identity, failed, malformed, read_small, shard_dir, value, within};

pub(super) const MARK_FILE: &str = "replica";
/// The replica of a group in the directory in which its cluster began.
const FIRST: ReplicaId = ReplicaId(1);

/// What the file `replica` of a shard's directory says. It is durable before the replica writes anything, and before
/// anything of a replica that has left is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The replica that is here.
    pub(crate) replica: Option<ReplicaId>,
    /// The highest id of the replicas that were here and have left.
    pub(crate) removed: Option<ReplicaId>,
}

/// The replicas that a data directory has or had, the metadata group's included.
///
/// # Errors
/// [`Code::CorruptData`] for a file that is none; [`Code::Io`].
pub(crate) fn local_replicas(io: &dyn Io, dir: &Path, identity: &Identity) -> Result<BTreeMap<ShardId, Mark>, Error> {
    let first = Mark { replica: Some(FIRST), removed: None };
    let began = if identity.joined { 0..0 } else { 0..identity.shards + 1 };
    let mut found: BTreeMap<ShardId, Mark> = began.map(|shard| (ShardId(shard), first)).collect();
    let shards = dir.join("shards");
    let names = match io.exists(&shards) {
        Ok(true) => io.list(&shards),
        Ok(false) => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    for shard in names.map_err(|error| failed(&shards, &error))?.iter().filter_map(|name| name.parse().ok()) {
        if let Some(mark) = read(io, dir, ShardId(shard))? {
            found.insert(ShardId(shard), mark);
        }
    }
    Ok(found)
}

/// Says durably which replica of a shard is here, and which have left.
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn mark(io: &dyn Io, dir: &Path, shard: ShardId, mark: Mark) -> Result<(), Error> {
    let shard = shard_dir(dir, shard.0);
    let path = shard.join(MARK_FILE);
    let failed = |error| failed(&path, &error);
    io.create_dir_all(&shard).map_err(failed)?;
    write_durably(io, &path, &[mark.to_text().as_bytes()]).map_err(failed)
}

fn read(io: &dyn Io, dir: &Path, shard: ShardId) -> Result<Option<Mark>, Error> {
    let path = shard_dir(dir, shard.0).join(MARK_FILE);
    let text = read_small(io, &path)?;
    text.map(|text| Mark::parse(&text)).transpose().map_err(|error| within(&path, error))
}

impl Mark {
    fn to_text(self) -> String {
        let line = |key: &str, id: Option<ReplicaId>| id.map(|id| format!("{key} = {id}\n")).unwrap_or_default();
        let (replica, removed) = (line("replica", self.replica), line("removed", self.removed));
        format!(
            "# Which replica of the shard this directory holds. Changing it makes the data unusable.\n{replica}{removed}"
        )
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let id = |key: &str| match value(text, key).map(str::parse) {
            None => Ok(None),
            Some(Ok(id)) if id > 0 => Ok(Some(ReplicaId(id))),
            Some(_) => Err(malformed(&format!("`{key}` is not the id of a replica"))),
        };
        let mark = Self { replica: id("replica")?, removed: id("removed")? };
        match (mark.replica, mark.removed) {
            (None, None) => Err(malformed("it has neither `replica` nor `removed`")),
            (Some(here), Some(left)) if here <= left => {
                Err(Error::new(Code::CorruptData, format!("replica {here} has left, and is here")))
            }
            _ => Ok(mark),
        }
    }
}

#[cfg(test)]
mod tests {
    use stratalog_proto::NodeId;
    use stratalog_storage::RealDisk;
    use uuid::Uuid;

    use super::*;

    fn identity(joined: bool) -> Identity {
        Identity { cluster: Uuid::nil(), node: NodeId(1), incarnation: Uuid::nil(), shards: 2, replication: 3, joined }
    }

    #[test]
    fn a_directory_without_marks_has_the_replicas_that_its_cluster_began_with() {
        let dir = tempfile::tempdir().unwrap();
        let found = local_replicas(&RealDisk, dir.path(), &identity(false)).unwrap();
        assert_eq!(found.keys().map(|shard| shard.0).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(found.values().all(|mark| mark.replica == Some(FIRST) && mark.removed.is_none()));
        assert!(local_replicas(&RealDisk, dir.path(), &identity(true)).unwrap().is_empty());
    }

    #[test]
    fn a_mark_counts_before_what_the_directory_began_with() {
        let dir = tempfile::tempdir().unwrap();
        let moved = Mark { replica: None, removed: Some(FIRST) };
        let came = Mark { replica: Some(ReplicaId(9)), removed: Some(ReplicaId(4)) };
        mark(&RealDisk, dir.path(), ShardId(2), moved).unwrap();
        mark(&RealDisk, dir.path(), ShardId(17), came).unwrap();
        let found = local_replicas(&RealDisk, dir.path(), &identity(false)).unwrap();
        assert_eq!((found[&ShardId(2)], found[&ShardId(17)]), (moved, came));
        assert_eq!(found[&ShardId(1)].replica, Some(FIRST));
    }

    #[test]
    fn x1_a_broken_mark_is_an_error() {
        for text in ["", "replica = x", "replica = 0", "replica = 3\nremoved = 3", "removed = -1"] {
            assert_eq!(Mark::parse(text).unwrap_err().code, Code::CorruptData, "{text}");
        }
    }
}
