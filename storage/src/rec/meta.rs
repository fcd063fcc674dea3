//! What is known of a replay segment without its file.

use stratalog_proto::batch::HEADER_BYTES;
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, SegmentId, TopicId, internal};

/// The batches of one partition in a replay segment: all offsets from `first` to `next`, without a gap between batches
/// (L2). Within them, records may have been erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecRange {
    /// The partition.
    pub partition: PartitionId,
    /// Its lowest offset here.
    pub first: Offset,
    /// One past its highest offset here.
    pub next: Offset,
    /// What its batches weigh, headers included.
    pub bytes: u64,
    /// The highest record timestamp that its batches claim, in milliseconds since the epoch.
    pub max_timestamp_ms: i64,
}

/// The batches of one topic in a replay segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecTopicMeta {
    /// The topic.
    pub topic: TopicId,
    /// Ascending by partition, one for each, none empty.
    pub ranges: Vec<RecRange>,
}

/// A replay segment as the manifest knows it: the typed twin of [`internal::RecMeta`].
///
/// It holds the batches that entries above `after` and up to `through` gave offsets to, of the topics that it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecMeta {
    /// Its id, and its file's name.
    pub id: SegmentId,
    /// The index before its entries.
    pub after: RaftIndex,
    /// The last of its entries.
    pub through: RaftIndex,
    /// Bytes of the file.
    pub bytes: u64,
    /// Of the whole file.
    pub blake3: [u8; 32],
    /// Ascending by topic, one for each.
    pub topics: Vec<RecTopicMeta>,
    /// The newest `entry.time` of its batches, in nanoseconds since the epoch; 0 if that is not known, of a segment that
    /// release 0.1 rolled. The manifest alone says it: in the file it follows from the order of the batches.
    pub max_entry_time_ns: i64,
}

impl RecMeta {
    /// Whether both mean the same file, which is all that is known of one whose newest entry time is not.
    pub fn is_same_file(&self, other: &RecMeta) -> bool {
        let RecMeta { id, after, through, bytes, blake3, topics, max_entry_time_ns: _ } = self;
        (id, after, through, bytes, blake3) == (&other.id, &other.after, &other.through, &other.bytes, &other.blake3)
            && *topics == other.topics
    }

    /// The offsets of a partition in this segment, if it has any.
    pub fn range(&self, topic: TopicId, partition: PartitionId) -> Option<&RecRange> {
        let ranges = &self.topic(topic)?.ranges;
        let at = ranges.binary_search_by_key(&partition, |range| range.partition).ok()?;
        Some(&ranges[at])
    }

    /// What it has of one topic.
    pub fn topic(&self, topic: TopicId) -> Option<&RecTopicMeta> {
        let at = self.topics.binary_search_by_key(&topic, |meta| meta.topic).ok()?;
        Some(&self.topics[at])
    }

    /// Every range, ascending by topic and partition.
    pub fn ranges(&self) -> impl Iterator<Item = (TopicId, &RecRange)> {
        self.topics.iter().flat_map(|meta| meta.ranges.iter().map(|range| (meta.topic, range)))
    }

    /// Whether small topics share it.
    pub fn is_packed(&self) -> bool {
        self.topics.len() > 1
    }

    /// What contradicts itself in this value, if anything.
    fn contradiction(&self) -> Option<&'static str> {
        let weight = self.ranges().try_fold(0_u64, |sum, (_, range)| sum.checked_add(range.bytes));
        let empty = |range: &RecRange| range.first >= range.next || range.bytes < HEADER_BYTES as u64;
        let checks = [
            (self.after >= self.through, "it has no entries"),
            (self.topics.is_empty(), "it has no topics"),
            (!self.topics.is_sorted_by(|a, b| a.topic < b.topic), "its topics do not ascend"),
            (self.topics.iter().any(|meta| meta.ranges.is_empty()), "one of its topics has no partitions"),
            (!self.topics.iter().all(RecTopicMeta::ascends), "the partitions of a topic do not ascend"),
            (self.ranges().any(|(_, range)| empty(range)), "one of its ranges is empty"),
            (self.ranges().any(|(_, range)| range.next.0 > i64::MAX as u64), "L2: an offset is above 2^63 - 1"),
            (weight.is_none_or(|weight| weight > self.bytes), "its batches weigh more than its file"),
        ];
        checks.into_iter().find_map(|(wrong, what)| wrong.then_some(what))
    }
}

impl RecTopicMeta {
    fn ascends(&self) -> bool {
        self.ranges.is_sorted_by(|a, b| a.partition < b.partition)
    }
}

impl From<&RecMeta> for internal::RecMeta {
    fn from(meta: &RecMeta) -> Self {
        let range = |range: &RecRange| internal::RecRange {
            partition: range.partition.0,
            first: range.first.0,
            next: range.next.0,
            bytes: range.bytes,
            max_timestamp_ms: range.max_timestamp_ms,
        };
        let topic = |meta: &RecTopicMeta| internal::RecTopic {
            topic: meta.topic.to_bytes(),
            ranges: meta.ranges.iter().map(range).collect(),
        };
        internal::RecMeta {
            id: meta.id.to_bytes(),
            after: meta.after.0,
            through: meta.through.0,
            bytes: meta.bytes,
            blake3: bytes::Bytes::copy_from_slice(&meta.blake3),
            topics: meta.topics.iter().map(topic).collect(),
            location: 0,
            key_id: 0,
            max_entry_time_ns: meta.max_entry_time_ns,
        }
    }
}

impl TryFrom<&internal::RecMeta> for RecMeta {
    type Error = Error;

    /// # Errors
    /// [`Code::NewerVersion`] for a place or key that this node does not know, [`Code::CorruptData`] for a value that
    /// contradicts itself.
    fn try_from(meta: &internal::RecMeta) -> Result<Self, Error> {
        if meta.location != 0 || meta.key_id != 0 {
            let what = "replay segment in a command has a location or a key that this node does not know; upgrade the \
                        node";
            return Err(Error::new(Code::NewerVersion, what));
        }
        let typed = RecMeta {
            id: SegmentId::from_slice(&meta.id).ok_or_else(|| corrupt("its id does not have 16 bytes"))?,
            after: RaftIndex(meta.after),
            through: RaftIndex(meta.through),
            bytes: meta.bytes,
            blake3: meta.blake3[..].try_into().map_err(|_| corrupt("its hash does not have 32 bytes"))?,
            topics: meta.topics.iter().map(RecTopicMeta::try_from).collect::<Result<_, _>>()?,
            max_entry_time_ns: meta.max_entry_time_ns,
        };
        match typed.contradiction() {
            None => Ok(typed),
            Some(what) => Err(corrupt(what)),
        }
    }
}

impl TryFrom<&internal::RecTopic> for RecTopicMeta {
    type Error = Error;

    fn try_from(meta: &internal::RecTopic) -> Result<Self, Error> {
        let range = |range: &internal::RecRange| RecRange {
            partition: PartitionId(range.partition),
            first: Offset(range.first),
            next: Offset(range.next),
            bytes: range.bytes,
            max_timestamp_ms: range.max_timestamp_ms,
        };
        let topic = TopicId::from_slice(&meta.topic).ok_or_else(|| corrupt("a topic does not have 16 bytes"))?;
        Ok(Self { topic, ranges: meta.ranges.iter().map(range).collect() })
    }
}

fn corrupt(what: &str) -> Error {
    Error::new(Code::CorruptData, format!("replay segment in a command is malformed: {what}"))
}
