//! `stratalog backup`.

use std::time::Instant;

use async_trait::async_trait;
use serde_json::Value;
use stratalog_backup::{Cluster, Copy, Made, Options, Removed, Target, keep_newest, make};
use stratalog_client::{Client, ShardCopy};
use stratalog_proto::Error;
use stratalog_proto::v1::CopyAnswer;
use stratalog_proto::v1::copy_ask::Ask;

use crate::cli::{Backup, Global, OutputFormat};
use crate::failure::Failure;
use crate::output::{Fields, human_bytes, human_count, human_duration, print_object, say};
use crate::progress::{Unit, bar};

pub(super) async fn run(global: &Global, command: &Backup) -> Result<(), Failure> {
    let target = Target::open(&command.to)?;
    let cluster = Served(global.client().await?);
    let (began, bar) = (Instant::now(), bar(None, Unit::Bytes));
    let progress = |bytes| bar.inc(bytes);
    let notice = |text: &str| bar.suspend(|| eprintln!("{text}"));
    let options = Options { bytes_per_second: command.rate, progress: &progress, notice: &notice };
    let made = make(&cluster, &target, &options).await;
    bar.finish_and_clear();
    let made = made?;
    // A backup that was made is told whatever becomes of the older ones.
    let removed = match command.keep {
        Some(keep) => Some(keep_newest(&target, keep, &made.manifest.id).await),
        None => None,
    };
    let gone = removed.as_ref().and_then(|removed| removed.as_ref().ok());
    match global.format() {
        OutputFormat::Table => print_for_people(&made, gone, &target, began)?,
        format => print_object(format, &fields(&made, gone, &target, began))?,
    }
    for id in gone.iter().flat_map(|removed| &removed.incomplete) {
        eprintln!("backup {id} lacks something and does not count as kept; `stratalog restore --check` says what");
    }
    match removed {
        Some(Err(error)) => {
            let message =
                format!("backup {} is made, but older ones were not all removed: {}", made.manifest.id, error.message);
            Err(Error::new(error.code, message).into())
        }
        _ => Ok(()),
    }
}

fn print_for_people(made: &Made, removed: Option<&Removed>, target: &Target, began: Instant) -> Result<(), Failure> {
    let manifest = &made.manifest;
    say!("backup:    {} in {}", manifest.id, target.place())?;
    say!("cluster:   {}", manifest.cluster)?;
    say!(
        "holds:     {} shards, {} segments, {}",
        manifest.shards.len(),
        human_count(segments(made)),
        human_bytes(manifest.bytes())
    )?;
    say!("sent:      {} segments, {} in all", human_count(made.sent_segments), human_bytes(sent_bytes(made)))?;
    if let Some(removed) = removed {
        say!(
            "removed:   {} backups, {} objects, {}",
            removed.backups.len(),
            human_count(removed.objects),
            human_bytes(removed.bytes)
        )?;
    }
    say!("took:      {}", human_duration(began.elapsed()))
}

fn segments(made: &Made) -> u64 {
    made.manifest.shards.iter().map(|part| part.segments.len() as u64).sum()
}

fn sent_bytes(made: &Made) -> u64 {
    made.sent_segment_bytes + made.sent_other_bytes
}

fn fields(made: &Made, removed: Option<&Removed>, target: &Target, began: Instant) -> Fields {
    let manifest = &made.manifest;
    vec![
        ("backup", manifest.id.clone().into()),
        ("place", target.place().into()),
        ("cluster", manifest.cluster.to_string().into()),
        ("shards", manifest.shards.len().into()),
        ("segments", segments(made).into()),
        ("bytes", manifest.bytes().into()),
        ("sent_segments", made.sent_segments.into()),
        ("sent_bytes", sent_bytes(made).into()),
        ("elapsed_us", (began.elapsed().as_micros() as u64).into()),
        ("removed_backups", removed.map_or(Value::Null, |removed| removed.backups.clone().into())),
        ("removed_objects", removed.map(|removed| removed.objects).into()),
        ("removed_bytes", removed.map(|removed| removed.bytes).into()),
        ("incomplete_backups", removed.map_or(Value::Null, |removed| removed.incomplete.clone().into())),
    ]
}

/// A cluster as the SDK reaches it.
struct Served(Client);

struct ServedCopy(ShardCopy);

#[async_trait]
impl Cluster for Served {
    async fn copy(&self, _shard: u32) -> Result<Box<dyn Copy>, Error> {
        Ok(Box::new(ServedCopy(self.0.copy_shard().await?)))
    }
}

#[async_trait]
impl Copy for ServedCopy {
    async fn ask(&mut self, ask: Ask) -> Result<CopyAnswer, Error> {
        Ok(self.0.ask(ask).await?)
    }
}
