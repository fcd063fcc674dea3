//! Ends a doubt by the word of an operator.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::lanes::dirs;
use crate::lane::LaneDoubt;
use crate::{Io, Votes};

/// Has the replicas of a data directory vote again though the end of their log was discarded and the others have not told what
/// it had: how many lanes were in doubt. What a replica acknowledged in that end and nobody else has is lost by this (L1).
///
/// # Errors
/// Those of the disk. [`io::ErrorKind::InvalidData`] if a part of the log is certainly lost: that is no doubt, and nothing is
/// changed.
pub fn accept_ends(io: &Arc<dyn Io>, dir: &Path) -> io::Result<usize> {
    super::check_is_data(&**io, dir)?;
    let mut doubts = Vec::new();
    for lane in dirs(&**io, dir)? {
        let votes = lane.join("votes");
        let names = if io.exists(&votes)? { io.list(&votes)? } else { Vec::new() };
        if let Some(shard) = names.iter().find_map(|name| Votes::lost_shard_of(name)) {
            let message = format!(
                "a part of the log of shard {shard} was damaged, in the middle of what was durable, and set aside in {}: \
                 only the other nodes, or a whole copy of the log, have it",
                lane.join("damaged").display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        doubts.extend(LaneDoubt::find(io, &lane)?);
    }
    doubts.iter().try_for_each(LaneDoubt::end)?;
    Ok(doubts.len())
}

#[cfg(test)]
mod tests {
    use stratalog_proto::ShardId;

    use super::*;
    use crate::io::sim::SimDisk;

    /// A data directory with one lane.
    fn directory() -> (Arc<dyn Io>, &'static Path) {
        let (io, dir): (Arc<dyn Io>, _) = (Arc::new(SimDisk::new()), Path::new("/data"));
        io.create_dir_all(&dir.join("lanes/0/votes")).unwrap();
        (io, dir)
    }

    #[test]
    fn a_doubt_ends_durably_and_once() {
        let (io, dir) = directory();
        assert_eq!(accept_ends(&io, dir).unwrap(), 0);
        LaneDoubt::begin(&*io, &dir.join("lanes/0")).unwrap();
        assert_eq!(accept_ends(&io, dir).unwrap(), 1);
        assert!(LaneDoubt::find(&io, &dir.join("lanes/0")).unwrap().is_none());
        assert_eq!(accept_ends(&io, dir).unwrap(), 0);
    }

    #[test]
    fn l1_what_is_lost_is_no_doubt_and_stays() {
        let (io, dir) = directory();
        LaneDoubt::begin(&*io, &dir.join("lanes/0")).unwrap();
        let votes = Votes::open(Arc::clone(&io), &dir.join("lanes/0/votes")).unwrap();
        votes.mark_lost(ShardId(3)).unwrap();
        let refused = accept_ends(&io, dir).unwrap_err();
        assert!(refused.kind() == io::ErrorKind::InvalidData && refused.to_string().contains("shard 3"), "{refused}");
        assert!(LaneDoubt::find(&io, &dir.join("lanes/0")).unwrap().is_some());
    }
}
