//! Ids and positions as types: mixing two does not compile.

use std::fmt;

use uuid::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id; version 7, so that ids sort by the time of their making.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// Reads the 16 bytes of the wire form; `None` for any other length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// The 16 bytes of the wire form.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The 16 bytes of the wire form, as prost messages hold them.
            pub fn to_bytes(self) -> bytes::Bytes {
                bytes::Bytes::copy_from_slice(self.0.as_bytes())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A tenant; 0 is the default tenant.
    TenantId(u32)
}
number! {
    /// A node of the cluster.
    NodeId(u64)
}
number! {
    /// One Raft group.
    ShardId(u32)
}
number! {
    /// The Raft node id inside one shard, allocated for (shard, node, incarnation) and never used again.
    ReplicaId(u64)
}
number! {
    /// A partition's number within its topic.
    PartitionId(u32)
}
number! {
    /// A record's position in its partition. Dense when assigned, never reused (L2); at most `i64::MAX`.
    Offset(u64)
}
number! {
    /// A position in a shard's Raft log. One of them fences all partitions of the shard.
    RaftIndex(u64)
}
number! {
    /// A Raft term.
    Term(u64)
}
number! {
    /// A row's number in its column segment; also its Tantivy doc id.
    RowId(u32)
}
number! {
    /// An idempotent producer; -1 is none.
    ProducerId(i64)
}
uuid_id! {
    /// A topic. A name that is created again is a new id.
    TopicId
}
uuid_id! {
    /// A segment, and its file's name.
    SegmentId
}
uuid_id! {
    /// An erasure that was asked for.
    JobId
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's number.
    pub partition: PartitionId,
}

/// A position in one shard, given with each acknowledgement; a query that is given one waits until it sees it (Q1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The shard.
    pub shard: ShardId,
    /// The Raft index that has to be visible.
    pub index: RaftIndex,
}

/// A half-open range of event time, `[start_ns, end_ns)`, in nanoseconds since the epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeBucket {
    /// First nanosecond in the bucket.
    pub start_ns: i64,
    /// First nanosecond after it.
    pub end_ns: i64,
}

impl TimeBucket {
    /// The bucket of `width_ns` that holds `time_ns`; buckets are aligned to the epoch, and cut at the ends of i64.
    ///
    /// # Panics
    /// If `width_ns` is not positive.
    pub fn of(time_ns: i64, width_ns: i64) -> Self {
        assert!(width_ns > 0, "a time bucket has a positive width, not {width_ns}");
        let start = i128::from(time_ns.div_euclid(width_ns)) * i128::from(width_ns);
        let end = start + i128::from(width_ns);
        Self { start_ns: start.max(i128::from(i64::MIN)) as i64, end_ns: end.min(i128::from(i64::MAX)) as i64 }
    }

    /// Whether `time_ns` lies in the bucket.
    pub fn contains(&self, time_ns: i64) -> bool {
        self.start_ns <= time_ns && time_ns < self.end_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_of_a_negative_time_starts_below_it() {
        let bucket = TimeBucket::of(-1, 10);
        assert_eq!((bucket.start_ns, bucket.end_ns), (-10, 0));
        assert!(bucket.contains(-1) && !bucket.contains(0));
    }

    #[test]
    fn bucket_at_the_ends_of_time_is_cut() {
        assert_eq!(TimeBucket::of(i64::MIN, 3_600_000_000_000).start_ns, i64::MIN);
        assert_eq!(TimeBucket::of(i64::MAX, 3_600_000_000_000).end_ns, i64::MAX);
    }
}
