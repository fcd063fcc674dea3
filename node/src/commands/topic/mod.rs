//! `stratalog topic`.

mod verify;

use std::io::{IsTerminal, Write};

use serde_json::Value;
use stratalog_proto::config::format_duration_ns;
use stratalog_proto::v1;
use uuid::Uuid;

use crate::cli::{Global, OutputFormat, Topic, TopicCreate};
use crate::failure::Failure;
use crate::output::{Fields, Listing, human_bytes, human_count, print_object};

pub(super) async fn run(global: &Global, command: Topic) -> Result<(), Failure> {
    let client = global.client().await?;
    match command {
        Topic::Create(create) => {
            let topic = client.create_topic(&create.name, create.partitions.unwrap_or(0), &settings(&create)).await?;
            print_object(global.format(), &topic_fields(&topic))
        }
        Topic::List => list(global.format(), &client.topics().await?),
        Topic::Describe { name } => describe(global.format(), &client.describe_topic(&name).await?),
        Topic::Alter { name, set } => {
            print_object(global.format(), &topic_fields(&client.alter_topic(&name, &set).await?))
        }
        Topic::Verify { name } => verify::run(&client, global.format(), &name).await,
        Topic::Delete { name, yes } => {
            confirm_delete(&name, yes)?;
            client.delete_topic(&name).await?;
            print_object(global.format(), &vec![("deleted", name.into())])
        }
    }
}

/// Flags are shorthands of settings; `--set` comes last and wins.
fn settings(create: &TopicCreate) -> Vec<(String, String)> {
    let flags = [
        ("format", &create.format),
        ("time.field", &create.time_field),
        ("bucket", &create.bucket),
        ("retention", &create.retention),
    ];
    let given = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
    given.chain(create.set.iter().cloned()).collect()
}

fn topic_fields(topic: &v1::Topic) -> Fields {
    let config = topic.config.clone().unwrap_or_default();
    let retention = match config.retention_ns {
        0 => "forever".to_owned(),
        ns => format_duration_ns(ns),
    };
    let time_field = Some(config.time_field).filter(|field| !field.is_empty());
    vec![
        ("name", topic.name.clone().into()),
        ("id", Uuid::from_slice(&topic.id).unwrap_or_default().to_string().into()),
        ("partitions", topic.partitions.into()),
        ("format", config.format.into()),
        ("time.field", time_field.into()),
        ("bucket", format_duration_ns(config.bucket_ns).into()),
        ("retention", retention.into()),
        ("max.message.bytes", config.max_message_bytes.into()),
    ]
}

fn list(format: OutputFormat, topics: &[v1::Topic]) -> Result<(), Failure> {
    let columns: Vec<&str> = topic_fields(&v1::Topic::default()).iter().map(|(key, _)| *key).collect();
    let mut listing = Listing::new(&columns);
    for topic in topics {
        listing.push(topic_fields(topic).into_iter().map(|(_, value)| value).collect());
    }
    listing.print(format)
}

fn describe(format: OutputFormat, described: &v1::DescribeTopicResponse) -> Result<(), Failure> {
    let mut topic = topic_fields(&described.topic.clone().unwrap_or_default());
    let mut partitions = Listing::new(&["partition", "shard", "log_start", "high_watermark", "bytes"]);
    for p in &described.partitions {
        partitions.push(vec![
            p.partition.into(),
            p.shard.into(),
            p.log_start.into(),
            p.high_watermark.into(),
            p.bytes.into(),
        ]);
    }
    match format {
        OutputFormat::Table => {
            print_object(format, &topic)?;
            partitions.print(format)?;
            let records: u64 =
                described.partitions.iter().map(|p| p.high_watermark - p.log_start.min(p.high_watermark)).sum();
            let bytes: u64 = described.partitions.iter().map(|p| p.bytes).sum();
            Ok(writeln!(
                std::io::stdout(),
                "{} offsets, {} as compressed by the producers",
                human_count(records),
                human_bytes(bytes)
            )?)
        }
        OutputFormat::Csv => partitions.print(format),
        OutputFormat::Json | OutputFormat::Ndjson => {
            topic.push(("partition_list", Value::Array(partitions.objects())));
            print_object(format, &topic)
        }
    }
}

/// Asks before everything is lost; a script says `--yes`.
fn confirm_delete(name: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("deleting the topic {name} deletes all its records: say --yes")));
    }
    eprint!("Delete the topic {name} and all its records? Type its name to go on: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Failure::io("read", "the answer", &error))?;
    if answer.trim() == name { Ok(()) } else { Err(Failure::Refused("nothing was deleted".to_owned())) }
}
