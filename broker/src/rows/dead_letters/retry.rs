//! One retry, segment by segment.

use std::collections::{BTreeMap, HashSet};
use std::ops::AddAssign;
use std::sync::Arc;

use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::{Code, Error, Offset, PartitionId, SegmentId, ShardId, TopicId};
use stratalog_query::TopicInfo;
use stratalog_storage::{SegmentHandle, SegmentMeta};

use super::letters::{Letter, Outcome, letters};
use super::turns::Turn;
use crate::rows::merge::{Edit, Merger, Offsets};
use crate::rows::runtime::Rows;
use crate::rows::shard_rows::ShardRows;

/// Records that are read from the log at once.
const READ_AT_ONCE: usize = 256;
/// A segment is rewritten as soon as the rows that came of its letters take so many bytes, and once more later.
const MAX_OUTCOME_BYTES: usize = 64 << 20;
/// How often a segment may be replaced under a retry before it gives up.
const MAX_CONFLICTS: u32 = 16;

/// What became of dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// How many were tried.
    pub tried: u64,
    /// How many of them are rows of their own now.
    pub mended: u64,
}

impl Retried {
    /// How many are dead still, or dead for another reason.
    pub fn dead(&self) -> u64 {
        self.tried - self.mended
    }
}

impl AddAssign for Retried {
    fn add_assign(&mut self, other: Self) {
        self.tried += other.tried;
        self.mended += other.mended;
    }
}

impl Rows {
    /// Makes rows of a topic's dead letters in a shard once more, by its settings of now.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for a topic without rows; [`Code::Conflict`] while the topic is being retried, and
    /// [`Code::Overloaded`] while several others are; those of sealing it and of rewriting segments; and those of
    /// reading records, once all others were tried. What was mended until then is mended.
    pub(crate) async fn retry_dead_letters_in(&self, shard: ShardId, topic: &TopicInfo) -> Result<Retried, Error> {
        self.retry_in_steps(shard, topic, MAX_OUTCOME_BYTES).await
    }

    pub(super) async fn retry_in_steps(
        &self,
        shard: ShardId,
        topic: &TopicInfo,
        step_bytes: usize,
    ) -> Result<Retried, Error> {
        if topic.config.format == Format::Raw {
            let message = format!("topic `{}` has no dead letters: records of a raw topic are no rows", topic.name);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let turn = self.retries.take(topic)?;
        self.seal_in(shard, topic).await?;
        let led = self.replicas.led_in(shard)?;
        let mut retry = Retry::new(self.merger.clone(), led, topic, step_bytes, turn);
        retry.run().await?;
        let Retry { retried, unreadable, .. } = retry;
        unreadable.map_or(Ok(retried), |why| Err(not_all(topic, retried, &why)))
    }
}

/// Adds up how many records could not be read; of the reasons the first is kept.
fn add(to: &mut Option<(u64, Error)>, more: Option<(u64, Error)>) {
    match (to.as_mut(), more) {
        (Some((count, _)), Some((more, _))) => *count += more,
        (None, more) => *to = more,
        (Some(_), None) => {}
    }
}

fn not_all(topic: &TopicInfo, retried: Retried, (count, why): &(u64, Error)) -> Error {
    let Retried { tried, mended } = retried;
    let message = format!(
        "{count} dead letters of topic `{}` cannot be tried, since their records cannot be read: {}; of {tried} in all \
         {mended} are rows of their own now",
        topic.name, why.message
    );
    Error::new(why.code, message)
}

/// A retry in one shard.
struct Retry {
    merger: Arc<Merger>,
    shard: Arc<ShardRows>,
    topic: TopicId,
    config: TopicConfig,
    /// What may come of letters before a segment is rewritten.
    step_bytes: usize,
    tried: Offsets,
    /// Segments all of whose dead rows were tried.
    finished: HashSet<SegmentId>,
    retried: Retried,
    unreadable: Option<(u64, Error)>,
    turn: Arc<Turn>,
}

/// What was done with a part of a segment's letters.
struct Walked {
    tried: Offsets,
    count: u64,
    outcome: Outcome,
    /// Whether there are no further ones.
    whole: bool,
}

impl Retry {
    fn new(merger: Arc<Merger>, shard: Arc<ShardRows>, topic: &TopicInfo, step_bytes: usize, turn: Arc<Turn>) -> Self {
        Self {
            step_bytes,
            merger,
            shard,
            topic: topic.id,
            config: topic.config.clone(),
            tried: Offsets::new(),
            finished: HashSet::new(),
            retried: Retried::default(),
            unreadable: None,
            turn,
        }
    }

