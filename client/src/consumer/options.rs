//! What to read.

use std::time::Duration;

use stratalog_proto::{Offset, PartitionId};

/// Where to start, in each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Start {
    /// At the oldest record.
    #[default]
    Earliest,
    /// Behind the newest record.
    Latest,
    /// At this offset.
    Offset(Offset),
    /// At the first record whose timestamp is at or after this, in nanoseconds since the epoch.
    Time(i64),
}

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stop {
    /// Wait for more.
    #[default]
    Never,
    /// At the high watermarks seen at the start.
    AtEnd,
}

/// How to read a topic.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Where to start.
    pub start: Start,
    /// Which partitions; `None` is all of them.
    pub partitions: Option<Vec<PartitionId>>,
    /// About how many bytes one fetch brings, as they lie in the log; at most 32 MiB.
    pub max_bytes: u32,
    /// How long a fetch waits for something to be there.
    pub max_wait: Duration,
    /// How many fetched answers may wait for the reader.
    pub prefetch: usize,
    /// Where to stop.
    pub stop: Stop,
    /// How long to go on trying while no node answers.
    pub patience: Duration,
    /// The asked node answers from its own replica, if it has one, though another node leads: less travels between the
    /// nodes, and records come a little later.
    pub from_follower: bool,
    /// The zone (`cluster.zone`) that the reader is in. A node of that zone is asked, and answers from replicas of the zone as
    /// far as they are up to date: less travels between zones, and records come a little later. Where there is none, and for
    /// what they cannot answer, it is as without a zone. Empty counts as none.
    pub zone: Option<String>,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            start: Start::default(),
            partitions: None,
            max_bytes: 4 << 20,
            max_wait: Duration::from_millis(500),
            prefetch: 2,
            stop: Stop::default(),
            patience: Duration::from_secs(30),
            from_follower: false,
            zone: None,
        }
    }
}
