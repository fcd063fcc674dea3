use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use stratalog_proto::ShardId;

use super::LaneError;
use crate::io::{is_full, remove_quietly, temporary_name, write_synced};
use crate::sabotage::{Bug, planted};
use crate::{Io, OpenMode};

/// `SLG-VOTE`: the first bytes of a vote file.
const MAGIC: [u8; 8] = *b"SLG-VOTE";
const VERSION: u32 = 1;
/// Magic, version, shard, length, checksum.
const HEADER_BYTES: usize = 24;
/// The most bytes of a vote.
const MAX_VOTE_BYTES: usize = 1 << 16;
/// The name of the reserve.
const RESERVE: &str = "reserve";
/// Its bytes: a block of the file system, and more than any vote that is saved takes today.
const RESERVE_BYTES: usize = 4096;

/// The votes of a node's shards: one small file each, durable before [`Votes::save`] returns.
///
/// A lost or altered vote lets a replica vote twice in a term, so damage is always an error, never "no vote".
///
/// A node has to vote before it can lead, and to lead before anything can be dropped: a file of zeroes, the reserve, holds
/// the space of one vote for the time when the device is full.
#[derive(Debug)]
pub struct Votes {
    pub(super) io: Arc<dyn Io>,
    pub(super) dir: PathBuf,
    /// One writer at a time: two would share a temporary name, or the reserve.
    writing: Mutex<()>,
}

