//! What became of a topic's records, in numbers: what a user looks at to see whether something is wrong.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use stratalog_proto::{Error, RaftIndex, ShardId};
use stratalog_query::TopicInfo;
use stratalog_storage::SegmentMeta;
use stratalog_storage::col::system;

use super::runtime::Rows;
use super::shard_rows::ShardRows;

/// The rows of a topic, all of its shards together.
#[derive(Clone, Debug, Default)]
pub struct TopicRows {
    /// Rows in live segments and in the tail, dead ones included. A segment that begins below a log start counts whole.
    pub rows: u64,
    /// Those whose value became no row of its own.
    pub dead_rows: u64,
    /// Those that are not in a segment yet.
    pub tail_rows: u64,
    /// Memory that they take.
    pub tail_bytes: u64,
    /// Live segments.
    pub segments: u64,
    /// Bytes of their files.
    pub segment_bytes: u64,
    /// Raft entries that are applied and not yet rows, in the shards of the topic.
    pub lag: u64,
    /// The shards in which the topic is held back, each with what cannot be read.
    pub held: Vec<(ShardId, Error)>,
}

/// The rows of a shard that are in no segment yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailFigures {
    pub(crate) shard: ShardId,
    /// The last entry whose rows are there.
    pub(crate) visible: RaftIndex,
    pub(crate) rows: u64,
    /// Memory of the rows.
    pub(crate) bytes: u64,
}

impl Rows {
    /// The tail of each shard that is led here, ascending.
    pub(crate) fn tails(&self) -> Vec<TailFigures> {
        let figures = |shard: &Arc<ShardRows>| {
            let fill = shard.tail.fill();
            TailFigures {
                shard: shard.log.id(),
                visible: shard.tail.materialized(),
                rows: fill.iter().map(|topic| topic.rows as u64).sum(),
                bytes: fill.iter().map(|topic| topic.bytes as u64).sum(),
            }
        };
        self.replicas.led().iter().map(figures).collect()
    }

    /// The numbers of a topic in a shard, now.
    ///
    /// # Errors
    /// [`Code::NotLeader`](stratalog_proto::Code::NotLeader) if it is not led here.
    pub(crate) fn figures_in(&self, shard: ShardId, topic: &TopicInfo) -> Result<TopicRows, Error> {
        let mut figures = TopicRows::default();
        figures.add(&*self.replicas.led_in(shard)?, topic);
        Ok(figures)
    }
}

impl TopicRows {
    fn add(&mut self, shard: &ShardRows, topic: &TopicInfo) {
        match shard.snapshot(topic.id) {
            Ok(snapshot) => {
                snapshot.segments.iter().for_each(|segment| self.add_segment(&segment.meta));
                for chunk in &snapshot.tail {
                    let rows = chunk.rows.num_rows() as u64;
                    self.rows += rows;
                    self.dead_rows += dead_rows(&chunk.rows);
                    self.tail_rows += rows;
                    self.tail_bytes += chunk.bytes as u64;
                }
                self.lag += snapshot.lag;
            }
            Err(held) => {
                shard.segments(topic.id).iter().for_each(|meta| self.add_segment(meta));
                self.held.push((shard.log.id(), held));
            }
        }
    }

    fn add_segment(&mut self, meta: &SegmentMeta) {
        self.rows += meta.rows;
        self.dead_rows += meta.dead_rows;
        self.segments += 1;
        self.segment_bytes += meta.bytes;
    }
}

fn dead_rows(rows: &RecordBatch) -> u64 {
    rows.column_by_name(system::DEAD).map_or(0, |dead| (dead.len() - dead.null_count()) as u64)
}
