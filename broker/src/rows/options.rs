//! How rows are made, held and sealed.

use std::time::Duration;

/// Limits of the tail, and when it is sealed. The same for all shards of a node unless a line says otherwise.
#[derive(Clone, Debug)]
pub struct RowsOptions {
    /// A topic's tail in one shard is sealed at so many bytes of memory.
    pub seal_bytes: usize,
    /// It is sealed at so many rows.
    pub seal_rows: usize,
    /// It is sealed when its oldest row is this old.
    pub seal_age: Duration,
    /// A topic's tail in one shard may take so many bytes; a produce to it waits beyond.
    pub topic_tail_bytes: usize,
    /// From so many bytes of all tails together on, the largest is sealed early. It bounds what a start has to make again
    /// before queries are answered.
    pub rebuild_bytes: usize,
    /// All tails of the node may take so many bytes; a produce waits beyond. At twice as much no further rows are made until
    /// a seal has made room.
    pub tail_budget_bytes: usize,
    /// How long a query waits for the rows that a start makes again, before it fails, retriably.
    pub rebuild_wait: Duration,
    /// A produce waits while the rows of its shard lag this far behind its log.
    pub max_lag: Duration,
    /// How long a produce waits for room before it is refused, retriably.
    pub throttle_wait: Duration,
    /// Bytes of record batches that are made into rows at once, per shard.
    pub pull_bytes: usize,
    /// Memory of a text index while it is built.
    pub index_budget_bytes: usize,
    /// Seals that are built at once.
    pub parallel_seals: usize,
    /// Bytes of segments that merging reads in a second, in all shards together; 0: nothing is merged in the background.
    pub merge_rate_bytes: u64,
    /// Memory for the values of a column that a merge holds at once.
    pub merge_held_bytes: usize,
    /// How often expired segments are looked for.
    pub retention_interval: Duration,
}

impl Default for RowsOptions {
    fn default() -> Self {
        Self {
            seal_bytes: 64 << 20,
            seal_rows: 1_000_000,
            seal_age: Duration::from_secs(300),
            topic_tail_bytes: 256 << 20,
            rebuild_bytes: 128 << 20,
            tail_budget_bytes: 512 << 20,
            rebuild_wait: Duration::from_secs(10),
            max_lag: Duration::from_secs(10),
            throttle_wait: Duration::from_secs(5),
            pull_bytes: 4 << 20,
            index_budget_bytes: 256 << 20,
            parallel_seals: 2,
            merge_rate_bytes: 32 << 20,
            merge_held_bytes: 128 << 20,
            retention_interval: Duration::from_secs(30),
        }
    }
}
