//! `stratalog topic verify`: a node reads a topic from end to end.

use serde_json::{Value, json};
use stratalog_client::Client;
use stratalog_proto::v1;

use crate::cli::OutputFormat;
use crate::failure::Failure;
use crate::output::{Listing, human_bytes, human_count, say};

const COLUMNS: [&str; 8] =
    ["partition", "log_start", "high_watermark", "batches", "records", "bytes", "damaged", "damage"];

pub(super) async fn run(client: &Client, format: OutputFormat, topic: &str) -> Result<(), Failure> {
    let mut verification = client.verify_topic(topic).await?;
    let mut partitions = Vec::new();
    while let Some(partition) = verification.next().await? {
        partitions.push(partition);
    }
    match format {
        OutputFormat::Table => print_for_people(&partitions)?,
        _ => listing(&COLUMNS, &partitions).print(format)?,
    }
    let damaged = partitions.iter().filter(|partition| partition.damaged > 0).count();
    if damaged == 0 {
        return Ok(());
    }
    let offsets = human_count(partitions.iter().map(|partition| partition.damaged).sum());
    let all = partitions.len();
    Err(Failure::Refused(format!("{offsets} offsets in {damaged} of the {all} partitions of {topic} cannot be read")))
}

fn listing(columns: &[&'static str], partitions: &[v1::VerifiedPartition]) -> Listing {
    let mut listing = Listing::new(columns);
    for partition in partitions {
        let mut row = row(partition);
        row.truncate(columns.len());
        listing.push(row);
    }
    listing
}

fn row(partition: &v1::VerifiedPartition) -> Vec<Value> {
    let damage = partition
        .damage
        .iter()
        .map(|damage| json!({"first": damage.first, "next": damage.next, "what": damage.message}));
    vec![
        partition.partition.into(),
        partition.log_start.into(),
        partition.high_watermark.into(),
        partition.batches.into(),
        partition.records.into(),
        partition.bytes.into(),
        partition.damaged.into(),
        damage.collect(),
    ]
}

fn print_for_people(partitions: &[v1::VerifiedPartition]) -> Result<(), Failure> {
    listing(&COLUMNS[..COLUMNS.len() - 1], partitions).print(OutputFormat::Table)?;
    for partition in partitions {
        for damage in &partition.damage {
            let (first, next) = (damage.first, damage.next);
            say!("partition {}, offsets {first} to {next}: {}", partition.partition, damage.message)?;
        }
    }
    let records = human_count(partitions.iter().map(|partition| partition.records).sum());
    let bytes = human_bytes(partitions.iter().map(|partition| partition.bytes).sum());
    say!("{records} records are whole, {bytes} as compressed by the producers")
}
