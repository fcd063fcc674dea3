//! The service `Backup`.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use stratalog_proto::Error;
use stratalog_proto::v1::backup_server::Backup;
use stratalog_proto::v1::{CopyAnswer, CopyAsk};
use tonic::{Request, Response, Status, Streaming};

use super::{Service, status};

const METHOD: &str = "CopyShard";

#[tonic::async_trait]
impl Backup for Service {
    type CopyShardStream = Pin<Box<dyn Stream<Item = Result<CopyAnswer, Status>> + Send>>;

    async fn copy_shard(
        &self,
        request: Request<Streaming<CopyAsk>>,
    ) -> Result<Response<Self::CopyShardStream>, Status> {
        let asks = request.into_inner().map(|ask| ask.map_err(Error::from));
        self.call(METHOD, async {
            let answers =
                self.shared.broker.copy_shard(asks.boxed()).map(|answer| answer.map_err(|error| status(METHOD, error)));
            // A client keeps it open for as long as it copies other shards.
            let stopping = self.shared.stopping.clone();
            let answers = answers.take_until(async move { stopping.cancelled().await });
            Ok(Box::pin(answers) as Self::CopyShardStream)
        })
        .await
    }
}
