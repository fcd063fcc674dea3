//! Which packed segments are mostly dead, and what of them is to be kept: pure.

use std::collections::HashMap;
use std::sync::Arc;

use stratalog_proto::{Offset, PartitionId, TopicId};
use stratalog_storage::RecMeta;

/// A packed segment, and the partitions whose batches can still be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repacking {
    pub(crate) from: Arc<RecMeta>,
    /// Ascending, not empty.
    pub(crate) keep: Vec<(TopicId, PartitionId)>,
}

/// The first packed segment of which less than half is live. `log_starts` has those of all partitions that there are. A
/// segment that is dead as a whole is not rewritten: it leaves the manifest by itself.
pub(crate) fn choose(recs: &[Arc<RecMeta>], log_starts: &HashMap<(TopicId, PartitionId), Offset>) -> Option<Repacking> {
    recs.iter().filter(|meta| meta.is_packed()).find_map(|meta| {
        let mut live_bytes = 0;
        let mut keep = Vec::new();
        let mut bytes = 0;
        for (topic, range) in meta.ranges() {
            bytes += range.bytes;
            if log_starts.get(&(topic, range.partition)).is_some_and(|start| *start < range.next) {
                live_bytes += range.bytes;
                keep.push((topic, range.partition));
            }
        }
        let worth_it = !keep.is_empty() && live_bytes * 2 < bytes;
        worth_it.then(|| Repacking { from: Arc::clone(meta), keep })
    })
}

#[cfg(test)]
mod tests {
    use stratalog_proto::{RaftIndex, SegmentId};
    use stratalog_storage::{RecRange, RecTopicMeta};

    use super::*;

    fn meta(topics: &[(TopicId, &[(u32, u64)])]) -> Arc<RecMeta> {
        let range = |(partition, bytes): &(u32, u64)| RecRange {
            partition: PartitionId(*partition),
            first: Offset(10),
            next: Offset(20),
            bytes: *bytes,
            max_timestamp_ms: 0,
        };
        let topics = topics
            .iter()
            .map(|(topic, ranges)| RecTopicMeta { topic: *topic, ranges: ranges.iter().map(range).collect() });
        Arc::new(RecMeta {
            id: SegmentId::new(),
            after: RaftIndex(0),
            through: RaftIndex(9),
            bytes: 10_000,
            blake3: [0; 32],
            max_entry_time_ns: 0,
            topics: topics.collect(),
        })
    }

    #[test]
    fn a_packed_segment_is_rewritten_once_less_than_half_of_it_is_live() {
        let (a, b) = (TopicId::new(), TopicId::new());
        let packed = meta(&[(a, &[(0, 100), (1, 200)]), (b, &[(0, 299)])]);
        let choose = |moved: &[(TopicId, u32, u64)]| {
            let mut starts =
                HashMap::from([(a, 0), (a, 1), (b, 0)].map(|(topic, p)| ((topic, PartitionId(p)), Offset(0))));
            starts.extend(moved.iter().map(|(topic, p, start)| ((*topic, PartitionId(*p)), Offset(*start))));
            super::choose(std::slice::from_ref(&packed), &starts)
        };
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&[(b, 0, 19), (a, 1, 19)]), None, "a range counts while its last offset can be read");
        assert_eq!(choose(&[(b, 0, 20)]), None, "half of it is live");
        let repacking = choose(&[(b, 0, 20), (a, 1, 20)]).unwrap();
        assert_eq!(repacking.keep, [(a, PartitionId(0))]);
    }

    #[test]
    fn what_is_dead_as_a_whole_or_of_one_topic_is_left_alone() {
        let (a, b) = (TopicId::new(), TopicId::new());
        let packed = meta(&[(a, &[(0, 100)]), (b, &[(0, 100)])]);
        assert_eq!(choose(&[packed], &HashMap::new()), None);
        let own = meta(&[(a, &[(0, 100), (1, 1)])]);
        assert_eq!(choose(&[own], &HashMap::from([((a, PartitionId(1)), Offset(0))])), None);
    }
}
