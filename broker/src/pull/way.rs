//! How many files are fetched at once, and how fast.

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::pace::Pace;

/// Files that are fetched at once one way, in all shards together.
const AT_ONCE: usize = 4;

/// A way to this node, which all that is fetched on it shares.
#[derive(Debug)]
pub(crate) struct Way {
    pub(super) pace: Pace,
    pub(super) at_once: Semaphore,
}

impl Way {
    /// So many bytes in a second; 0: as fast as it goes.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        // Whoever waits on the way ends with its task.
        Self { pace: Pace::new(bytes_per_second, CancellationToken::new()), at_once: Semaphore::new(AT_ONCE) }
    }
}
