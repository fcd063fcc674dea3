//! Making a merge count: the command, and what becomes of the files.

use std::sync::Arc;

use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, Offset, PartitionId, TopicId, internal};
use stratalog_storage::SegmentMeta;

use super::build::Built;
use super::edit::Rewritten;
use crate::rows::shard_rows::ShardRows;

/// Whether a proposal that ended like this may have been applied, or may yet be.
pub(in crate::rows) fn is_unknown(code: Code) -> bool {
    matches!(code, Code::Timeout | Code::Unavailable | Code::NotLeader | Code::Internal | Code::Cancelled)
}

/// Has a majority hold the segments of a merge, proposes it, and waits for what becomes of it.
///
/// # Errors
/// [`Code::Conflict`] if an input is no longer live (S2); those of holding and proposing. Files of a merge that did not apply are
/// removed, and of one that may yet apply kept until that is known.
pub(in crate::rows) async fn commit(
    shard: &Arc<ShardRows>,
    topic: TopicId,
    inputs: &[Arc<SegmentMeta>],
    log_starts: &[(PartitionId, Offset)],
    built: Built,
) -> Result<Rewritten, Error> {
    if let Err(error) = shard.hold(&built.segments).await {
        shard.discard(built.segments).await;
        return Err(error);
    }
    let proposed = shard.propose(Command::Merge(command(topic, inputs, log_starts, &built))).await;
    let outcome = match proposed {
        Ok(_) => Ok(()),
        Err(error) if is_unknown(error.code) && applied(shard, topic, inputs, &built) => {
            tracing::info!(%error, "a merge applied although its outcome was unknown");
            Ok(())
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => {
            let Built { segments, trimmed, erased, replaced } = built;
            Ok(Rewritten { segments: segments.into_iter().map(Arc::new).collect(), trimmed, erased, replaced })
        }
        Err(error) if is_unknown(error.code) => {
            shard.garbage.suspect();
            Err(error)
        }
        Err(error) => {
            shard.discard(built.segments).await;
            Err(error)
        }
    }
}

fn command(
    topic: TopicId,
    inputs: &[Arc<SegmentMeta>],
    log_starts: &[(PartitionId, Offset)],
    built: &Built,
) -> internal::Merge {
    let log_starts = log_starts.iter();
    internal::Merge {
        topic: topic.to_bytes(),
        remove: inputs.iter().map(|meta| meta.id.to_bytes()).collect(),
        add: built.segments.iter().map(internal::SegmentMeta::from).collect(),
        log_starts: log_starts
            .map(|(partition, start)| internal::PartitionCount { partition: partition.0, value: start.0 })
            .collect(),
        trimmed: built.trimmed,
        erased: built.erased,
    }
}

fn applied(shard: &ShardRows, topic: TopicId, inputs: &[Arc<SegmentMeta>], built: &Built) -> bool {
    let manifest = shard.log.manifest();
    let Some(live) = manifest.topic(topic) else { return false };
    match built.segments.first() {
        Some(first) => live.segments.contains_key(&first.id),
        // Nothing but a merge of ours takes segments away whose rows are all erased.
        None => inputs.iter().all(|meta| !live.segments.contains_key(&meta.id)),
    }
}