    async fn run(&mut self) -> Result<(), Error> {
        let mut conflicts = 0;
        while let Some(segment) = self.next_segment() {
            let walked = self.walk(segment.clone()).await?;
            match self.replace(&segment.meta, &walked).await {
                Ok(()) => self.count(&segment.meta, walked),
                // It was merged or dropped meanwhile, and its letters are elsewhere.
                Err(error) if error.code == Code::Conflict && conflicts < MAX_CONFLICTS => conflicts += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The oldest segment that has letters to try.
    fn next_segment(&self) -> Option<Arc<SegmentHandle>> {
        let log = &self.shard.log;
        let has_letters = |meta: &Arc<SegmentMeta>| meta.dead_rows > 0 && !self.finished.contains(&meta.id);
        let (segments, ()) = self.shard.files.resolve(|| {
            let manifest = log.manifest();
            let live = manifest.topic(self.topic).into_iter().flat_map(|live| live.segments.values());
            (
                live.filter(|meta| has_letters(meta))
                    .min_by_key(|meta| meta.min_time_ns)
                    .cloned()
                    .into_iter()
                    .collect(),
                (),
            )
        });
        segments.into_iter().next()
    }

    async fn walk(&self, segment: Arc<SegmentHandle>) -> Result<Walked, Error> {
        let (shard, topic, config) = (self.shard.clone(), self.topic, self.config.clone());
        let (tried, step_bytes, turn) = (self.tried.clone(), self.step_bytes, self.turn.clone());
        let walking = tokio::task::spawn_blocking(move || {
            let mut walked = Walked { tried, count: 0, outcome: Outcome::default(), whole: true };
            let walking = walked.walk(&shard, topic, &config, &segment, step_bytes);
            drop(turn);
            walking.map(|()| walked)
        });
        walking.await.unwrap_or_else(|panic| Err(failed(topic, &panic)))
    }

    /// Puts what came of letters in their place. A rewrite goes on when its caller is gone, and keeps the turn as long.
    async fn replace(&self, meta: &Arc<SegmentMeta>, walked: &Walked) -> Result<(), Error> {
        if walked.outcome.rows.is_empty() {
            return Ok(());
        }
        let edit = Edit { replace: walked.outcome.rows.clone(), ..Edit::default() };
        let (merger, shard, topic) = (self.merger.clone(), self.shard.clone(), self.topic);
        let (inputs, turn) = ([meta.clone()], self.turn.clone());
        let rewriting = tokio::spawn(async move {
            let rewritten = merger.rewrite(&shard, topic, &inputs, edit).await;
            drop(turn);
            rewritten
        });
        rewriting.await.unwrap_or_else(|panic| Err(failed(topic, &panic))).map(|_| ())
    }

    fn count(&mut self, meta: &SegmentMeta, walked: Walked) {
        self.tried = walked.tried;
        self.retried += Retried { tried: walked.count, mended: walked.outcome.mended };
        add(&mut self.unreadable, walked.outcome.unreadable);
        if walked.whole {
            self.finished.insert(meta.id);
        }
    }
}

fn failed(topic: TopicId, panic: &tokio::task::JoinError) -> Error {
    Error::new(Code::Internal, format!("trying dead letters of topic {topic} again failed: {panic}"))
}

impl Walked {
    /// Tries the letters of a segment that were not tried, until what came of them takes `step_bytes`. Blocks.
    fn walk(
        &mut self,
        shard: &ShardRows,
        topic: TopicId,
        config: &TopicConfig,
        segment: &SegmentHandle,
        step_bytes: usize,
    ) -> Result<(), Error> {
        let reader = segment.reader()?;
        let starts: BTreeMap<PartitionId, Offset> =
            shard.log.partitions(topic).into_iter().map(|info| (info.partition, info.log_start)).collect();
        for granule in 0..reader.granules() {
            let is_wanted = |letter: &Letter| {
                let is_there = starts.get(&letter.partition).is_some_and(|start| *start <= letter.offset);
                is_there && !self.tried.get(&letter.partition).is_some_and(|tried| tried.contains(letter.offset.0))
            };
            for some in letters(&reader, granule, is_wanted)?.chunks(READ_AT_ONCE) {
                if self.outcome.bytes >= step_bytes {
                    self.whole = false;
                    return Ok(());
                }
                self.outcome.add(&*shard.log, topic, config, some);
                self.count += some.len() as u64;
                some.iter().for_each(|letter| note(&mut self.tried, letter));
            }
        }
        Ok(())
    }
}

fn note(tried: &mut Offsets, letter: &Letter) {
    tried.entry(letter.partition).or_default().insert(letter.offset.0);
}
