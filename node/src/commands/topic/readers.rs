//! The consumer groups that read a topic, and how far they are behind.

use std::io::Write;

use serde_json::Value;
use stratalog_client::{Client, QueryOptions};

use crate::cli::OutputFormat;
use crate::failure::Failure;
use crate::output::{Listing, row_objects};

const COLUMNS: [&str; 5] = ["group", "state", "members", "lag", "not_committed"];

/// The groups of a topic, or why they are not known: the rest of a topic is worth telling without them.
pub(super) struct Readers(Result<Listing, Failure>);

impl Readers {
    pub(super) async fn of(client: &Client, topic: &str) -> Self {
        Self(listing(client, topic).await)
    }

    /// For people; nothing where there is no group.
    pub(super) fn print(&self) -> Result<(), Failure> {
        match &self.0 {
            Ok(groups) if groups.objects().is_empty() => Ok(()),
            Ok(groups) => groups.print(OutputFormat::Table),
            Err(why) => Ok(writeln!(std::io::stdout(), "which groups read it is not known: {why}")?),
        }
    }

    /// Null if it is not known.
    pub(super) fn value(&self) -> Value {
        self.0.as_ref().map_or(Value::Null, |groups| Value::Array(groups.objects()))
    }
}

async fn listing(client: &Client, topic: &str) -> Result<Listing, Failure> {
    let (_, batches, _) = client.sql(&statement(topic), &QueryOptions::default()).await?.collect().await?;
    let mut listing = Listing::new(&COLUMNS);
    for batch in &batches {
        for row in row_objects(batch)? {
            listing.push(COLUMNS.iter().map(|column| row[*column].clone()).collect());
        }
    }
    Ok(listing)
}

fn statement(topic: &str) -> String {
    let topic = topic.replace('\'', "\'\'");
    format!(
        "SELECT \"group\", state, count(DISTINCT member) AS members, sum(lag) AS lag, count(*) - count(lag) AS not_committed \
         FROM system.groups WHERE topic = '{topic}' GROUP BY \"group\", state ORDER BY \"group\""
    )
}
