//! How topics are shown: their settings, what became of their records, their partitions.

use std::io::Write;

use serde_json::{Value, json};
use stratalog_proto::config::{ColumnSpec, format_columns, format_duration_ns};
use stratalog_proto::v1;
use uuid::Uuid;

use super::readers::Readers;
use crate::cli::OutputFormat;
use crate::failure::Failure;
use crate::output::{Fields, Listing, human_bytes, human_count, print_object};

/// Settings that most topics do not have: a table of topics shows them if one has them.
const RARE: [&str; 6] = ["time.field", "retention.bytes", "pattern", "multiline", "columns", "replication"];

/// A topic's settings, as `stratalog topic alter --set` takes them.
pub(super) fn topic_fields(topic: &v1::Topic) -> Fields {
    let config = topic.config.clone().unwrap_or_default();
    let retention = match config.retention_ns {
        0 => "forever".to_owned(),
        ns => format_duration_ns(ns),
    };
    let given = |text: String| Value::from(Some(text).filter(|text| !text.is_empty()));
    vec![
        ("name", topic.name.clone().into()),
        ("id", Uuid::from_slice(&topic.id).unwrap_or_default().to_string().into()),
        ("partitions", topic.partitions.into()),
        ("format", config.format.into()),
        ("time.field", given(config.time_field)),
        ("bucket", format_duration_ns(config.bucket_ns).into()),
        ("retention", retention.into()),
        ("retention.bytes", Some(config.retention_bytes).filter(|bytes| *bytes > 0).into()),
        ("max.message.bytes", config.max_message_bytes.into()),
        ("pattern", given(config.pattern)),
        ("multiline", given(config.multiline)),
        ("columns", given(columns(&config.columns))),
        ("replication", Some(config.replication).filter(|copies| *copies > 0).into()),
    ]
}

fn columns(columns: &[v1::Column]) -> String {
    let specs = columns.iter().filter_map(|column| ColumnSpec::from_v1(column).ok());
    format_columns(&specs.collect::<Vec<_>>())
}

/// Prints one row a topic.
pub(super) fn list(format: OutputFormat, topics: &[v1::Topic]) -> Result<(), Failure> {
    let columns: Vec<&str> = topic_fields(&v1::Topic::default()).iter().map(|(key, _)| *key).collect();
    let mut listing = Listing::new(&columns);
    for topic in topics {
        listing.push(topic_fields(topic).into_iter().map(|(_, value)| value).collect());
    }
    if format == OutputFormat::Table { listing.without_empty(&RARE).print(format) } else { listing.print(format) }
}

/// Prints all that there is to say of one topic, in this cluster.
pub(super) fn describe(
    format: OutputFormat,
    described: &v1::DescribeTopicResponse,
    cluster: &v1::ClusterStatus,
    readers: &Readers,
) -> Result<(), Failure> {
    let mut topic = topic_fields(&described.topic.clone().unwrap_or_default());
    let partitions = partitions(described, cluster);
    match format {
        OutputFormat::Table => {
            print_object(format, &topic)?;
            partitions.print(format)?;
            readers.print()?;
            print_summary(described)
        }
        OutputFormat::Csv => partitions.print(format),
        OutputFormat::Json | OutputFormat::Ndjson => {
            topic.push(("row_details", described.rows.as_ref().map_or(Value::Null, row_details)));
            topic.push(("partition_list", Value::Array(partitions.objects())));
            topic.push(("groups", readers.value()));
            print_object(format, &topic)
        }
    }
}

fn partitions(described: &v1::DescribeTopicResponse, cluster: &v1::ClusterStatus) -> Listing {
    let columns = ["partition", "shard", "log_start", "high_watermark", "bytes", "leader", "replicas"];
    let mut partitions = Listing::new(&columns);
    for p in &described.partitions {
        let shard = cluster.shards.iter().find(|shard| shard.shard == p.shard);
        partitions.push(vec![
            p.partition.into(),
            p.shard.into(),
            p.log_start.into(),
            p.high_watermark.into(),
            p.bytes.into(),
            shard.map(|shard| shard.leader_node).filter(|node| *node > 0).into(),
            shard.map(|shard| shard.replicas.iter().map(|replica| replica.node).collect::<Value>()).into(),
        ]);
    }
    partitions
}

fn row_details(rows: &v1::TopicRows) -> Value {
    json!({
        "rows": rows.rows,
        "dead_rows": rows.dead_rows,
        "tail_rows": rows.tail_rows,
        "tail_bytes": rows.tail_bytes,
        "segments": rows.segments,
        "segment_bytes": rows.segment_bytes,
        "lag": rows.lag,
        "held": rows.held,
    })
}

/// In words: how much there is, and what is wrong with it.
fn print_summary(described: &v1::DescribeTopicResponse) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    let records: u64 = described.partitions.iter().map(|p| p.high_watermark.saturating_sub(p.log_start)).sum();
    let bytes: u64 = described.partitions.iter().map(|p| p.bytes).sum();
    writeln!(out, "{} offsets in the log, {} as the producers sent them", human_count(records), human_bytes(bytes))?;
    let Some(rows) = &described.rows else {
        return Ok(writeln!(out, "no rows: records of a raw topic are consumed and not queried")?);
    };
    let sealed = rows.rows.saturating_sub(rows.tail_rows);
    let [all, sealed, segments] = [rows.rows, sealed, rows.segments].map(human_count);
    write!(out, "{all} rows: {sealed} in {segments} segments of {}", human_bytes(rows.segment_bytes))?;
    if rows.tail_rows > 0 {
        let (tail, memory) = (human_count(rows.tail_rows), human_bytes(rows.tail_bytes));
        write!(out, ", {tail} not yet in one, which take {memory} of memory")?;
    }
    writeln!(out)?;
    print_trouble(&mut out, &described.topic.clone().unwrap_or_default().name, rows)
}

fn print_trouble(out: &mut impl Write, topic: &str, rows: &v1::TopicRows) -> Result<(), Failure> {
    if rows.dead_rows > 0 {
        let (dead, are) =
            (human_count(rows.dead_rows), if rows.dead_rows == 1 { "is a dead letter" } else { "are dead letters" });
        writeln!(out, "{dead} of the rows {are}; see why: stratalog dead-letters list {topic}")?;
    }
    if rows.lag > 0 {
        writeln!(out, "{} log entries are not rows yet", human_count(rows.lag))?;
    }
    for why in &rows.held {
        writeln!(out, "no further rows: {why}")?;
    }
    Ok(())
}
