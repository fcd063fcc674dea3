//! `stratalog log dump`.

use std::ops::ControlFlow;

use serde_json::Value;
use stratalog_proto::batch::Batch;
use stratalog_proto::entry::{Append, Command, Entry};
use stratalog_proto::{Error, SegmentId, TopicId};
use stratalog_storage::inspect::{DumpedFrame, dump};
use stratalog_storage::{FrameKind, RealDisk};

use super::within;
use crate::cli::{LogDump, OutputFormat};
use crate::failure::Failure;
use crate::output::RowStream;
use crate::times::format_time_ns;

const COLUMNS: [&str; 10] =
    ["file", "offset", "shard", "index", "term", "replica", "kind", "bytes", "time", "commands"];

pub(super) fn run(format: OutputFormat, asked: &LogDump) -> Result<(), Failure> {
    let mut rows = RowStream::new(format, &COLUMNS);
    let mut printed = Ok(());
    let mut left = asked.limit.unwrap_or(u64::MAX);
    let damaged = dump(&RealDisk, &asked.data, &mut |seen| {
        if left == 0 {
            return ControlFlow::Break(());
        }
        let frame = seen.frame();
        if asked.shard.is_some_and(|shard| shard != frame.shard.0) || frame.index.0 < asked.from {
            return ControlFlow::Continue(());
        }
        left -= 1;
        printed = rows.push(row(asked, &seen));
        if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    printed?;
    let damaged = damaged.map_err(|error| Failure::io("read the log of", asked.data.display(), &error))?;
    rows.finish()?;
    if damaged > 0 {
        let data = asked.data.display();
        let message = format!("the log is damaged in {damaged} places: `stratalog verify --data {data}` tells where");
        return Err(Failure::Refused(message));
    }
    Ok(())
}

fn row(asked: &LogDump, seen: &DumpedFrame<'_>) -> Vec<Value> {
    let frame = seen.frame();
    let (time, commands) = match frame.kind {
        FrameKind::Normal => entry(seen).unwrap_or_else(|error| (Value::Null, format!("unreadable: {error}"))),
        _ => (Value::Null, String::new()),
    };
    vec![
        within(&asked.data, seen.path()).into(),
        frame.pos.offset.into(),
        frame.shard.0.into(),
        frame.index.0.into(),
        frame.term.0.into(),
        frame.replica.0.into(),
        kind_name(frame.kind).into(),
        frame.pos.len.into(),
        time,
        commands.into(),
    ]
}

fn kind_name(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Blank => "blank",
        FrameKind::Normal => "entry",
        FrameKind::Membership => "membership",
        FrameKind::Truncate => "truncate",
        FrameKind::Purge => "purge",
    }
}

/// The time of an entry, and its commands in words.
fn entry(seen: &DumpedFrame<'_>) -> Result<(Value, String), Error> {
    let payload = seen.payload().map_err(|error| Error::new(stratalog_proto::Code::Io, error.to_string()))?;
    let entry = Entry::parse(payload)?;
    let commands: Vec<String> =
        entry.commands().map(|command| Ok(in_words(&command?))).collect::<Result<_, Error>>()?;
    Ok((format_time_ns(entry.time_ns()).into(), commands.join("; ")))
}

fn in_words(command: &Command) -> String {
    match command {
        Command::Append(append) => append_in_words(append),
        Command::Seal(seal) => {
            let segments = seal.segments.len();
            format!("seal of topic {} from {} to {}, {segments} segments", topic(&seal.topic), seal.expect, seal.next)
        }
        Command::Drop(drop) => format!("drop of {} segments of topic {}", drop.segments.len(), topic(&drop.topic)),
        Command::PutTopic(put) => format!("topic {} on {} partitions", topic(&put.topic), put.partitions.len()),
        Command::RemoveTopic(remove) => format!("remove topic {}", topic(&remove.topic)),
        Command::Roll(roll) => format!("roll from {} to {}, {} segments", roll.expect, roll.next, roll.segments.len()),
        Command::Repack(repack) => {
            let id = SegmentId::from_slice(&repack.remove).map_or_else(|| "?".to_owned(), |id| id.to_string());
            format!("repack of segment {id}")
        }
        Command::CheckState(check) => format!("check of the state at {}", check.index),
        Command::Merge(merge) => {
            format!(
                "merge of {} segments of topic {} into {}",
                merge.remove.len(),
                topic(&merge.topic),
                merge.add.len()
            )
        }
        Command::DeleteRecords(delete) => {
            format!("delete records of {} partitions of topic {}", delete.before.len(), topic(&delete.topic))
        }
        Command::Erase(erase) => format!("erase of topic {}", topic(&erase.topic)),
        Command::EraseDone(done) => format!("end of an erasure, {} rows", done.rows),
        Command::Barrier(_) => "barrier".to_owned(),
        Command::GroupState(state) => {
            format!("group {}: generation {}, {} members", state.group, state.generation, state.members.len())
        }
        Command::CommitOffsets(commit) => format!("{} offsets of group {}", commit.offsets.len(), commit.group),
        Command::DeleteGroup(delete) => format!("delete group {}", delete.group),
        Command::DeleteOffsets(delete) => format!("delete {} offsets of group {}", delete.offsets.len(), delete.group),
        Command::ExpireOffsets(expire) => format!("{} offsets of group {} expire", expire.offsets.len(), expire.group),
        Command::CreateTopic(create) => format!("create topic {} as {}", create.name, topic(&create.topic)),
        Command::AlterTopic(alter) => format!("alter topic {}", topic(&alter.topic)),
        Command::DeleteTopic(delete) => format!("delete topic {}", topic(&delete.topic)),
        Command::AllocateProducerIds(allocate) => format!("{} producer ids", allocate.count),
        Command::InitCluster(init) => format!("begin of the cluster, {} shards", init.shards),
        Command::PutNode(put) => format!("node {}", put.node.as_ref().map_or(0, |node| node.node)),
        Command::SetNodeState(set) => format!("node {} to state {}", set.node, set.state),
        Command::RemoveNode(remove) => format!("removal of node {}", remove.node),
        Command::CreateShards(create) => format!("{} more shards", create.nodes.len()),
        Command::ChangeReplicas(change) => {
            format!("replicas of shard {}: {} more, {} leave", change.shard, change.add.len(), change.remove.len())
        }
        Command::ReplicaChanged(changed) => {
            format!("replica {} of shard {} to role {}", changed.replica, changed.shard, changed.role)
        }
        Command::RaiseLevel(raise) => format!("feature level {}", raise.level),
        Command::AssignSlots(assign) => format!("shards of {} slots of groups", assign.shards.len()),
    }
}

fn append_in_words(append: &Append) -> String {
    let records = match Batch::parse(append.batch.clone()) {
        Ok(batch) => format!("{} records", batch.record_count()),
        Err(error) => format!("a batch that is not valid ({error})"),
    };
    format!("append to {}/{}: {records}, {} bytes", append.topic, append.partition, append.batch.len())
}

fn topic(id: &[u8]) -> String {
    TopicId::from_slice(id).map_or_else(|| "?".to_owned(), |id| id.to_string())
}
