//! Fetch: record batches leave as they lie in the log.

mod ahead;
mod gather;
mod session;
mod sessions;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::Node;
use super::api::Request;
use super::connection::Client;
use super::requests::fetch::{Asked, Forgotten, Limits, MAX_BYTES, Named, Partition, Topic, read};
use super::wire::Malformed;
use gather::Found;
pub(super) use sessions::{MAX_SESSIONS, Sessions};

/// After records were read for which there is no room.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn answer(
    node: &Node,
    client: &Client,
    request: &Request,
) -> Result<(Vec<Bytes>, Option<OwnedSemaphorePermit>), Malformed> {
    let asked = read(request)?;
    let (limits, rack) = (asked.limits, asked.rack.clone());
    let mut session = match node.shares.sessions.open(asked).await {
        Ok(session) => session,
        Err(error) => return Ok((write::refusal(request, error), None)),
    };
    let mut found = gather::gather(node, client, limits, &rack, &session.topics).await;
    let bytes: usize = found.iter().map(Found::bytes).sum();
    match Arc::clone(&node.shares.answers).try_acquire_many_owned((bytes.min(MAX_BYTES) / 1024) as u32) {
        Ok(held) => Ok((write::write(request, limits.max_bytes, &mut session, &found), Some(held))),
        // Too many clients have not taken theirs yet: this one asks again.
        Err(_) => {
            found.iter_mut().for_each(Found::without_records);
            tokio::time::sleep(PAUSE).await;
            Ok((write::write(request, limits.max_bytes, &mut session, &found), None))
        }
    }
}
