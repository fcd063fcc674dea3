//! One job in one shard, from its asking to segments without what it erases.

use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::{Code, Error, Offset, RaftIndex, TopicId};
use stratalog_query::{Engine, TopicInfo};
use stratalog_storage::{ErasedOffsets, RecMeta, SegmentHandle};
use tokio_util::sync::CancellationToken;

use super::find::{Fence, matching};
use super::progress::{Board, ErasurePhase, Key};
use super::{Tools, blocking};
use crate::rows::rows_of_segment;
use crate::shard::{Erasure, Shard};

/// How often it is looked for rows that were moved while they were erased.
const MAX_PASSES: usize = 64;

/// How long a job leaves segments alone that somebody else has just replaced.
const PAUSE: Duration = Duration::from_millis(100);

/// A job at work.
pub(super) struct Job {
    tools: Arc<Tools>,
    board: Arc<Board>,
    shard: Arc<Shard>,
    topic: Arc<TopicInfo>,
    erasure: Erasure,
    stop: CancellationToken,
}

impl Job {
    /// # Errors
    /// [`Code::Unavailable`] for a topic that is not to be used now: it is being deleted, and the job ends with it, or it
    /// cannot be and comes back.
    pub(super) fn new(
        tools: Arc<Tools>,
        board: Arc<Board>,
        shard: Arc<Shard>,
        erasure: Erasure,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let topic = tools.topics.by_id(erasure.topic);
        let topic = topic.ok_or_else(|| Error::new(Code::Unavailable, "the topic is being deleted"))?;
        Ok(Self { tools, board, shard, topic, erasure, stop })
    }

    /// Has no segment of the manifest hold a record or row that fulfils the condition. All of it can be done again.
    ///
    /// # Errors
    /// Those of each step; what was done until then is done.
    pub(super) async fn run(&self) -> Result<(), Error> {
        self.board.phase(self.key(), ErasurePhase::Sealing, 0);
        self.tools.rows.seal_in(self.shard.id(), &self.topic).await?;
        self.tools.roller.roll_through(self.shard.id(), self.fence()).await?;
        let fence = Fence::of(&self.shard, self.topic.id, self.fence()).await?;
        for pass in 0..MAX_PASSES {
            let rows = Arc::new(self.find_rows(&fence).await?);
            if rows.is_empty() && pass > 0 {
                return Ok(());
            }
            // Replay segments first: as long as a row is in a column segment, its record can be found again.
            self.erase_records(&rows).await?;
            self.erase_rows(&rows).await?;
            if rows.is_empty() {
                return Ok(());
            }
        }
        let message =
            format!("rows of topic `{}` were moved {MAX_PASSES} times while they were erased", self.topic.name);
        Err(Error::new(Code::Conflict, message))
    }

    /// The rows of column segments for which the condition is true.
    async fn find_rows(&self, fence: &Fence) -> Result<ErasedOffsets, Error> {
        let segments = self.segments()?;
        self.board.phase(self.key(), ErasurePhase::Finding, segments.len());
        let mut rows = ErasedOffsets::default();
        for segment in segments {
            self.go_on()?;
            if segment.meta.ranges.iter().any(|range| fence.covers((range.partition, range.first))) {
                // Rows above the fence are not looked at: what they are must not matter.
                let (topic, shard, ends) = (Arc::clone(&self.topic), self.shard.id(), Arc::clone(fence.ends()));
                let snapshot = blocking(move || rows_of_segment(&topic, shard, &segment, &ends)).await?;
                let found = |(partition, offset)| {
                    rows.insert(self.topic.id, partition, offset);
                };
                matching(self.engine(), snapshot, self.erasure(), found).await?;
            }
            self.board.file_done(self.key());
        }
        Ok(rows)
    }

    /// Rewrites each replay segment that holds records to be erased.
    async fn erase_records(&self, rows: &Arc<ErasedOffsets>) -> Result<(), Error> {
        self.board.phase(self.key(), ErasurePhase::ReplaySegments, self.recs().len());
        let mut after = RaftIndex(0);
        while let Some(meta) = self.recs().into_iter().find(|meta| meta.through > after) {
            self.go_on()?;
            let found = self.find_records(&meta, rows).await?;
            if !found.erased.is_empty() && !self.erase_in_rec(&meta, rows, found.erased).await? {
                self.pause().await?;
                continue;
            }
            if found.whole {
                after = meta.through;
                self.board.file_done(self.key());
            }
        }
        Ok(())
    }

