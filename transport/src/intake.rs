//! The bytes of frames that come in, over all connections of a node together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::{Frame, TransportOptions};

/// Frames up to this many bytes come in without asking: heartbeats and answers never wait behind bulk. It is also what a
/// stream may have taken in when the rest of its frame has to wait.
pub(crate) const FREE_BYTES: usize = 64 << 10;

/// Bounds what comes in: a frame that does not fit is not read until others are done with, and its sender is held back.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    room: Arc<Semaphore>,
    patience: Duration,
}

/// Room for a frame, given back when it is dropped.
pub(crate) type Room = OwnedSemaphorePermit;

impl Intake {
    pub(crate) fn new(options: &TransportOptions) -> Self {
        // Less than the largest frame would never let that one in.
        let bytes = options.max_intake_bytes.clamp(Frame::MAX_BYTES, Semaphore::MAX_PERMITS);
        Self { room: Arc::new(Semaphore::new(bytes)), patience: options.intake_wait }
    }

    /// Room for a frame of so many bytes, once there is; `None` if there was none for too long.
    pub(crate) async fn room_for(&self, bytes: usize) -> Option<Room> {
        let bytes = u32::try_from(bytes.min(Frame::MAX_BYTES)).ok()?;
        timeout(self.patience, self.room.clone().acquire_many_owned(bytes)).await.ok()?.ok()
    }

    /// How long may be waited: for room, and for the next piece of a frame that has some.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }
}
