//! Topics.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::{Args, Outcome, tell};

const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(command: &str, args: &Args) -> Outcome {
    let admin: AdminClient<DefaultClientContext> = args.config()?.create()?;
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    match command {
        "create-topic" => create(&admin, &options, args).await,
        "topics" => topics(args),
        "describe-topic" => describe(args),
        "describe-configs" => configs(&admin, &options, args).await,
        "delete-records" => delete_records(&admin, &options, args).await,
        "delete-topic" => {
            let topic = args.text("topic")?;
            for outcome in admin.delete_topics(&[topic], &options).await? {
                outcome.map_err(|(_, code)| code.to_string())?;
            }
            Ok(())
        }
        _ => Err(format!("there is no command {command}").into()),
    }
}

async fn create(admin: &AdminClient<DefaultClientContext>, options: &AdminOptions, args: &Args) -> Outcome {
    let partitions = i32::try_from(args.number("partition")?)?;
    let mut asked = NewTopic::new(args.text("topic")?, partitions, TopicReplication::Fixed(-1));
    for setting in args.get("configs").unwrap_or_default().split(',') {
        if let Some((name, value)) = setting.split_once('=') {
            asked = asked.set(name, value);
        }
    }
    for outcome in admin.create_topics(&[asked], options).await? {
        outcome.map_err(|(_, code)| code.to_string())?;
    }
    Ok(())
}

fn topics(args: &Args) -> Outcome {
    let client: BaseConsumer = args.config()?.create()?;
    let metadata = client.fetch_metadata(None, PATIENCE)?;
    let mut names: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
    names.sort_unstable();
    tell(&json!({"topics": names}));
    Ok(())
}

fn describe(args: &Args) -> Outcome {
    let client: BaseConsumer = args.config()?.create()?;
    let metadata = client.fetch_metadata(Some(args.text("topic")?), PATIENCE)?;
    let topic = metadata.topics().first().ok_or("the topic is not answered")?;
    if let Some(error) = topic.error() {
        return Err(format!("the topic is not described: {error:?}").into());
    }
    let mut partitions: Vec<_> = topic.partitions().iter().collect();
    partitions.sort_by_key(|partition| partition.id());
    let told: Vec<Value> = partitions
        .into_iter()
        .map(|p| json!({"partition": p.id(), "leader": p.leader(), "replicas": p.replicas(), "isr": p.isr()}))
        .collect();
    tell(&json!({"topic": topic.name(), "partitions": told}));
    Ok(())
}

async fn configs(admin: &AdminClient<DefaultClientContext>, options: &AdminOptions, args: &Args) -> Outcome {
    let asked = ResourceSpecifier::Topic(args.text("topic")?);
    let mut configs = BTreeMap::new();
    for found in admin.describe_configs([&asked], options).await? {
        configs.extend(found?.entries.into_iter().map(|entry| (entry.name, entry.value)));
    }
    tell(&json!({"configs": configs}));
    Ok(())
}

async fn delete_records(admin: &AdminClient<DefaultClientContext>, options: &AdminOptions, args: &Args) -> Outcome {
    let (topic, partition) = (args.text("topic")?, i32::try_from(args.number("partition")?)?);
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(topic, partition, Offset::Offset(args.number("before")?))?;
    let found = admin.delete_records(&asked, options).await?;
    let found = found.find_partition(topic, partition).ok_or("the partition is not answered")?;
    let low: Result<Option<i64>, Box<dyn Error>> = match found.offset() {
        Offset::Offset(offset) => found.error().map(|()| Some(offset)).map_err(Into::into),
        other => Err(format!("the partition begins at {other:?} now").into()),
    };
    tell(&json!({"low": low?}));
    Ok(())
}
