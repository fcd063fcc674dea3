//! `stratalog restore`: from a backup to a data directory, without a node.

mod check;

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use stratalog_backup::{Hash, Part, Pieces, Point, Segment, Stored, Target, stored_backups};
use stratalog_broker::{RestoreOptions, Restoring, RestoringShard};
use stratalog_proto::{Code, Error, RaftIndex, ShardId, Term};
use stratalog_storage::LogPoint;

use crate::cli::{Global, OutputFormat, Restore};
use crate::failure::Failure;
use crate::output::{Listing, human_bytes, human_duration, print_object, say};
use crate::progress::{Unit, bar};

pub(super) async fn run(global: &Global, command: &Restore) -> Result<(), Failure> {
    let target = Target::open(&command.from)?;
    let format = global.format();
    if command.list {
        return list(format, &target).await;
    }
    let began = Instant::now();
    let stored = Stored::open(target, command.backup.as_deref()).await?;
    let Some(data) = command.data.as_ref().filter(|_| !command.check) else {
        return check::run(format, &stored).await;
    };
    let manifest = stored.manifest();
    let bar = bar(Some(manifest.bytes()), Unit::Bytes);
    let restored = restore(&stored, data, &|bytes| bar.inc(bytes)).await;
    bar.finish_and_clear();
    let restored = restored?;
    let took = began.elapsed();
    if format == OutputFormat::Table {
        say!("backup:    {}, of cluster {}", manifest.id, manifest.cluster)?;
        say!("data:      {}, of cluster {}", data.display(), restored.cluster)?;
        say!("holds:     {} topics, {} shards, {}", restored.topics, restored.shards, human_bytes(manifest.bytes()))?;
        say!("took:      {}", human_duration(took))?;
        return say!("start it with: stratalog serve --data {}", data.display());
    }
    let fields = vec![
        ("backup", manifest.id.clone().into()),
        ("data", data.display().to_string().into()),
        ("was_cluster", manifest.cluster.to_string().into()),
        ("cluster", restored.cluster.to_string().into()),
        ("topics", restored.topics.into()),
        ("shards", restored.shards.into()),
        ("bytes", manifest.bytes().into()),
        ("elapsed_us", (took.as_micros() as u64).into()),
    ];
    print_object(format, &fields)
}

async fn list(format: OutputFormat, target: &Target) -> Result<(), Failure> {
    let mut listing = Listing::new(&["backup", "cluster", "shards", "segments", "bytes"]);
    for id in stored_backups(target).await? {
        let stored = match Stored::open(target.clone(), Some(&id)).await {
            Ok(stored) => stored,
            Err(error) => {
                eprintln!("backup {id} cannot be used: {error}");
                continue;
            }
        };
        let manifest = stored.manifest();
        let segments: usize = manifest.shards.iter().map(|part| part.segments.len()).sum();
        let cluster = manifest.cluster.to_string();
        let bytes = manifest.bytes();
        let bytes = if format == OutputFormat::Table { human_bytes(bytes).into() } else { bytes.into() };
        listing.push(vec![id.into(), cluster.into(), manifest.shards.len().into(), segments.into(), bytes]);
    }
    listing.print(format)
}

type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

async fn restore(stored: &Stored, data: &Path, progress: Progress<'_>) -> Result<stratalog_broker::Restored, Error> {
    let metadata = &stored.manifest().metadata;
    let state = stored.state(metadata).await?;
    let mut restoring = Restoring::begin(RestoreOptions::new(data), point(metadata.at), state).await?;
    for id in restoring.shards() {
        let missing =
            || Error::new(Code::CorruptData, format!("the backup lacks shard {id}, which its metadata names"));
        let part = stored.manifest().shards.iter().find(|part| part.shard == id.0).ok_or_else(missing)?;
        let shard = restore_shard(stored, part, &restoring, progress).await?;
        restoring.end_shard(shard).await?;
    }
    restoring.finish().await
}

async fn restore_shard(
    stored: &Stored,
    part: &Part,
    restoring: &Restoring,
    progress: Progress<'_>,
) -> Result<RestoringShard, Error> {
    let state = stored.state(part).await?;
    progress(part.state.bytes);
    let id = ShardId(part.shard);
    let mut shard = restoring.begin_shard(id, point(part.at), point(part.frontier), state).await?;
    let named: HashMap<&str, &Segment> = part.segments.iter().map(|segment| (segment.name.as_str(), segment)).collect();
    for wanted in shard.segments().to_vec() {
        // What the state names is what counts.
        let segment = named.get(wanted.name.as_str()).filter(|named| named.blake3 == Hash(wanted.blake3));
        let lies = || {
            let message =
                format!("the backup does not name segment {}, which the state of shard {id} needs", wanted.name);
            Error::new(Code::CorruptData, message)
        };
        let mut pieces = stored.segment(segment.ok_or_else(lies)?).await?;
        let mut sink = shard.segment(&wanted).await?;
        while let Some(piece) = pieces.next().await? {
            progress(piece.len() as u64);
            sink.push(piece).await?;
        }
        shard.take(sink).await?;
    }
    let log = stored.log(part).await?;
    restore_log(log, &mut shard, progress).await.map(|()| shard)
}

async fn restore_log(mut log: Pieces, shard: &mut RestoringShard, progress: Progress<'_>) -> Result<(), Error> {
    while let Some(piece) = log.next().await? {
        progress(piece.len() as u64);
        shard.entries(piece).await?;
    }
    Ok(())
}

fn point(Point { term, index }: Point) -> LogPoint {
    LogPoint { term: Term(term), index: RaftIndex(index) }
}
