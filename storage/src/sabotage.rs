//! Bugs that are planted on purpose, to show that the tests catch them.
//!
//! Code asks [`planted`] at the place where the bug would be. Without the feature `sabotage` the answer is a constant
//! `false`, and nothing of it is left in the program. No release is built with it.

/// A bug that somebody might make, and that no test may miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Bug {
    /// A write is acknowledged although no sync made it durable.
    AckBeforeFsync = 1,
    /// Bytes that fail their checksum are taken for a torn tail and cut away, whatever lies behind them.
    TruncateOnBadChecksum,
    /// A vote is answered and not kept.
    VoteNotPersisted,
    /// A batch that a producer sends again is appended again.
    NoDedup,
    /// A leader that restarts goes on in its term, whatever it lost of it.
    LeaderRestore,
    /// Log frames go before the replay segment that covers them is there.
    PurgeBeforeRoll,
    /// A replica votes although it may have forgotten what it acknowledged.
    VoteInDoubt,
    /// Whoever believes that it leads answers reads, and asks no majority.
    StaleRead,
    /// A seal that was carried out is taken for one of unknown outcome and made again, and applies on whatever frontier there is.
    SealWithoutCompare,
    /// The same of a merge, whatever became of what it replaces.
    MergeWithoutCompare,
}

impl Bug {
    /// All of them, by the names that people use.
    pub const ALL: [(&'static str, Self); 10] = [
        ("ack-before-fsync", Self::AckBeforeFsync),
        ("truncate-on-bad-checksum", Self::TruncateOnBadChecksum),
        ("vote-not-persisted", Self::VoteNotPersisted),
        ("no-dedup", Self::NoDedup),
        ("leader-restore", Self::LeaderRestore),
        ("purge-before-roll", Self::PurgeBeforeRoll),
        ("vote-in-doubt", Self::VoteInDoubt),
        ("stale-read", Self::StaleRead),
        ("seal-without-compare", Self::SealWithoutCompare),
        ("merge-without-compare", Self::MergeWithoutCompare),
    ];

    /// The bug of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, bug)| bug)
    }
}

#[cfg(feature = "sabotage")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    /// Plants a bug in this process in place of the one that was planted before; `None` takes it out.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(0, |bug| bug as u8), Ordering::SeqCst);
    }

    /// Whether this bug is planted.
    pub fn planted(bug: Bug) -> bool {
        PLANTED.load(Ordering::SeqCst) == bug as u8
    }
}

#[cfg(feature = "sabotage")]
pub use switch::{plant, planted};

/// Whether this bug is planted: never, without the feature `sabotage`.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}
