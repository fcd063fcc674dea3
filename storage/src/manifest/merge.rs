//! Column segments that take the place of others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stratalog_proto::{Code, Error, Offset, PartitionId, SegmentId, TopicId, internal};

use super::{Added, Clash, TopicManifest, added_segments};
use crate::sabotage::{Bug, planted};
use crate::segment::SegmentMeta;

/// Why a [`super::Manifest::merge`] changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeRejected {
    /// The topic was removed, or never was here.
    #[error("cannot merge segments of topic {0}: this shard does not host it")]
    UnknownTopic(TopicId),
    /// S2: an input was dropped, or another merge has replaced it.
    #[error("cannot merge segments of topic {topic}: segment {segment} is not in the manifest")]
    NotLive {
        /// The topic.
        topic: TopicId,
        /// The input.
        segment: SegmentId,
    },
    /// A segment id that is live already, or twice in the command.
    #[error("cannot merge segments of topic {topic}: segment {segment} is in the manifest already")]
    Duplicate {
        /// The topic.
        topic: TopicId,
        /// The segment.
        segment: SegmentId,
    },
    /// S1: rows would appear from nowhere, or vanish without being counted.
    #[error(
        "S1: cannot merge segments of topic {topic}: of {removed} rows the merge says where {added} went, {trimmed} of \
         them below log start and {erased} erased"
    )]
    Rows {
        /// The topic.
        topic: TopicId,
        /// Rows of the inputs.
        removed: u64,
        /// Rows of the output and all that the merge left out.
        added: u64,
        /// Of those, left out below log start.
        trimmed: u64,
        /// Of those, erased.
        erased: u64,
    },
    /// S1: an output with offsets that no input can have.
    #[error("S1: cannot merge segments of topic {topic}: segment {segment} has offsets that none of its inputs has")]
    Outside {
        /// The topic.
        topic: TopicId,
        /// The output.
        segment: SegmentId,
    },
    /// A command whose bytes are not of this version, or contradict themselves.
    #[error("cannot merge segments: {0}")]
    Malformed(Error),
}

/// A merge that may be applied.
pub(super) struct Checked {
    pub(super) remove: Vec<Arc<SegmentMeta>>,
    pub(super) add: Added,
}

/// The topic of a merge.
pub(super) fn topic_of(merge: &internal::Merge) -> Result<TopicId, MergeRejected> {
    TopicId::from_slice(&merge.topic).ok_or_else(|| malformed("its topic does not have 16 bytes"))
}

/// Checks a merge against what is live (S1, S2).
pub(super) fn check(topic: TopicId, merge: &internal::Merge, live: &TopicManifest) -> Result<Checked, MergeRejected> {
    let remove = match inputs(topic, merge, live) {
        Err(MergeRejected::NotLive { .. }) if planted(Bug::MergeWithoutCompare) => Vec::new(),
        inputs => inputs?,
    };
    let add = added_segments(topic, &merge.add, live).map_err(|clash| match clash {
        Clash::Duplicate(segment) => MergeRejected::Duplicate { topic, segment },
        Clash::Malformed(error) => MergeRejected::Malformed(error),
    })?;
    if remove.is_empty() {
        // Only a bug that is planted comes here.
        return Ok(Checked { remove, add });
    }
    let removed = remove.iter().map(|meta| meta.rows).fold(0, u64::saturating_add);
    let (trimmed, erased) = (merge.trimmed, merge.erased);
    let added = add.values().map(|meta| meta.rows).chain([trimmed, erased]).fold(0, u64::saturating_add);
    if removed != added {
        return Err(MergeRejected::Rows { topic, removed, added, trimmed, erased });
    }
    let spans = spans(&remove);
    match add.values().find(|meta| !is_within(meta, &spans)) {
        Some(meta) => Err(MergeRejected::Outside { topic, segment: meta.id }),
        None => Ok(Checked { remove, add }),
    }
}

fn inputs(
    topic: TopicId,
    merge: &internal::Merge,
    live: &TopicManifest,
) -> Result<Vec<Arc<SegmentMeta>>, MergeRejected> {
    if merge.remove.is_empty() {
        return Err(malformed("it has no input"));
    }
    let mut seen = BTreeSet::new();
    let mut remove = Vec::with_capacity(merge.remove.len());
    for id in &merge.remove {
        let segment =
            SegmentId::from_slice(id).ok_or_else(|| malformed("the id of an input does not have 16 bytes"))?;
        if !seen.insert(segment) {
            return Err(malformed("it has an input twice"));
        }
        remove.push(live.segments.get(&segment).cloned().ok_or(MergeRejected::NotLive { topic, segment })?);
    }
    Ok(remove)
}

/// The lowest offset of each partition and the one past its highest.
type Spans = BTreeMap<PartitionId, (Offset, Offset)>;

fn spans(metas: &[Arc<SegmentMeta>]) -> Spans {
    let mut spans = Spans::new();
    for range in metas.iter().flat_map(|meta| &meta.ranges) {
        let span = spans.entry(range.partition).or_insert((range.first, range.next));
        *span = (span.0.min(range.first), span.1.max(range.next));
    }
    spans
}

fn is_within(meta: &SegmentMeta, spans: &Spans) -> bool {
    meta.ranges.iter().all(|range| {
        spans.get(&range.partition).is_some_and(|(first, next)| *first <= range.first && range.next <= *next)
    })
}

fn malformed(what: &str) -> MergeRejected {
    MergeRejected::Malformed(Error::new(Code::CorruptData, format!("a merge is malformed: {what}")))
}
