//! Finding: which rows fulfil the condition of a job.

use std::collections::BTreeMap;
use std::sync::Arc;

use stratalog_proto::batch::BatchHeader;
use stratalog_proto::{Error, Offset, PartitionId, RaftIndex, TopicId};
use stratalog_query::{Engine, TopicSnapshot};
use stratalog_storage::RecMeta;

use super::blocking;
use crate::rows::{Position, declared_schema};
use crate::shard::{Erasure, Shard};

/// Which records of a topic lie at or below a job's fence: those with lower offsets than these, by partition.
#[derive(Debug, Default)]
pub(super) struct Fence(Arc<BTreeMap<PartitionId, Offset>>);

impl Fence {
    /// The offsets that entries up to `index` gave, of a shard that is rolled through there. Records below log start count,
    /// too: their bytes may still be there.
    ///
    /// # Errors
    /// Those of reading the replay segment in which the fence lies.
    pub(super) async fn of(shard: &Arc<Shard>, topic: TopicId, index: RaftIndex) -> Result<Self, Error> {
        let (recs, mut ends) = shard.read(|state| {
            let partitions = state.topic(topic).into_iter().flat_map(|hosted| hosted.partitions());
            let starts: BTreeMap<_, _> = partitions.map(|(id, partition)| (id, partition.log_start())).collect();
            (state.manifest().recs_of(topic).to_vec(), starts)
        });
        let mut raise = |partition: PartitionId, end: Offset| {
            let known = ends.entry(partition).or_insert(Offset(0));
            *known = end.max(*known);
        };
        for meta in recs.iter().filter(|meta| meta.after < index) {
            if meta.through <= index {
                let ranges = meta.topic(topic).into_iter().flat_map(|of| &of.ranges);
                ranges.for_each(|range| raise(range.partition, range.next));
                continue;
            }
            let (shard, meta) = (Arc::clone(shard), Arc::clone(meta));
            let within = blocking(move || ends_through(&shard, &meta, topic, index)).await?;
            within.into_iter().for_each(|(partition, end)| raise(partition, end));
        }
        Ok(Self(Arc::new(ends)))
    }

    /// Whether a record was there when the job was asked for.
    pub(super) fn covers(&self, (partition, offset): Position) -> bool {
        self.0.get(&partition).is_some_and(|end| offset < *end)
    }

    /// One past the highest of these offsets, by partition.
    pub(super) fn ends(&self) -> &Arc<BTreeMap<PartitionId, Offset>> {
        &self.0
    }
}

/// The ends of partitions at an entry within a replay segment.
fn ends_through(
    shard: &Shard,
    meta: &Arc<RecMeta>,
    topic: TopicId,
    index: RaftIndex,
) -> Result<BTreeMap<PartitionId, Offset>, Error> {
    let mut ends = BTreeMap::new();
    let reader = shard.recs().reader(meta)?;
    for batch in reader.ordered_of(|of| (of == topic).then_some(meta.after))? {
        let batch = batch?;
        if batch.index > index {
            break;
        }
        let header = BatchHeader::read(&batch.batch)?;
        ends.insert(batch.partition, Offset(batch.base_offset.0 + u64::from(header.offset_count())));
    }
    Ok(ends)
}

/// The rows of a snapshot for which the condition of a job is true, by the column types with which it was checked; `found`
/// gets each.
///
/// # Errors
/// Those of planning and evaluating the condition, and of reading.
pub(super) async fn matching(
    engine: &Engine,
    snapshot: TopicSnapshot,
    erasure: &Erasure,
    mut found: impl FnMut(Position),
) -> Result<(), Error> {
    // A job of an earlier release says nothing of types; one that names system columns alone needs none.
    let asked = (!erasure.columns.is_empty()).then(|| declared_schema(&erasure.columns));
    let mut positions = engine.matching(Arc::new(snapshot), &erasure.predicate, asked).await?;
    while let Some(positions) = positions.next().await {
        positions?.into_iter().for_each(&mut found);
    }
    Ok(())
}
