//! How many files are fetched at once, and how fast.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::pace::Pace;

/// Files that are fetched at once one way, in all shards together.
const AT_ONCE: usize = 4;

/// Of a replica that gets the log of others: its leader takes one that does not answer at all for lost.
const LONGEST_REST: Duration = Duration::from_secs(1);

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

    /// Returns once so many more bytes may have come, or after [`LONGEST_REST`].
    pub(crate) async fn rest_for(&self, bytes: u64) {
        // Whoever is too early pays for it next time.
        let _ = tokio::time::timeout(LONGEST_REST, self.pace.earn(bytes)).await;
    }
}
