//! How far consumer groups are behind: `system.groups`.

use std::collections::HashMap;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use datafusion::common::{Result, internal_datafusion_err};
use stratalog_proto::Offset;

use super::{optional_numbers, optional_small_numbers, optional_texts, rows_of, small_numbers, texts};
use crate::catalog::{Catalog, GroupInfo, GroupMemberInfo};

/// One row a group and partition, without how far the partition is.
pub(super) fn groups(catalog: &dyn Catalog) -> Result<RecordBatch> {
    let groups = catalog.groups();
    let partition = |info: &GroupInfo| info.partition.as_ref().map(|(_, partition)| partition.0);
    let topics = groups.iter().map(|info| info.partition.as_ref().map(|(topic, _)| topic));
    let member = |of: fn(&GroupMemberInfo) -> &String| {
        optional_texts(groups.iter().map(move |info| info.member.as_ref().map(of)))
    };
    rows_of(vec![
        ("group", texts(groups.iter().map(|info| &info.group))),
        ("state", texts(groups.iter().map(|info| &info.state))),
        ("topic", optional_texts(topics)),
        ("partition", optional_small_numbers(groups.iter().map(partition))),
        ("committed_offset", optional_numbers(groups.iter().map(|info| info.committed.map(|Offset(offset)| offset)))),
        ("member", member(|member| &member.id)),
        ("client_id", member(|member| &member.client_id)),
        ("host", member(|member| &member.host)),
        ("shard", small_numbers(groups.iter().map(|info| info.shard.0))),
    ])
}

/// The rows of groups, with the ends of their partitions and how far they are from them.
pub(super) fn with_lag(groups: &RecordBatch, partitions: &RecordBatch) -> Result<RecordBatch> {
    let mut ends = HashMap::new();
    let marks = column(partitions, "high_watermark")?.as_primitive::<UInt64Type>();
    for (key, mark) in keys(partitions)?.into_iter().zip(marks) {
        ends.extend(key.zip(mark));
    }
    let marks: Vec<Option<u64>> = keys(groups)?.iter().map(|key| key.and_then(|key| ends.get(&key).copied())).collect();
    let committed = column(groups, "committed_offset")?.as_primitive::<UInt64Type>();
    let lags = marks.iter().zip(committed).map(|(mark, committed)| Some((*mark)?.saturating_sub(committed?)));
    let (marks_column, lags_column) = (optional_numbers(marks.iter().copied()), optional_numbers(lags));
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    let schema = groups.schema();
    for (field, values) in schema.fields().iter().zip(groups.columns()) {
        columns.push((field.name(), values.clone()));
        if field.name() == "committed_offset" {
            columns.push(("high_watermark", marks_column.clone()));
            columns.push(("lag", lags_column.clone()));
        }
    }
    rows_of(columns)
}

/// Topic and partition of each row; `None` for a group without.
fn keys(rows: &RecordBatch) -> Result<Vec<Option<(&str, u32)>>> {
    let topics = column(rows, "topic")?.as_string::<i32>();
    let partitions = column(rows, "partition")?.as_primitive::<UInt32Type>();
    Ok(topics.iter().zip(partitions).map(|(topic, partition)| topic.zip(partition)).collect())
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(name).ok_or_else(|| internal_datafusion_err!("a table of nodes has no column {name}"))
}
