//! The service `Query`: answers as pieces of an Arrow stream, the statistics last.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, stream};
use stratalog_proto::Error;
use stratalog_proto::config::check_topic_name;
use stratalog_proto::v1::query_chunk::Chunk;
use stratalog_proto::v1::query_server::Query;
use stratalog_proto::v1::{self, QueryChunk};
use stratalog_query::{Answer, SearchRequest, SqlRequest};
use tonic::{Request, Response, Status};

use super::{Service, convert, status};
use crate::gateway::client_name;
use crate::rows::{ArrowStream, Piece, Pieces, pump};

/// Tokens that one query may wait for.
const MAX_TOKENS: usize = 4_096;

type Chunks = Pin<Box<dyn Stream<Item = Result<QueryChunk, Status>> + Send>>;

#[tonic::async_trait]
impl Query for Service {
    type SqlStream = Chunks;
    type SearchStream = Chunks;

    async fn sql(&self, request: Request<v1::SqlRequest>) -> Result<Response<Chunks>, Status> {
        let client = client(&request);
        let request = request.into_inner();
        self.call("Sql", async {
            convert::bounded("tokens", request.tokens.len(), MAX_TOKENS)?;
            let query = SqlRequest {
                tokens: convert::tokens(&request.tokens),
                parameters: request.parameters.into_iter().map(convert::parameter).collect(),
                sql: request.sql,
                timeout: timeout(request.timeout_ms),
                id: Some(request.query_id),
                client,
            };
            self.chunks("Sql", self.shared.broker.engine().sql(query).await?).await
        })
        .await
    }

    async fn search(&self, request: Request<v1::SearchRequest>) -> Result<Response<Chunks>, Status> {
        let client = client(&request);
        let request = request.into_inner();
        self.call("Search", async {
            check_topic_name(&request.topic)?;
            convert::bounded("tokens", request.tokens.len(), MAX_TOKENS)?;
            let query = SearchRequest {
                tokens: convert::tokens(&request.tokens),
                topic: request.topic,
                query: request.query,
                from_ns: request.from_ns,
                to_ns: request.to_ns,
                limit: (request.limit > 0).then_some(request.limit as usize),
                timeout: timeout(request.timeout_ms),
                id: Some(request.query_id),
                client,
            };
            self.chunks("Search", self.shared.broker.engine().search(query).await?).await
        })
        .await
    }
}

impl Service {
    async fn chunks(&self, method: &'static str, answer: Answer) -> Result<Chunks, Error> {
        let cancelled = self.shared.metrics.queries_cancelled.clone();
        let stall = self.shared.options.stall_timeout;
        let pieces = pump(answer, Box::new(ArrowStream::default()), stall, cancelled).await?;
        Ok(Box::pin(stream::unfold(pieces, move |pieces| chunk(method, pieces))))
    }
}

async fn chunk(method: &'static str, mut pieces: Pieces) -> Option<(Result<QueryChunk, Status>, Pieces)> {
    let chunk = match pieces.next().await? {
        Ok(Piece::Bytes(bytes)) => Ok(QueryChunk { chunk: Some(Chunk::Arrow(bytes)) }),
        Ok(Piece::Stats(stats)) => Ok(QueryChunk { chunk: Some(Chunk::Stats(stats)) }),
        Err(error) => Err(status(method, error)),
    };
    Some((chunk, pieces))
}

/// Who asks, as `system.queries` shows it.
fn client<T>(request: &Request<T>) -> String {
    let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok());
    client_name("grpc", agent)
}

/// 0 is the server's default.
fn timeout(ms: u32) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms.into()))
}
