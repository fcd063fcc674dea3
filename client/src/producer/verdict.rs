//! What an answer says about a batch.

use std::time::Instant;

use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, ShardId, Token, v1};

use super::delivery::BatchAck;

/// What an answer, or its absence, says about one batch.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// It is in the log.
    Acked(BatchAck),
    /// It is not in the log, and may be sent again.
    Again(Error),
    /// It may be in the log, and may be sent again by an idempotent producer.
    Doubt(Error),
    /// It is not in the log: one before it is missing there.
    OutOfOrder(Error),
    /// It is not in the log, and will not be.
    Refused(Error),
    /// It may be in the log; asking again would not tell.
    Unclear(Error),
}

impl Verdict {
    /// Reads a partition's result of a produce.
    pub(super) fn of(result: v1::PartitionResult, now: Instant) -> Self {
        if result.code != 0 {
            return Self::of_failure(result);
        }
        let token = result.token.unwrap_or_default();
        Self::Acked(BatchAck {
            partition: PartitionId(result.partition),
            base_offset: Offset(result.base_offset),
            token: Token { shard: ShardId(token.shard), index: RaftIndex(token.index) },
            at: now,
        })
    }

    fn of_failure(result: v1::PartitionResult) -> Self {
        let Some(code) = Code::from_number(result.code) else {
            let message = format!("error {}, which this client does not know: {}", result.code, result.message);
            return Self::Unclear(Error::new(Code::Internal, message));
        };
        let error = Error::new(code, result.message);
        match code {
            Code::OutOfOrderSequence => Self::OutOfOrder(error),
            // A leader that is deposed, stopped or late may have replicated the batch before it said so.
            Code::Timeout | Code::NotLeader | Code::Unavailable => Self::Doubt(error),
            Code::Internal | Code::Io | Code::CorruptData | Code::Cancelled => Self::Unclear(error),
            _ if code.is_retriable() => Self::Again(error),
            _ => Self::Refused(error),
        }
    }
}
