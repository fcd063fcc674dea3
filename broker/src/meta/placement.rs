//! On which shards the partitions of a new topic live.

use std::collections::BTreeMap;

use stratalog_proto::ShardId;

/// Spreads `partitions` over `shards`, those with the fewest partitions first. A partition never moves to another shard.
///
/// # Panics
/// If there are no shards.
pub(super) fn place(partitions: u32, shards: &[ShardId], load: &BTreeMap<ShardId, usize>) -> Vec<ShardId> {
    assert!(!shards.is_empty(), "a data directory has at least one shard");
    let mut by_load = shards.to_vec();
    by_load.sort_by_key(|shard| (load.get(shard).copied().unwrap_or(0), *shard));
    by_load.into_iter().cycle().take(partitions as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_spread_from_the_emptiest_shard() {
        let shards = [ShardId(1), ShardId(2), ShardId(3)];
        let load = BTreeMap::from([(ShardId(1), 5), (ShardId(2), 0), (ShardId(3), 2)]);
        assert_eq!(place(4, &shards, &load), [ShardId(2), ShardId(3), ShardId(1), ShardId(2)]);
    }
}
