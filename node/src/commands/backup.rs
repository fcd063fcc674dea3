//! `stratalog backup`.

use std::time::Instant;

use async_trait::async_trait;
use stratalog_backup::{Cluster, Copy, Made, Options, Target, make};
use stratalog_client::{Client, ShardCopy};
use stratalog_proto::Error;
use stratalog_proto::v1::CopyAnswer;
use stratalog_proto::v1::copy_ask::Ask;

use crate::cli::{Backup, Global};
use crate::failure::Failure;
use crate::output::{Fields, print_object};
use crate::progress::{Unit, bar};

pub(super) async fn run(global: &Global, command: &Backup) -> Result<(), Failure> {
    let target = Target::open(&command.to, super::store_settings())?;
    let cluster = Served(global.client().await?);
    let (began, bar) = (Instant::now(), bar(None, Unit::Bytes));
    let progress = |bytes| bar.inc(bytes);
    let options = Options { bytes_per_second: command.rate, progress: &progress };
    let made = make(&cluster, &target, &options).await;
    bar.finish_and_clear();
    print_object(global.format(), &fields(&made?, &target, began))
}

fn fields(made: &Made, target: &Target, began: Instant) -> Fields {
    let manifest = &made.manifest;
    let segments: usize = manifest.shards.iter().map(|part| part.segments.len()).sum();
    vec![
        ("backup", manifest.id.clone().into()),
        ("place", target.place().into()),
        ("cluster", manifest.cluster.to_string().into()),
        ("shards", manifest.shards.len().into()),
        ("segments", segments.into()),
        ("bytes", manifest.bytes().into()),
        ("sent_segments", made.sent_segments.into()),
        ("sent_bytes", (made.sent_segment_bytes + made.sent_other_bytes).into()),
        ("elapsed_us", (began.elapsed().as_micros() as u64).into()),
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
