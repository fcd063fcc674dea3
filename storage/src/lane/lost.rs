//! Which replicas lack a part of their logs, because the lane was damaged: said beside the votes, for the start after it, too.
//!
//! Unlike a [doubt](super::LaneDoubt), this is no suspicion. A replica of which it is said lacks what it acknowledged, as
//! much as there may be, changes of its group's members included.

use std::path::PathBuf;

use stratalog_proto::ShardId;

use super::{LaneError, Votes};
use crate::write_durably;

const EXTENSION: &str = "lost";

impl Votes {
    /// Says that a part of the log of the shard's replica is lost: durable when this returns, which has to be before anything
    /// of it is. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn mark_lost(&self, shard: ShardId) -> Result<(), LaneError> {
        Ok(write_durably(&*self.io, &self.lost_path(shard), &[])?)
    }

    /// Whether a part of the log of the shard's replica is lost. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn is_lost(&self, shard: ShardId) -> Result<bool, LaneError> {
        Ok(self.io.exists(&self.lost_path(shard))?)
    }

    /// The replica lacks nothing any more. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk: it may come back at the next start.
    pub fn end_loss(&self, shard: ShardId) -> Result<(), LaneError> {
        let path = self.lost_path(shard);
        if self.io.exists(&path)? {
            self.io.remove(&path)?;
            self.io.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// The shard of which a file of this name says it.
    pub(crate) fn lost_shard_of(name: &str) -> Option<ShardId> {
        name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok().map(ShardId)
    }

    fn lost_path(&self, shard: ShardId) -> PathBuf {
        self.dir.join(format!("{:010}.{EXTENSION}", shard.0))
    }
}
