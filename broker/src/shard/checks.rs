//! Proposes the hashes that are taken of a shard's state, so that every replica compares its own (A1).

use std::sync::Weak;

use bytes::Bytes;
use stratalog_proto::entry::Command;
use stratalog_proto::internal;
use tokio::sync::watch;

use super::runtime::Shard;
use super::state::StateHash;

/// Runs until the shard is gone. Only the leader proposes; a hash that does not get through is not missed, the next one
/// comes soon.
pub(super) async fn propose_hashes(shard: Weak<Shard>, mut hashed: watch::Receiver<Option<StateHash>>) {
    while hashed.changed().await.is_ok() {
        let Some(taken) = *hashed.borrow_and_update() else { continue };
        let Some(shard) = shard.upgrade() else { return };
        if !shard.is_leader() {
            continue;
        }
        let hash = Bytes::copy_from_slice(&taken.hash);
        let check = internal::CheckState { index: taken.index.0, hash, digest: taken.digest };
        if let Err(error) = shard.propose(Command::CheckState(check)).await {
            tracing::debug!(shard = %shard.id(), index = %taken.index, %error, "a hash of the state was not compared");
        }
    }
}
