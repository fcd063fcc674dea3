//! gRPC: the services `Topics`, `Log`, `Query`, `Groups`, `Cluster` and `Backup` of `stratalog.v1`.

mod backup;
mod cluster;
mod convert;
mod fetch;
mod groups;
mod intake;
mod log;
mod produce;
mod query;
mod topics;
mod waiting;

use std::future::Future;
use std::sync::Arc;

use stratalog_proto::Error;
use stratalog_proto::v1::backup_server::BackupServer;
use stratalog_proto::v1::cluster_server::ClusterServer;
use stratalog_proto::v1::groups_server::GroupsServer;
use stratalog_proto::v1::log_server::LogServer;
use stratalog_proto::v1::query_server::QueryServer;
use stratalog_proto::v1::topics_server::TopicsServer;
use tonic::service::Routes;
use tonic::{Response, Status};

use crate::gateway::Shared;

pub(crate) use waiting::waiting;

/// The largest request, in bytes; Produce and queries have bounds of their own.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// The largest request of a query: a statement, and as much text in its parameters as they may have.
const MAX_QUERY_BYTES: usize = 4 << 20;

/// The services. Requests are not accepted compressed: record batches are compressed already, and a message that is not
/// decompressed cannot be a bomb.
pub(crate) fn routes(shared: &Arc<Shared>) -> Routes {
    let service = Service { shared: shared.clone() };
    let mut routes = Routes::new(TopicsServer::new(service.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(LogServer::new(service.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(QueryServer::new(service.clone()).max_decoding_message_size(MAX_QUERY_BYTES))
        .add_service(GroupsServer::new(service.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(ClusterServer::new(service.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(BackupServer::new(service.clone()).max_decoding_message_size(MAX_REQUEST_BYTES));
    fetch::route(service, routes.axum_router_mut());
    intake::route(shared.clone(), routes.axum_router_mut());
    routes
}

/// The implementation of every service.
#[derive(Clone)]
struct Service {
    shared: Arc<Shared>,
}

impl Service {
    /// Counts a call and turns its error into a status.
    async fn call<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<Response<T>, Status> {
        let result = call.await;
        self.shared.metrics.grpc(method, result.as_ref().map_or_else(|error| error.code.name(), |_| "OK"));
        match result {
            Ok(answer) => Ok(Response::new(answer)),
            Err(error) => Err(status(method, error)),
        }
    }
}

/// The status of an error; defects of ours are logged here, where they leave the node.
fn status(method: &'static str, error: Error) -> Status {
    if error.code == stratalog_proto::Code::Internal {
        tracing::error!(method, message = %error.message, "a gRPC call failed inside");
    }
    error.into()
}
