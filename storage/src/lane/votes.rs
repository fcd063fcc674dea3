use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use stratalog_proto::ShardId;

use super::LaneError;
use crate::sabotage::{Bug, planted};
use crate::{Io, OpenMode, write_durably};

/// `SLG-VOTE`: the first bytes of a vote file.
const MAGIC: [u8; 8] = *b"SLG-VOTE";
const VERSION: u32 = 1;
/// Magic, version, shard, length, checksum.
const HEADER_BYTES: usize = 24;
/// The most bytes of a vote.
const MAX_VOTE_BYTES: usize = 1 << 16;

/// The votes of a node's shards: one small file each, durable before [`Votes::save`] returns.
///
/// A lost or altered vote lets a replica vote twice in a term, so damage is always an error, never "no vote".
#[derive(Debug)]
pub struct Votes {
    io: Arc<dyn Io>,
    dir: PathBuf,
    /// One writer at a time: two would share a temporary name.
    writing: Mutex<()>,
}

impl Votes {
    /// Opens the directory of votes, creating it if it is not there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(io: Arc<dyn Io>, dir: &Path) -> Result<Self, LaneError> {
        io.create_dir_all(dir)?;
        // What is loaded from here on was durable, even if the process died before it had made it so.
        io.sync_dir(dir)?;
        Ok(Self { io, dir: dir.to_owned(), writing: Mutex::new(()) })
    }

    /// Replaces the shard's vote; it is durable when this returns `Ok`. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk. Whether the old or the new vote survives a crash is then unknown.
    ///
    /// # Panics
    /// If the vote has more than 64 KiB.
    pub fn save(&self, shard: ShardId, vote: &[u8]) -> Result<(), LaneError> {
        assert!(vote.len() <= MAX_VOTE_BYTES, "a vote has at most {MAX_VOTE_BYTES} bytes, not {}", vote.len());
        if planted(Bug::VoteNotPersisted) {
            return Ok(());
        }
        let _writing = self.writing.lock();
        write_durably(&*self.io, &self.path(shard), &[&header(shard, vote), vote])?;
        Ok(())
    }

    /// The shard's vote; `None` if none was ever saved. Blocks on the disk.
    ///
    /// # Errors
    /// [`LaneError::Corrupt`] for a file that is not exactly a vote of this shard.
    pub fn load(&self, shard: ShardId) -> Result<Option<Bytes>, LaneError> {
        let path = self.path(shard);
        if !self.io.exists(&path)? {
            return Ok(None);
        }
        let file = self.io.open(&path, OpenMode::Read)?;
        let corrupt = |what: &str| LaneError::Corrupt { path: path.clone(), offset: 0, what: what.to_owned() };
        let len = file.len()?;
        if len < HEADER_BYTES as u64 || len > (HEADER_BYTES + MAX_VOTE_BYTES) as u64 {
            return Err(corrupt("a vote file has 24 to 65560 bytes"));
        }
        let bytes = file.view(0..len)?;
        if bytes[..8] != MAGIC {
            return Err(corrupt("it does not start with SLG-VOTE"));
        }
        let version = u32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes"));
        let vote = bytes.slice(HEADER_BYTES..);
        if version != VERSION {
            return Err(LaneError::NewerVersion { path, version });
        }
        if bytes[..HEADER_BYTES] != header(shard, &vote) {
            return Err(corrupt("its checksum, length or shard does not match"));
        }
        Ok(Some(vote))
    }

    fn path(&self, shard: ShardId) -> PathBuf {
        self.dir.join(format!("{:010}.vote", shard.0))
    }
}

/// The bytes in front of a vote.
fn header(shard: ShardId, vote: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&shard.0.to_le_bytes());
    header[16..20].copy_from_slice(&(vote.len() as u32).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..20]);
    crc.update(vote);
    header[20..].copy_from_slice(&crc.finalize().to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::SimDisk;

    const SHARD: ShardId = ShardId(7);

    fn votes(disk: &SimDisk) -> Votes {
        Votes::open(Arc::new(disk.clone()), Path::new("/votes")).unwrap()
    }

    #[test]
    fn a_vote_survives_a_power_cut_as_soon_as_it_is_saved() {
        let disk = SimDisk::new();
        assert_eq!(votes(&disk).load(SHARD).unwrap(), None);
        for vote in ["", "first", "second"] {
            votes(&disk).save(SHARD, vote.as_bytes()).unwrap();
            let after = disk.after_power_cut(|| false);
            assert_eq!(votes(&after).load(SHARD).unwrap().unwrap(), vote);
            assert_eq!(votes(&after).load(ShardId(8)).unwrap(), None);
        }
    }

    #[test]
    fn a_vote_that_was_loaded_survives_a_power_cut_even_if_saving_it_was_cut_short() {
        let disk = SimDisk::new();
        votes(&disk).save(SHARD, b"first").unwrap();
        let votes_of_victim = votes(&disk);
        disk.set_fault(|op, path| match op {
            crate::io::sim::Op::Sync if path == Path::new("/votes") => Err(std::io::ErrorKind::Other.into()),
            _ => Ok(()),
        });
        votes_of_victim.save(SHARD, b"second").unwrap_err();
        let disk = disk.after_kill();
        assert_eq!(votes(&disk).load(SHARD).unwrap().unwrap(), "second");
        assert_eq!(votes(&disk.after_power_cut(|| false)).load(SHARD).unwrap().unwrap(), "second");
    }

    #[test]
    fn a_vote_that_was_altered_is_an_error_and_never_no_vote() {
        let disk = SimDisk::new();
        votes(&disk).save(SHARD, b"term 5, for replica 3").unwrap();
        let path = Path::new("/votes/0000000007.vote");
        let whole = disk.edit(path, |bytes| bytes.clone());
        for at in 0..whole.len() {
            disk.edit(path, |bytes| bytes[at] ^= 1);
            votes(&disk).load(SHARD).unwrap_err();
            disk.edit(path, |bytes| bytes[at] ^= 1);
            disk.edit(path, |bytes| bytes.truncate(at));
            assert!(matches!(votes(&disk).load(SHARD), Err(LaneError::Corrupt { .. })), "cut at {at}");
            disk.edit(path, |bytes| bytes.clone_from(&whole));
        }
        disk.edit(path, |bytes| bytes.push(0));
        votes(&disk).load(SHARD).unwrap_err();
        disk.edit(path, |bytes| bytes.fill(0));
        votes(&disk).load(SHARD).unwrap_err();
    }

    #[test]
    fn a_vote_of_another_shard_is_an_error() {
        let disk = SimDisk::new();
        votes(&disk).save(SHARD, b"vote").unwrap();
        disk.rename(Path::new("/votes/0000000007.vote"), Path::new("/votes/0000000008.vote")).unwrap();
        assert!(matches!(votes(&disk).load(ShardId(8)), Err(LaneError::Corrupt { .. })));
    }

    #[test]
    fn a_file_of_version_1_is_read_for_ever() {
        let disk = SimDisk::new();
        let votes = votes(&disk);
        write_durably(&disk, &votes.path(SHARD), &[include_bytes!("../../tests/fixtures/vote-v1.vote")]).unwrap();
        assert_eq!(votes.load(SHARD).unwrap().unwrap(), "term 5, for replica 3");
    }
}
