//! Column segments of which no replica has a whole file: their rows are made again of the records in the log, and take their
//! place (L5).
//!
//! - [`lost`] says which rows the lost segments had, as far as their entries in the manifest tell;
//! - [`make`] reads the log of the topic once and builds new segments of those rows;
//! - [`Remaker`] does it where a shard is led, and makes it count with a Merge, which checks that no row is lost or doubled
//!   (S1, S2).
//!
//! It is the last resort: rows are made by the topic's settings of now. Where these make other rows than those that were
//! lost, as their number tells, nothing is changed.

mod lost;
mod make;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stratalog_proto::{Code, Error, ShardId, TopicId};
use stratalog_storage::SegmentMeta;
use tokio_util::sync::CancellationToken;

use super::log::HostedTopic;
use super::merge::{Built, commit, log_starts};
use super::options::RowsOptions;
use super::replica::Replicas;
use super::shard_rows::ShardRows;
use crate::trouble::Trouble;
use lost::Lost;
use make::{Job, Made, NotMade};

/// How often it is looked for what is lost.
const TICK: Duration = Duration::from_secs(1);

/// Whether a segment that has to be read first, for rows at the same offsets, is not here: it is still to be fetched, or it will
/// be found that it is lost, too, and is made again with these.
fn waits_for_others(missing: &[Arc<SegmentMeta>], lost: &[Arc<SegmentMeta>]) -> bool {
    let spans = Lost::of(lost);
    let is_lost = |id| lost.iter().any(|meta| meta.id == id);
    missing.iter().any(|meta| !is_lost(meta.id) && spans.overlaps(meta))
}

/// Makes rows of lost segments again, one topic after the other.
pub(super) struct Remaker {
    options: RowsOptions,
    stop: CancellationToken,
    /// Lost segments whose rows were made again.
    pub(super) segments: AtomicU64,
}

impl Remaker {
    pub(super) fn new(options: RowsOptions, stop: CancellationToken) -> Self {
        Self { options, stop, segments: AtomicU64::new(0) }
    }

    /// Looks after the shards that are led here, until it is stopped.
    pub(super) async fn run(self: Arc<Self>, replicas: Arc<Replicas>) {
        let mut troubles: BTreeMap<(ShardId, TopicId), Trouble> = BTreeMap::new();
        while self.stop.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
            for shard in replicas.led() {
                let id = shard.log.id();
                let topics = if shard.files.has_lost() { shard.log.topics() } else { Vec::new() };
                troubles.retain(|(of, topic), _| *of != id || topics.iter().any(|hosted| hosted.id == *topic));
                for topic in topics {
                    let live = shard.segments(topic.id);
                    let lost = shard.files.lost(live.iter());
                    let trouble = troubles.entry((id, topic.id)).or_default();
                    if !lost.is_empty()
                        && !trouble.is_waiting()
                        && !waits_for_others(&shard.files.missing(live.iter()), &lost)
                    {
                        self.try_remake(&shard, &topic, lost, trouble).await;
                    }
                }
            }
        }
    }

    async fn try_remake(
        &self,
        shard: &Arc<ShardRows>,
        topic: &HostedTopic,
        lost: Vec<Arc<SegmentMeta>>,
        trouble: &mut Trouble,
    ) {
        let (id, topic_id, segments) = (shard.log.id(), topic.id, lost.len());
        match self.remake(shard, topic, lost).await {
            Ok(rows) => {
                tracing::warn!(shard = %id, topic = %topic_id, segments, rows,
                    "L5: no replica had column segments whole; their rows were made again of the log");
                trouble.is_over();
            }
            Err(error) if trouble.failed(&error) => tracing::error!(shard = %id, topic = %topic_id, segments, %error,
                "L5: no replica has column segments whole, and their rows could not be made again; it is tried ever more seldom"),
            Err(error) => tracing::debug!(shard = %id, topic = %topic_id, %error, "lost rows could not be made again"),
        }
    }

    /// Puts new segments in the place of lost ones of a topic; how many rows they have.
    ///
    /// # Errors
    /// [`Code::Conflict`] if one of them is live no longer; [`Code::CorruptData`] if the log does not have as many rows; those
    /// of reading, of the disk and of proposing. Unless the outcome is unknown, nothing has changed.
    pub(super) async fn remake(
        &self,
        shard: &Arc<ShardRows>,
        topic: &HostedTopic,
        lost: Vec<Arc<SegmentMeta>>,
    ) -> Result<u64, Error> {
        let _one_at_a_time = shard.merging.lock().await;
        shard.check_leads()?;
        let starts = log_starts(shard, topic.id);
        let is_lost = |meta: &Arc<SegmentMeta>| lost.iter().any(|other| other.id == meta.id);
        let (others, still_live) = shard.files.resolve(|| {
            let (live, others): (Vec<_>, Vec<_>) = shard.segments(topic.id).into_iter().partition(is_lost);
            (others, live.len())
        });
        if still_live < lost.len() {
            let message = format!("lost segments of topic {} have left the manifest meanwhile", topic.id);
            return Err(Error::new(Code::Conflict, message));
        }
        let job = Job {
            shard: shard.clone(),
            topic: topic.clone(),
            lost: lost.clone(),
            others,
            log_starts: starts.iter().copied().collect(),
            options: self.options.clone(),
            stop: self.stop.clone(),
        };
        let made = tokio::task::spawn_blocking(move || make::make(&job)).await.unwrap_or_else(|panic| {
            shard.garbage.suspect();
            let error = Error::new(Code::Internal, format!("making lost rows again failed: {panic}"));
            Err(NotMade { error, written: Vec::new() })
        });
        let Made { segments, rows, trimmed } = match made {
            Ok(made) => made,
            Err(NotMade { error, written }) => {
                shard.discard(written).await;
                return Err(error);
            }
        };
        commit(shard, topic.id, &lost, &starts, Built { segments, trimmed, erased: 0, replaced: 0 }).await?;
        self.segments.fetch_add(lost.len() as u64, Ordering::Relaxed);
        Ok(rows)
    }
}
