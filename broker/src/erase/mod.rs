//! Erasing: of the records that a topic had when somebody asked, those whose rows fulfil a condition go, and their bytes
//! with them.
//!
//! The state of each shard of the topic remembers the asking, at an entry that is the job's *fence*, and the end
//! (`shard/state/erasures`). What lies between is work on files, which the leader's [`Erasures`] does, one [`job`] of a
//! shard after the other: seal and roll through the fence, find the rows, rewrite replay segments, then column segments,
//! leave the old files of the log, and wait until all that was replaced is gone. Every step can be done again, and the
//! files from which rows are found go last, so that a job that was cut short begins again from the start. Other replicas get
//! the new segments by the same commands, and leave the old files of their logs once they have applied the end.
//!
//! Why in this order: `docs/adr/erasing-rewrites-what-holds-the-bytes.md`.

mod erasures;
mod files;
mod find;
mod job;
mod progress;
mod records;
mod runner;

use std::sync::Arc;

use stratalog_proto::{Code, Error};
use stratalog_query::Engine;

use crate::meta::Topics;
use crate::replay::Roller;
use crate::rows::Rows;
use crate::shards::Shards;

pub(crate) use erasures::Erasures;
pub use progress::{ErasureInfo, ErasurePhase, ErasureState};

/// What erasing works with.
pub(crate) struct Tools {
    pub(crate) shards: Arc<Shards>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) rows: Arc<Rows>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) roller: Arc<Roller>,
}

/// Runs what blocks where that harms nobody.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("a step of an erasure failed: {panic}"))))
}
