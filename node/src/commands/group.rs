//! `stratalog group`.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::Value;
use stratalog_proto::v1::reset_offsets_request::To;
use stratalog_proto::v1::{DescribeGroupResponse, GroupMember, GroupPartition};

use super::confirm;
use crate::cli::{Global, Group, GroupReset, GroupResetTo, OutputFormat};
use crate::failure::Failure;
use crate::output::{Fields, Listing, human_count, print_object};
use crate::times::parse_time_ns;

pub(super) async fn run(global: &Global, command: &Group) -> Result<(), Failure> {
    match command {
        Group::List => list(global).await,
        Group::Describe { group } => {
            let described = global.client().await?.describe_group(group).await?;
            describe(global.format(), &described)
        }
        Group::Reset(command) => reset(global, command).await,
        Group::Delete { group, yes } => {
            confirm(&format!("the group {group}"), group, "how far it has read", *yes)?;
            global.client().await?.delete_group(group).await?;
            print_object(global.format(), &vec![("deleted", group.clone().into())])
        }
    }
}

async fn list(global: &Global) -> Result<(), Failure> {
    let mut listing = Listing::new(&["group", "state", "protocol_type"]);
    for group in global.client().await?.groups().await? {
        listing.push(vec![group.group.into(), group.state.into(), given(group.protocol_type)]);
    }
    listing.print(global.format())
}

fn describe(format: OutputFormat, described: &DescribeGroupResponse) -> Result<(), Failure> {
    let mut group = fields(described);
    let (members, partitions) = (members(described), partitions(described));
    match format {
        OutputFormat::Table => {
            print_object(format, &group)?;
            if !described.members.is_empty() {
                members.without_empty(&["instance"]).print(format)?;
            }
            if !described.partitions.is_empty() {
                partitions.without_empty(&["metadata", "member", "client_id", "host"]).print(format)?;
            }
            Ok(writeln!(std::io::stdout(), "{}", summary(&described.partitions))?)
        }
        OutputFormat::Csv => partitions.print(format),
        OutputFormat::Json | OutputFormat::Ndjson => {
            group.push(("members", Value::Array(members.objects())));
            group.push(("partitions", Value::Array(partitions.objects())));
            print_object(format, &group)
        }
    }
}

fn fields(described: &DescribeGroupResponse) -> Fields {
    vec![
        ("group", described.group.clone().into()),
        ("state", described.state.clone().into()),
        ("protocol_type", given(described.protocol_type.clone())),
        ("protocol", given(described.protocol.clone())),
        ("generation", described.generation.into()),
        ("lag", lag_of_all(&described.partitions).into()),
    ]
}

fn members(described: &DescribeGroupResponse) -> Listing {
    let mut listing = Listing::new(&["member", "instance", "client_id", "host", "partitions"]);
    for member in &described.members {
        let reads = described.partitions.iter().filter(|of| of.member == member.member).count();
        listing.push(vec![
            member.member.clone().into(),
            given(member.instance.clone()),
            member.client_id.clone().into(),
            member.host.clone().into(),
            reads.into(),
        ]);
    }
    listing
}

fn partitions(described: &DescribeGroupResponse) -> Listing {
    let members: BTreeMap<&str, &GroupMember> =
        described.members.iter().map(|member| (member.member.as_str(), member)).collect();
    let mut listing = Listing::new(&[
        "topic",
        "partition",
        "committed_offset",
        "log_start",
        "high_watermark",
        "lag",
        "metadata",
        "member",
        "client_id",
        "host",
    ]);
    for of in &described.partitions {
        let member = members.get(of.member.as_str());
        listing.push(vec![
            of.topic.clone().into(),
            of.partition.into(),
            of.committed.into(),
            of.log_start.into(),
            of.high_watermark.into(),
            lag(of).into(),
            given(of.metadata.clone()),
            given(of.member.clone()),
            member.map(|member| member.client_id.clone()).into(),
            member.map(|member| member.host.clone()).into(),
        ]);
    }
    listing
}

