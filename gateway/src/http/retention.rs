//! What leaves: segments by their time or by the settings of a topic, and records by their offset.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use stratalog_broker::Dropped;
use stratalog_proto::{Offset, PartitionId};

use super::App;
use super::body::Payload;
use super::error::HttpError;
use super::params::{NoParams, Params, TimeNs, TopicName};
use super::segments::segment_value;
use crate::segments::to_v1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DropBody {
    before: TimeNs,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyBody {
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteBody {
    before: Vec<FirstKept>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstKept {
    partition: u32,
    /// -1: none is kept, as in Kafka.
    offset: i64,
}

/// `POST /v1/topics/{topic}/retention/drop`
pub(super) async fn drop_before(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
    payload: Payload,
) -> Result<Json<Value>, HttpError> {
    let body: DropBody = payload.json()?;
    let dropped = app.broker.drop_before(&name, body.before.0, body.dry_run).await?;
    Ok(Json(dropped_value(&dropped, body.dry_run)))
}

/// `POST /v1/topics/{topic}/retention/apply`
pub(super) async fn apply(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
    payload: Payload,
) -> Result<Json<Value>, HttpError> {
    let body: ApplyBody = payload.json()?;
    let dropped = app.broker.apply_retention(&name, body.dry_run).await?;
    Ok(Json(dropped_value(&dropped, body.dry_run)))
}

/// `POST /v1/topics/{topic}/records/delete`
pub(super) async fn delete_records(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
    payload: Payload,
) -> Result<Json<Value>, HttpError> {
    let body: DeleteBody = payload.json()?;
    let before = body.before.iter().map(FirstKept::place).collect::<Result<Vec<_>, _>>()?;
    let log_starts = app.broker.delete_records(&name, &before).await?;
    Ok(Json(json!({"log_starts": offsets_value(&log_starts)})))
}

impl FirstKept {
    fn place(&self) -> Result<(PartitionId, Offset), HttpError> {
        let offset = match u64::try_from(self.offset) {
            Ok(offset) => offset,
            Err(_) if self.offset == -1 => u64::MAX,
            Err(_) => {
                let what = format!("`offset` is the first to keep, or -1 to keep none, not {}", self.offset);
                return Err(HttpError::bad_request(what));
            }
        };
        Ok((PartitionId(self.partition), Offset(offset)))
    }
}

fn dropped_value(dropped: &Dropped, dry_run: bool) -> Value {
    json!({
        "dry_run": dry_run,
        "dropped": to_v1(&dropped.segments).iter().map(segment_value).collect::<Vec<_>>(),
        "rows": dropped.rows,
        "bytes": dropped.bytes,
        "log_bytes": dropped.log_bytes,
        "log_starts": offsets_value(&dropped.log_starts),
        "tail_rows": dropped.tail_rows,
        "elapsed_us": dropped.elapsed.as_micros() as u64,
    })
}

fn offsets_value(offsets: &[(PartitionId, Offset)]) -> Vec<Value> {
    let value = |(partition, offset): &(PartitionId, Offset)| json!({"partition": partition.0, "offset": offset.0});
    offsets.iter().map(value).collect()
}
