//! The HTTP API, `docs/HTTP.md` for users. One file per group of requests; what they share is in `error`, `media`,
//! `body`, `params` and `answer`.

mod answer;
mod body;
mod cluster;
mod dead_letters;
mod error;
mod guard;
mod health;
mod media;
mod parameters;
mod params;
mod produce;
mod query;
mod read;
mod retention;
mod segments;
mod suggest;
mod topics;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};
use tower_http::decompression::RequestDecompressionLayer;

pub(crate) use body::Bodies;
pub(crate) use cluster::waiting;
pub(crate) use error::error_value;
pub(crate) use read::rfc3339_ms;

use crate::gateway::Shared;
use error::HttpError;

/// What handlers see.
pub(crate) type App = Arc<Shared>;

/// Every route of the API.
pub(crate) fn router(app: &App) -> Router {
    let bounded = Router::new()
        .route("/", get(health::about))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/v1/cluster", get(cluster::status))
        .route("/v1/queries/{id}", delete(query::kill))
        .route("/v1/topics", get(topics::list).post(topics::create))
        .route("/v1/topics/{topic}", get(topics::describe).patch(topics::alter).delete(topics::delete))
        .route("/v1/topics/{topic}/records", get(read::read).post(produce::produce))
        .route("/v1/topics/{topic}/offsets", get(read::offsets))
        .route("/v1/topics/{topic}/segments", get(segments::list))
        .route("/v1/topics/{topic}/records/delete", post(retention::delete_records))
        .route("/v1/topics/{topic}/retention/drop", post(retention::drop_before))
        .route("/v1/topics/{topic}/retention/apply", post(retention::apply))
        .route_layer(from_fn_with_state(app.clone(), guard::deadline));
    // Queries have the deadline of the engine, which may be longer.
    let queries = Router::new().route("/v1/sql", post(query::sql)).route("/v1/search", post(query::search));
    // These end when all rows are through, and no client has to wait.
    let upkeep = Router::new()
        .route("/v1/topics/{topic}/seal", post(segments::seal))
        .route("/v1/topics/{topic}/merge", post(segments::merge))
        .route("/v1/topics/{topic}/dead-letters", get(dead_letters::list))
        .route("/v1/topics/{topic}/dead-letters/retry", post(dead_letters::retry));
    bounded
        .merge(queries)
        .merge(upkeep)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(app.clone())
        // `Bodies` is the limit, after decompression.
        .layer(DefaultBodyLimit::disable())
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(from_fn(guard::same_origin))
        .layer(from_fn_with_state(app.clone(), guard::observe))
}

async fn not_found(uri: Uri) -> HttpError {
    let path: String = uri.path().chars().take(100).collect();
    HttpError::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}; GET / lists what there is"))
}

async fn method_not_allowed(method: Method, uri: Uri) -> HttpError {
    let path: String = uri.path().chars().take(100).collect();
    HttpError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} does not take {method}; see the Allow header"))
}