/// How many offsets are not read yet; `None` if none was committed.
fn lag(of: &GroupPartition) -> Option<u64> {
    of.committed.map(|committed| of.high_watermark.saturating_sub(committed))
}

fn lag_of_all(partitions: &[GroupPartition]) -> Option<u64> {
    partitions.iter().map(lag).sum()
}

/// One line that adds partitions up.
fn summary(partitions: &[GroupPartition]) -> String {
    let lag = human_count(partitions.iter().filter_map(lag).sum());
    let committed = partitions.iter().filter(|of| of.committed.is_some()).count();
    match partitions.len() - committed {
        0 => format!("{committed} partitions, {lag} offsets behind"),
        never => format!("{committed} partitions, {lag} offsets behind; nothing committed of {never} others"),
    }
}

async fn reset(global: &Global, command: &GroupReset) -> Result<(), Failure> {
    let to = target(&command.to)?;
    let client = global.client().await?;
    let partitions = client.reset_offsets(&command.group, command.topic.as_deref(), to, command.dry_run).await?;
    let mut listing = Listing::new(&["topic", "partition", "before", "after"]);
    for of in &partitions {
        listing.push(vec![of.topic.clone().into(), of.partition.into(), of.before.into(), of.after.into()]);
    }
    if global.format() != OutputFormat::Table {
        return listing.print(global.format());
    }
    if !partitions.is_empty() {
        listing.print(OutputFormat::Table)?;
    }
    let verb = if command.dry_run { "would set" } else { "set" };
    Ok(writeln!(std::io::stdout(), "{verb} the offsets of {} partitions", partitions.len())?)
}

/// Where a group is to read on; the command line has exactly one of them.
fn target(to: &GroupResetTo) -> Result<To, Failure> {
    if let Some(time) = &to.to_time {
        return Ok(To::TimeNs(parse_time_ns(time)?));
    }
    let offset = to.to_offset.map(To::Offset).or(to.shift_by.map(To::ShiftBy));
    Ok(offset.unwrap_or(if to.to_latest { To::Latest(true) } else { To::Earliest(true) }))
}

/// Null for a text that is empty.
fn given(text: String) -> Value {
    Value::from(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn read(arguments: &[&str]) -> Result<To, ()> {
        let line = ["stratalog", "group", "reset", "readers"].iter().chain(arguments);
        let Command::Group(Group::Reset(reset)) = Cli::try_parse_from(line).map_err(drop)?.command else { panic!() };
        target(&reset.to).map_err(drop)
    }

    #[test]
    fn a_reset_goes_to_one_place() {
        assert_eq!(read(&["--to-earliest"]), Ok(To::Earliest(true)));
        assert_eq!(read(&["--to-latest", "--dry-run"]), Ok(To::Latest(true)));
        assert_eq!(read(&["--to-offset", "7", "--topic", "logs"]), Ok(To::Offset(7)));
        assert_eq!(read(&["--shift-by", "-7"]), Ok(To::ShiftBy(-7)));
        assert_eq!(read(&["--to-time", "1970-01-01T00:00:01Z"]), Ok(To::TimeNs(1_000_000_000)));
        for wrong in [&[][..], &["--to-earliest", "--to-latest"], &["--to-offset", "-1"], &["--to-time", "soon"]] {
            assert_eq!(read(wrong), Err(()), "{wrong:?}");
        }
    }

    #[test]
    fn lag_is_known_where_something_was_committed() {
        let of = |committed, high_watermark| GroupPartition { committed, high_watermark, ..GroupPartition::default() };
        assert_eq!((lag(&of(Some(4), 10)), lag(&of(Some(12), 10)), lag(&of(None, 10))), (Some(6), Some(0), None));
        assert_eq!(lag_of_all(&[of(Some(4), 10), of(Some(0), 1)]), Some(7));
        assert_eq!(lag_of_all(&[of(Some(4), 10), of(None, 10)]), None, "it is at least as much");
        assert!(summary(&[of(Some(4), 10), of(None, 10)]).contains("6 offsets behind; nothing committed of 1 others"));
    }
}
