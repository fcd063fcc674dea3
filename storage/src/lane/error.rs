use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use stratalog_proto::{Code, Error, RaftIndex, ShardId};

use super::LanePos;
use crate::io::{is_full, lacks_descriptor};

/// Why a lane, or the votes beside it, could not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LaneError {
    /// An error of the disk; its text names the file and what was tried.
    #[error("lane: {0}")]
    Io(Arc<io::Error>),
    /// Bytes that fail a checksum, or contradict the log around them (L5).
    #[error("{} is damaged at offset {offset}: {what}. Nothing was changed; restore the file from a copy", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the damaged structure starts, in bytes.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A file of a version that this one does not know.
    #[error("{} has format version {version}: it was written by a newer version of Stratalog, open it with that", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A frame that fits no file.
    #[error("entry {index} of shard {shard} has {bytes} bytes, a lane file holds at most {max_bytes} in one frame")]
    TooLarge {
        /// The frame's shard.
        shard: ShardId,
        /// The frame's index.
        index: RaftIndex,
        /// The payload's length.
        bytes: usize,
        /// The most that a payload can have.
        max_bytes: usize,
    },
    /// A read of a position at which nothing is durable yet.
    #[error("nothing is durable at offset {} of lane file {}", .0.offset, .0.file)]
    NotDurable(LanePos),
    /// A read of a position in a file that was given up.
    #[error("lane file {} was given up, nothing is read of it any more (offset {})", .0.file, .0.offset)]
    Released(LanePos),
    /// An earlier error stopped the lane. What was not acknowledged by then may or may not be on the medium.
    #[error("the lane stopped at an earlier error, restart the node: {0}")]
    Dead(Arc<LaneError>),
    /// The flush thread panicked: a defect of ours.
    #[error("the lane stopped at a defect, restart the node")]
    Defect,
    /// The lane was closed.
    #[error("the lane is closed")]
    Closed,
    /// Options out of bounds.
    #[error("lane options: {0}")]
    Options(String),
}

impl From<io::Error> for LaneError {
    fn from(error: io::Error) -> Self {
        LaneError::Io(Arc::new(error))
    }
}

impl LaneError {
    /// Whether the device had no room.
    pub fn is_full(&self) -> bool {
        match self {
            LaneError::Io(error) => is_full(error),
            LaneError::Dead(cause) => cause.is_full(),
            _ => false,
        }
    }

    /// Whether the same may succeed later, with nothing repaired: the device had no room, or the process no descriptor.
    pub(super) fn may_pass(&self) -> bool {
        self.is_full() || matches!(self, LaneError::Io(error) if lacks_descriptor(error))
    }

    /// Whether this says that the device fails, and not that one name in a directory cannot be had.
    pub(super) fn is_of_the_device(&self) -> bool {
        let of_a_name = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied);
        !self.may_pass() && !matches!(self, LaneError::Io(error) if of_a_name(error))
    }

    fn code(&self) -> Code {
        match self {
            LaneError::Io(_) if self.is_full() => Code::StorageFull,
            LaneError::Io(_) => Code::Io,
            LaneError::Corrupt { .. } => Code::CorruptData,
            LaneError::NewerVersion { .. } => Code::NewerVersion,
            LaneError::TooLarge { .. } => Code::MessageTooLarge,
            LaneError::NotDurable(_) | LaneError::Released(_) | LaneError::Defect => Code::Internal,
            LaneError::Dead(_) => Code::Io,
            LaneError::Closed => Code::Unavailable,
            LaneError::Options(_) => Code::InvalidConfig,
        }
    }
}

impl From<LaneError> for Error {
    fn from(error: LaneError) -> Self {
        Error::new(error.code(), error.to_string())
    }
}
