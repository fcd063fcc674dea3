//! Work on a topic that the leader of a shard does there.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use stratalog_proto::internal::{self, maintain::What};
use stratalog_proto::{Code, Error, ShardId, TopicId};
use stratalog_transport::Frame;

use super::super::decode;
use super::proposal::{from_wire, offsets_from_wire, offsets_to_wire, to_wire};
use super::{Missed, request, success, topic_id};
use crate::rows::{Gone, Merged, Retried};

/// Work on the part of a topic that one shard has. Doing it twice does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Rows of all records that are applied become column segments.
    Seal,
    /// Column segments are merged as far as they go together.
    Merge,
    /// Rows of dead letters are made once more.
    RetryDead,
    /// Column segments go whose time bucket ends at or before a time.
    DropBefore { before_ns: i64, dry_run: bool },
    /// What the topic's settings no longer keep goes.
    ApplyRetention { dry_run: bool },
}

/// What became of the [`Task`].
#[derive(Clone, Debug)]
pub(crate) enum Done {
    Sealed,
    Merged(Merged),
    Retried(Retried),
    /// Of both kinds of drops.
    Gone(Gone),
}

impl Task {
    /// As a frame.
    pub(crate) fn frame(&self, shard: ShardId, topic: TopicId) -> Frame {
        let what = match *self {
            Task::Seal => What::SealRows(internal::SealRows {}),
            Task::Merge => What::MergeRows(internal::MergeRows {}),
            Task::RetryDead => What::RetryDead(internal::RetryDead {}),
            Task::DropBefore { before_ns, dry_run } => What::DropBefore(internal::DropBefore { before_ns, dry_run }),
            Task::ApplyRetention { dry_run } => What::ApplyRetention(internal::ApplyRetention { dry_run }),
        };
        let maintain = internal::Maintain { shard: shard.0, topic: topic.to_bytes(), what: Some(what) };
        Frame::head(maintain.encode_to_vec())
    }
}

/// Reads such a frame.
pub(crate) fn read_maintain(frame: Frame) -> Result<(ShardId, TopicId, Task), Error> {
    let maintain: internal::Maintain = request(frame.head)?;
    let unknown = || Error::new(Code::NotBuilt, "this node does not know the work that another node asks it for");
    let task = match maintain.what.ok_or_else(unknown)? {
        What::SealRows(_) => Task::Seal,
        What::MergeRows(_) => Task::Merge,
        What::RetryDead(_) => Task::RetryDead,
        What::DropBefore(drop) => Task::DropBefore { before_ns: drop.before_ns, dry_run: drop.dry_run },
        What::ApplyRetention(apply) => Task::ApplyRetention { dry_run: apply.dry_run },
    };
    Ok((ShardId(maintain.shard), topic_id(&maintain.topic)?, task))
}

impl Done {
    /// As the frame of an answer.
    pub(crate) fn frame(&self) -> Frame {
        match self {
            Done::Sealed => success(&internal::SealRows {}, Vec::new()),
            Done::Merged(merged) => success(
                &internal::MergeAnswer {
                    replaced: merged.replaced,
                    made: merged.made,
                    rows: merged.rows,
                    bytes: merged.bytes,
                    left_apart: merged.left_apart,
                },
                Vec::new(),
            ),
            Done::Retried(retried) => {
                success(&internal::RetryAnswer { tried: retried.tried, mended: retried.mended }, Vec::new())
            }
            Done::Gone(gone) => success(&gone_to_wire(gone), Vec::new()),
        }
    }

    /// Reads the answer to a task in a shard.
    pub(crate) fn read(task: &Task, shard: ShardId, body: Bytes) -> Result<Self, Missed> {
        Ok(match task {
            Task::Seal => Done::Sealed,
            Task::Merge => {
                let answer: internal::MergeAnswer = decode(body)?;
                Done::Merged(Merged {
                    replaced: answer.replaced,
                    made: answer.made,
                    rows: answer.rows,
                    bytes: answer.bytes,
                    left_apart: answer.left_apart,
                })
            }
            Task::RetryDead => {
                let answer: internal::RetryAnswer = decode(body)?;
                // `dead` is their difference, and a peer may lie.
                Done::Retried(Retried { tried: answer.tried, mended: answer.mended.min(answer.tried) })
            }
            Task::DropBefore { .. } | Task::ApplyRetention { .. } => Done::Gone(gone_from_wire(&decode(body)?, shard)?),
        })
    }
}

fn gone_to_wire(gone: &Gone) -> internal::DropAnswer {
    let segments: Vec<_> = gone.segments.iter().map(|(_, meta)| meta.clone()).collect();
    let log_starts: Vec<_> = gone.log_starts.iter().map(|(partition, offset)| (*partition, *offset)).collect();
    internal::DropAnswer {
        segments: to_wire(&segments),
        log_starts: offsets_to_wire(&log_starts),
        log_bytes: gone.log_bytes,
        tail_rows: gone.tail_rows,
        elapsed_ns: u64::try_from(gone.elapsed.as_nanos()).unwrap_or(u64::MAX),
    }
}

fn gone_from_wire(answer: &internal::DropAnswer, shard: ShardId) -> Result<Gone, Missed> {
    Ok(Gone {
        segments: from_wire(&answer.segments)?.into_iter().map(|meta| (shard, meta)).collect(),
        log_starts: offsets_from_wire(&answer.log_starts).into_iter().collect(),
        log_bytes: answer.log_bytes,
        tail_rows: answer.tail_rows,
        elapsed: Duration::from_nanos(answer.elapsed_ns),
    })
}