    /// Rewrites a replay segment; `false` if somebody else has replaced it meanwhile.
    async fn erase_in_rec(
        &self,
        meta: &Arc<RecMeta>,
        rows: &Arc<ErasedOffsets>,
        erased: ErasedOffsets,
    ) -> Result<bool, Error> {
        // A row that was made by other settings may not show what its record does. Without the record it could not be
        // found again, so that it goes first.
        let id = self.topic.id;
        let hidden = erased
            .iter()
            .flat_map(|((_, partition), offsets)| offsets.iter().map(move |offset| (id, partition, Offset(offset))));
        let hidden: ErasedOffsets =
            hidden.filter(|(topic, partition, at)| !rows.contains(*topic, *partition, *at)).collect();
        if !hidden.is_empty() {
            self.erase_hidden(Arc::new(hidden)).await?;
        }
        let records = erased.len();
        match self.tools.roller.erase(self.shard.id(), Arc::clone(meta), erased).await {
            Ok(()) => self.board.count(self.key(), 0, records),
            Err(error) if error.code == Code::Conflict => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Rewrites the column segments that have rows at these offsets, wherever merges put them.
    async fn erase_hidden(&self, hidden: Arc<ErasedOffsets>) -> Result<(), Error> {
        for _ in 0..MAX_PASSES {
            if self.erase_in_segments(&hidden).await? {
                return Ok(());
            }
            self.pause().await?;
        }
        Err(Error::new(Code::Conflict, "column segments are merged faster than rows of them are erased"))
    }

    /// Rewrites the column segments that have rows at these offsets. What moves meanwhile is found in the next pass.
    async fn erase_rows(&self, rows: &Arc<ErasedOffsets>) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        self.board.phase(self.key(), ErasurePhase::ColumnSegments, self.segments()?.len());
        self.erase_in_segments(rows).await.map(drop)
    }

    /// Leaves time to whoever replaces the segments that are to be rewritten.
    async fn pause(&self) -> Result<(), Error> {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = self.stop.cancelled() => {}
        }
        self.go_on()
    }

    /// Whether each segment that there was could be rewritten.
    async fn erase_in_segments(&self, rows: &Arc<ErasedOffsets>) -> Result<bool, Error> {
        let mut whole = true;
        for segment in self.segments()? {
            self.go_on()?;
            if may_hold(&segment, self.topic.id, rows) {
                match self.tools.rows.erase_in(self.shard.id(), &self.topic, &segment, rows).await {
                    Ok(erased) => self.board.count(self.key(), erased, 0),
                    Err(error) if error.code == Code::Conflict => whole = false,
                    Err(error) => return Err(error),
                }
            }
            self.board.file_done(self.key());
        }
        Ok(whole)
    }

    fn segments(&self) -> Result<Vec<Arc<SegmentHandle>>, Error> {
        self.tools.rows.segments_in(self.shard.id(), &self.topic)
    }

    /// The replay segments that hold batches of the topic at or below the fence, ascending.
    fn recs(&self) -> Vec<Arc<RecMeta>> {
        let fence = self.fence();
        let all = self.shard.read(|state| state.manifest().recs_of(self.topic.id).to_vec());
        all.into_iter().filter(|meta| meta.after < fence).collect()
    }

    /// # Errors
    /// The node stops, or another leads the shard.
    pub(super) fn go_on(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(Error::new(Code::Unavailable, "the node is stopping"));
        }
        if !self.tools.rows.leads(self.shard.id()) {
            return Err(Error::new(Code::NotLeader, "another node leads the shard now, and goes on with it"));
        }
        Ok(())
    }

    fn key(&self) -> Key {
        (self.erasure.job, self.shard.id())
    }

    pub(super) fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    pub(super) fn topic(&self) -> &Arc<TopicInfo> {
        &self.topic
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.tools.engine
    }

    pub(super) fn erasure(&self) -> &Erasure {
        &self.erasure
    }

    pub(super) fn fence(&self) -> RaftIndex {
        self.erasure.index
    }
}

/// Whether a segment has offsets among which some of these are.
fn may_hold(segment: &SegmentHandle, topic: TopicId, rows: &ErasedOffsets) -> bool {
    segment.meta.ranges.iter().any(|range| {
        rows.of(topic, range.partition)
            .is_some_and(|offsets| offsets.range_cardinality(range.first.0..range.next.0) > 0)
    })
}
