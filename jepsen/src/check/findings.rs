//! What a checker finds.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// So many of a kind are kept; the others are counted.
const EXAMPLES: usize = 16;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// An anomaly, the gravest first. Each of them contradicts something that is promised.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub(crate) enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// As reports write it.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Kind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// Acknowledged, somebody read beyond its offset, and nobody ever read it (L1).
    LostWrite = "lost-write";
    /// Acknowledged, and above everything that was read at the end (L1).
    Unseen = "unseen";
    /// Two values at one offset (L2).
    InconsistentOffset = "inconsistent-offset";
    /// Key, value or headers are not what was sent (L2).
    Corrupt = "corrupt";
    /// A replica has not the same bytes at an offset as the others, or lacks the offset (L2).
    ReplicaDiffers = "replica-differs";
    /// One value at two offsets.
    Duplicate = "duplicate";
    /// Acknowledged at one offset, and read at another.
    OffsetMismatch = "offset-mismatch";
    /// A value whose send failed was read.
    AbortedRead = "aborted-read";
    /// A value that nobody sent there was read.
    Phantom = "phantom";
    /// An offset that nobody ever saw, with others above it (L2).
    Gap = "gap";
    /// The log begins above offset 0, though nothing was to be deleted.
    LogStartMoved = "log-start-moved";
    /// A consumer passed over an offset that is there.
    PollSkip = "poll-skip";
    /// A consumer went back.
    NonmonotonicPoll = "nonmonotonic-poll";
    /// A producer's records are not in the order in which it sent them.
    NonmonotonicSend = "nonmonotonic-send";
    /// A high watermark went back (L3).
    WatermarkBack = "watermark-back";
    /// A read that has to show what was acknowledged before did not (Q1).
    StaleRead = "stale-read";
    /// A query saw something else than a prefix of each partition, each offset once (Q1, S1).
    NotAPrefix = "not-a-prefix";
    /// Rows are not exactly the records of the log (S1).
    SqlDisagrees = "sql-disagrees";
    /// Hits are not exactly the records of the log that have the word.
    SearchDisagrees = "search-disagrees";
    /// Changes and reads of metadata that no order explains.
    NotLinearizable = "not-linearizable";
    /// A node that was cut off from all others acknowledged what it was sent meanwhile.
    MinorityAck = "minority-ack";
    /// A committed offset of a group went back (G1).
    CommitBack = "commit-back";
    /// An offset that nobody committed was read as committed.
    CommitPhantom = "commit-phantom";
    /// Below what a group has committed lies a record that none of its members was given.
    Undelivered = "undelivered";
    /// A member did not begin where its group was.
    WrongPosition = "wrong-position";
    /// A group did not read everything, though it had the time to.
    GroupBehind = "group-behind";
    /// Something that has to be so was not.
    BrokenPromise = "broken-promise";
    /// The cluster was not back as fast as it has to be.
    Late = "late";
    /// Leaders were elected more often than a fault excuses.
    Restless = "restless";
    /// Sends took longer than a fault excuses.
    Slow = "slow";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an explanation has to show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    /// The send of a value, and who read it.
    Value(u64),
    /// Who read an offset, and what.
    Place { partition: u32, offset: u64 },
    /// What was done to a topic up to a time, in microseconds.
    Key { key: String, until: u64 },
    /// The operation of a process that completed at a time, in microseconds, and the one before it: what they say of a partition.
    Moment { process: u32, partition: u32, at: u64 },
    /// What happened around a time, in microseconds.
    Time(u64),
}

/// One anomaly.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    /// A sentence: what is wrong, where.
    pub(crate) what: String,
    pub(crate) subjects: Vec<Subject>,
}

/// All anomalies, bounded.
#[derive(Debug, Default)]
pub(super) struct Findings {
    by_kind: BTreeMap<Kind, (u64, Vec<Finding>)>,
}

impl Findings {
    /// Adds one. Its sentence is made only if it is kept.
    pub(super) fn add(&mut self, kind: Kind, subjects: Vec<Subject>, what: impl FnOnce() -> String) {
        let (count, examples) = self.by_kind.entry(kind).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(Finding { kind, what: what(), subjects });
        }
    }

    pub(super) fn into_parts(self) -> BTreeMap<Kind, (u64, Vec<Finding>)> {
        self.by_kind
    }
}
