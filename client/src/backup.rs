//! Copies of shards, for backups.

use stratalog_proto::Code;
use stratalog_proto::v1::copy_ask::Ask;
use stratalog_proto::v1::{CopyAnswer, CopyAsk};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::retry::reading;
use crate::{Client, ClientError};

/// A connection for the copy of one shard; see `CopyShard` of the gRPC service `Backup`. What was opened stays open until
/// this is dropped.
#[derive(Debug)]
pub struct ShardCopy {
    asks: mpsc::Sender<CopyAsk>,
    answers: Streaming<CopyAnswer>,
}

impl Client {
    /// Begins the copy of a shard; nothing is open yet.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn copy_shard(&self) -> Result<ShardCopy, ClientError> {
        let begin = |node: crate::nodes::Node| async move {
            let (asks, asked) = mpsc::channel(1);
            let answers = node.backup().copy_shard(ReceiverStream::new(asked)).await?;
            Ok::<_, Status>(Response::new(ShardCopy { asks, answers: answers.into_inner() }))
        };
        reading(self, begin).await
    }
}

impl ShardCopy {
    /// One question, one answer.
    ///
    /// # Errors
    /// Those of the node; `Unavailable` if it is gone. Nothing can be asked afterwards.
    pub async fn ask(&mut self, ask: Ask) -> Result<CopyAnswer, ClientError> {
        // Whether it was sent shows in the answer.
        let _ = self.asks.send(CopyAsk { ask: Some(ask) }).await;
        let ended = || ClientError::new(Code::Unavailable, "the node ended the copy of a shard: it is stopping");
        self.answers.message().await?.ok_or_else(ended)
    }
}
