//! `stratalog topic`.

mod readers;
mod show;
mod verify;

use super::confirm;
use crate::cli::{Global, Topic, TopicSettings};
use crate::failure::Failure;
use crate::output::print_object;
use readers::Readers;
use show::{describe, list, topic_fields};

pub(super) async fn run(global: &Global, command: Topic) -> Result<(), Failure> {
    let client = global.client().await?;
    match command {
        Topic::Create(create) => {
            let bucket = create.bucket.iter().map(|width| ("bucket".to_owned(), width.clone()));
            let copies = create.replication.iter().map(|copies| ("replication".to_owned(), copies.to_string()));
            let settings: Vec<_> = bucket.chain(copies).chain(given(&create.settings)).collect();
            let topic = client.create_topic(&create.name, create.partitions.unwrap_or(0), &settings).await?;
            print_object(global.format(), &topic_fields(&topic))
        }
        Topic::List => list(global.format(), &client.topics().await?),
        Topic::Describe { name } => {
            let described = client.describe_topic(&name).await?;
            let readers = Readers::of(&client, &name).await;
            describe(global.format(), &described, &client.cluster().await?, &readers)
        }
        Topic::Alter { name, partitions, settings } => {
            let settings = given(&settings);
            if settings.is_empty() && partitions.is_none() {
                return Err(Failure::Usage(format!(
                    "say what to change of {name}, as in --retention 7d or --set KEY=VALUE"
                )));
            }
            print_object(global.format(), &topic_fields(&client.change_topic(&name, &settings, partitions).await?))
        }
        Topic::Seal { name } => {
            client.seal_topic(&name).await?;
            print_object(global.format(), &vec![("sealed", name.into())])
        }
        Topic::Merge { name } => {
            let merged = client.merge_topic(&name).await?;
            let fields = vec![
                ("topic", name.into()),
                ("segments_merged", u64::from(merged.merged).into()),
                ("segments_made", u64::from(merged.made).into()),
                ("rows", merged.rows.into()),
                ("bytes", merged.bytes.into()),
            ];
            print_object(global.format(), &fields)
        }
        Topic::Verify { name } => verify::run(&client, global.format(), &name).await,
        Topic::Delete { name, yes } => {
            confirm(&format!("the topic {name}"), &name, "all its records", yes)?;
            client.delete_topic(&name).await?;
            print_object(global.format(), &vec![("deleted", name.into())])
        }
    }
}

/// Flags are shorthands of settings; `--set` comes last and wins.
fn given(settings: &TopicSettings) -> Vec<(String, String)> {
    let flags = [
        ("format", &settings.format),
        ("time.field", &settings.time_field),
        ("pattern", &settings.pattern),
        ("multiline", &settings.multiline),
        ("columns", &settings.columns),
        ("retention", &settings.retention),
        ("retention.bytes", &settings.retention_bytes),
    ];
    let given = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
    given.chain(settings.set.iter().cloned()).collect()
}