impl Votes {
    /// Opens the directory of votes, creating it if it is not there, removes what a crash left half written, and makes the
    /// reserve if there is room.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(io: Arc<dyn Io>, dir: &Path) -> Result<Self, LaneError> {
        io.create_dir_all(dir)?;
        for name in io.list(dir)?.iter().filter(|name| name.ends_with(".tmp")) {
            io.remove(&dir.join(name))?;
        }
        let votes = Self::to_look_at(io, dir);
        votes.keep_reserve();
        // What is loaded from here on was durable, even if the process died before it had made it so.
        votes.io.sync_dir(dir)?;
        Ok(votes)
    }

    /// The votes in a directory that is there, to look at: nothing is written.
    pub(crate) fn to_look_at(io: Arc<dyn Io>, dir: &Path) -> Self {
        Self { io, dir: dir.to_owned(), writing: Mutex::new(()) }
    }

    /// The shard of which a file of this name has the vote.
    pub(crate) fn shard_of(name: &str) -> Option<ShardId> {
        name.strip_suffix(".vote")?.parse().ok().map(ShardId)
    }

    /// Whether a file of this name holds space only.
    pub(crate) fn is_reserve(name: &str) -> bool {
        name == RESERVE
    }

    /// Replaces the shard's vote; it is durable when this returns `Ok`. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk. Whether the old or the new vote survives a crash is then unknown; only after one that
    /// [`is_full`](LaneError::is_full), the old one is still there and the same may be tried again.
    ///
    /// # Panics
    /// If the vote has more than 64 KiB.
    pub fn save(&self, shard: ShardId, vote: &[u8]) -> Result<(), LaneError> {
        assert!(vote.len() <= MAX_VOTE_BYTES, "a vote has at most {MAX_VOTE_BYTES} bytes, not {}", vote.len());
        if planted(Bug::VoteNotPersisted) {
            return Ok(());
        }
        let _writing = self.writing.lock();
        let path = self.path(shard);
        let temporary = temporary_name(&path);
        let parts: [&[u8]; 2] = [&header(shard, vote), vote];
        let written = match write_synced(&*self.io, &temporary, &parts) {
            Err(error) if is_full(&error) => self.write_over_reserve(&temporary, &parts.concat(), error),
            written => written,
        };
        let replaced = written.and_then(|()| self.io.rename(&temporary, &path));
        replaced.inspect_err(|_| remove_quietly(&*self.io, &temporary))?;
        // The new vote is in its place now: a full device is no reason to try once more.
        self.io.sync_dir(&self.dir).map_err(io::Error::other)?;
        self.keep_reserve();
        Ok(())
    }

    /// Writes into the space of the reserve, which becomes the file `temporary`; `full` is why.
    fn write_over_reserve(&self, temporary: &Path, bytes: &[u8], full: io::Error) -> io::Result<()> {
        remove_quietly(&*self.io, temporary);
        let reserve = self.dir.join(RESERVE);
        if bytes.len() > RESERVE_BYTES || !self.io.exists(&reserve)? {
            return Err(full);
        }
        self.io.rename(&reserve, temporary)?;
        // Nothing of the vote may ever be known as the reserve, which is written over.
        self.io.sync_dir(&self.dir)?;
        let file = self.io.open(temporary, OpenMode::Write)?;
        file.write_at(0, bytes)?;
        file.truncate(bytes.len() as u64)?;
        file.sync_all()
    }

    /// Makes the reserve if it is not there. A device that is too full for it, or fails, gets another try after the next
    /// vote.
    fn keep_reserve(&self) {
        let reserve = self.dir.join(RESERVE);
        if self.io.exists(&reserve).unwrap_or(true) {
            return;
        }
        // Under its name only once it is whole: a shorter one would have no room for a vote.
        let temporary = temporary_name(&reserve);
        let made = write_synced(&*self.io, &temporary, &[&[0; RESERVE_BYTES]]);
        if made.and_then(|()| self.io.rename(&temporary, &reserve)).is_err() {
            remove_quietly(&*self.io, &temporary);
        }
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

    /// Forgets the vote of a shard, durably: its replica has left this node for ever. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove(&self, shard: ShardId) -> Result<(), LaneError> {
        let _writing = self.writing.lock();
        let path = self.path(shard);
        if self.io.exists(&path)? {
            self.io.remove(&path)?;
            self.io.sync_dir(&self.dir)?;
        }
        self.end_loss(shard)
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
    use crate::io::sim::{Op, SimDisk};
    use crate::write_durably;

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
            Op::Sync if path == Path::new("/votes") => Err(std::io::ErrorKind::Other.into()),
            _ => Ok(()),
        });
        votes_of_victim.save(SHARD, b"second").unwrap_err();
        let disk = disk.after_kill();
        assert_eq!(votes(&disk).load(SHARD).unwrap().unwrap(), "second");
        assert_eq!(votes(&disk.after_power_cut(|| false)).load(SHARD).unwrap().unwrap(), "second");
    }

    #[test]
    fn a_vote_is_saved_on_a_full_disk_and_the_space_for_the_next_one_is_kept() {
        let disk = SimDisk::new();
        votes(&disk).save(SHARD, b"before").unwrap();
        disk.set_capacity(disk.used_bytes());
        let votes_of_a_full_node = votes(&disk);
        votes_of_a_full_node.save(SHARD, b"first").unwrap();
        let after = disk.after_power_cut(|| false);
        assert_eq!(votes(&after).load(SHARD).unwrap().unwrap(), "first");
        for vote in ["second", "third"] {
            votes_of_a_full_node.save(SHARD, vote.as_bytes()).unwrap();
            assert_eq!(votes(&disk.after_power_cut(|| false)).load(SHARD).unwrap().unwrap(), vote);
        }
    }

    #[test]
    fn a_vote_that_a_full_disk_refused_leaves_the_old_one_and_no_other_file() {
        let disk = SimDisk::new();
        let votes_of_victim = votes(&disk);
        votes_of_victim.save(SHARD, b"first").unwrap();
        disk.remove(Path::new("/votes/reserve")).unwrap();
        disk.sync_dir(Path::new("/votes")).unwrap();
        let used = disk.used_bytes();
        disk.set_capacity(used);
        for _ in 0..3 {
            let refused = votes_of_victim.save(SHARD, b"second").unwrap_err();
            assert!(refused.is_full(), "{refused}");
            assert_eq!(disk.paths(), [Path::new("/votes/0000000007.vote")]);
        }
        assert_eq!(votes(&disk.after_power_cut(|| true)).load(SHARD).unwrap().unwrap(), "first");
        disk.set_capacity(u64::MAX);
        votes_of_victim.save(SHARD, b"second").unwrap();
        assert_eq!(votes(&disk.after_power_cut(|| false)).load(SHARD).unwrap().unwrap(), "second");
        assert!(disk.exists(Path::new("/votes/reserve")).unwrap());
    }

    #[test]
    fn a_full_disk_after_the_vote_was_replaced_is_no_reason_to_try_again() {
        let disk = SimDisk::new();
        let votes_of_victim = votes(&disk);
        votes_of_victim.save(SHARD, b"first").unwrap();
        disk.set_fault(|op, path| match op {
            Op::Sync if path == Path::new("/votes") => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        });
        assert!(!votes_of_victim.save(SHARD, b"second").unwrap_err().is_full());
    }

    #[test]
    fn a_power_cut_at_any_step_of_a_save_into_the_reserve_leaves_the_old_vote_or_the_new_one() {
        let mut outcomes = std::collections::BTreeSet::new();
        for steps in 0..24 {
            let disk = SimDisk::new();
            let votes_of_victim = votes(&disk);
            votes_of_victim.save(SHARD, b"first").unwrap();
            let left = std::sync::atomic::AtomicI32::new(steps);
            disk.set_capacity(disk.used_bytes());
            disk.set_fault(move |_, _| match left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) {
                1.. => Ok(()),
                _ => Err(io::Error::other("the power is gone")),
            });
            let saved = votes_of_victim.save(SHARD, b"second");
            for seed in 0..8u32 {
                let mut bits = seed.wrapping_mul(2_654_435_761);
                let after = disk.after_power_cut(|| {
                    bits = bits.rotate_left(7).wrapping_mul(0x9e37_79b9).wrapping_add(1);
                    bits & 1 == 1
                });
                let found = votes(&after).load(SHARD).unwrap().expect("a vote was saved");
                assert!(found == "second" || found == "first" && saved.is_err(), "{found:?} after {saved:?}");
                outcomes.insert(found);
                votes(&after).save(SHARD, b"third").unwrap();
            }
        }
        assert_eq!(outcomes.len(), 2, "both ends were seen");
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
