//! Ids of idempotent producers.

use std::ops::Range;

use parking_lot::Mutex;
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, ProducerId, internal};

use super::{Broker, META};
use crate::outcome::CommandResult;

/// Ids that a node reserves at once; those left at a restart are never used.
const BLOCK: u32 = 1_000;

/// The ids that this node has reserved and not given out.
#[derive(Default)]
pub(super) struct ProducerIds {
    /// Half open.
    reserved: Mutex<Range<i64>>,
    /// One reservation at a time.
    reserving: tokio::sync::Mutex<()>,
}

impl Broker {
    /// A new idempotent producer: its id, which no other ever gets, and its first epoch.
    ///
    /// # Errors
    /// [`Code::Timeout`], [`Code::NotLeader`], [`Code::Unavailable`]: it may be tried again.
    pub async fn init_producer(&self) -> Result<(ProducerId, i16), Error> {
        let _one = self.producer_ids.reserving.lock().await;
        if let Some(id) = self.producer_ids.reserved.lock().next() {
            return Ok((ProducerId(id), 0));
        }
        let reserve = internal::AllocateProducerIds { count: BLOCK };
        let (_, reserved) = self.propose(META, Command::AllocateProducerIds(reserve)).await?;
        let CommandResult::ProducerIds(first) = reserved else {
            return Err(Error::new(Code::Internal, format!("producer ids were answered with {reserved:?}")));
        };
        *self.producer_ids.reserved.lock() = first.0.saturating_add(1)..first.0.saturating_add(i64::from(BLOCK));
        Ok((first, 0))
    }
}
