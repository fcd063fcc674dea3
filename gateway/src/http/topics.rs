//! Topics: list, create, describe, alter, delete.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use stratalog_broker::TopicRows;
use stratalog_proto::config::{TOPIC_CONFIG_KEYS, TopicConfig, check_topic_name, format_columns, format_duration_ns};
use stratalog_proto::{Code, Error};
use stratalog_query::{PartitionInfo, TopicChange, TopicInfo};

use super::App;
use super::body::Payload;
use super::error::HttpError;
use super::params::{NoParams, Params, TopicName};

/// Settings in one request; there are far fewer keys.
const MAX_SETTINGS: usize = 100;

/// Settings as they are written: one that is a long array, which none is, takes no more than its text (X1).
type Config = BTreeMap<String, Box<RawValue>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    name: String,
    /// 0 or absent: the server's default.
    #[serde(default)]
    partitions: u32,
    #[serde(default)]
    config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlterBody {
    #[serde(default)]
    config: Config,
    partitions: Option<u32>,
}

/// `GET /v1/topics`
pub(super) async fn list(
    State(app): State<App>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Value>, HttpError> {
    let topics = app.broker.list_topics().await?;
    let topics: Vec<Value> = topics.iter().map(|topic| topic_value(topic)).collect();
    Ok(Json(json!({"topics": topics})))
}

/// `POST /v1/topics`
pub(super) async fn create(
    State(app): State<App>,
    Params(NoParams {}): Params<NoParams>,
    payload: Payload,
) -> Result<(StatusCode, Json<Value>), HttpError> {
    let body: CreateBody = payload.json()?;
    check_topic_name(&body.name)?;
    let mut config = TopicConfig::default();
    for (key, value) in settings(body.config)? {
        config.set(&key, &value)?;
    }
    let topic = app.broker.create_topic(&body.name, body.partitions, config).await?;
    Ok((StatusCode::CREATED, Json(topic_value(&topic))))
}

/// `GET /v1/topics/{topic}`
pub(super) async fn describe(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Value>, HttpError> {
    let (topic, partitions, rows) = app.broker.describe_topic(&name).await?;
    let mut value = topic_value(&topic);
    value["partition_details"] = partitions.iter().map(partition_value).collect();
    value["row_details"] = rows.as_ref().map_or(Value::Null, rows_value);
    Ok(Json(value))
}

/// `PATCH /v1/topics/{topic}`
pub(super) async fn alter(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
    payload: Payload,
) -> Result<Json<Value>, HttpError> {
    let body: AlterBody = payload.json()?;
    let change =
        TopicChange { settings: settings(body.config)?, partitions: body.partitions, ..TopicChange::default() };
    let topic = app.broker.change_topic(&name, &change).await?;
    Ok(Json(topic_value(&topic)))
}

/// `DELETE /v1/topics/{topic}`
pub(super) async fn delete(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
) -> Result<StatusCode, HttpError> {
    app.broker.delete_topic(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Settings as the broker takes them: text. Numbers are taken as they are written, null as empty.
fn settings(config: Config) -> Result<Vec<(String, String)>, Error> {
    if config.len() > MAX_SETTINGS {
        let keys = TOPIC_CONFIG_KEYS.join(", ");
        return Err(Error::new(
            Code::InvalidConfig,
            format!("{} settings are too many; the settings are {keys}", config.len()),
        ));
    }
    config.into_iter().map(|(key, value)| setting(&key, value.get()).map(|value| (key, value))).collect()
}

fn setting(key: &str, json: &str) -> Result<String, Error> {
    let scalar = if json.starts_with(['[', '{']) { None } else { serde_json::from_str(json).ok() };
    match scalar {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Null) => Ok(String::new()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => {
            let shown = |text: &str| text.chars().take(60).flat_map(char::escape_default).collect::<String>();
            let message = format!("topic setting `{}` cannot be `{}`: write text or a number", shown(key), shown(json));
            Err(Error::new(Code::InvalidConfig, message))
        }
    }
}

fn topic_value(topic: &TopicInfo) -> Value {
    let config = &topic.config;
    json!({
        "name": topic.name,
        "id": topic.id.to_string(),
        "partitions": topic.partitions,
        "config": {
            "format": config.format.name(),
            "time.field": config.time_field,
            "bucket": format_duration_ns(config.bucket_ns),
            "retention": config.retention_ns.map(format_duration_ns),
            "retention.bytes": config.retention_bytes,
            "max.message.bytes": config.max_message_bytes,
            "pattern": config.pattern,
            "multiline": config.multiline,
            "columns": (!config.columns.is_empty()).then(|| format_columns(&config.columns)),
            "replication": config.replication,
        },
    })
}

fn rows_value(rows: &TopicRows) -> Value {
    json!({
        "rows": rows.rows,
        "dead_rows": rows.dead_rows,
        "tail_rows": rows.tail_rows,
        "tail_bytes": rows.tail_bytes,
        "segments": rows.segments,
        "segment_bytes": rows.segment_bytes,
        "lag": rows.lag,
        "held": rows.held.iter().map(|(shard, why)| json!({"shard": shard.0, "message": why.message})).collect::<Vec<_>>(),
    })
}

fn partition_value(partition: &PartitionInfo) -> Value {
    json!({
        "partition": partition.partition.0,
        "shard": partition.shard.0,
        "log_start": partition.log_start.0,
        "high_watermark": partition.high_watermark.0,
        "bytes": partition.bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_text_numbers_or_null() {
        let config = serde_json::from_str(r#"{"bucket":"1h","max.message.bytes":2048,"retention":null}"#).unwrap();
        let expected = [("bucket", "1h"), ("max.message.bytes", "2048"), ("retention", "")];
        assert_eq!(settings(config).unwrap(), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        for none in [r#"{"bucket":{"a":1}}"#, r#"{"bucket":[1]}"#, r#"{"bucket":true}"#] {
            assert_eq!(settings(serde_json::from_str(none).unwrap()).unwrap_err().code, Code::InvalidConfig, "{none}");
        }
    }
}
