//! What is told below an answer that shows little since records became no rows of their own.

use std::io::Write;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use futures::future::join_all;
use stratalog_client::Client;
use stratalog_proto::v1;
use stratalog_storage::col::system::{DEAD, OFFSET, PARTITION, RAW, TIME, is_system};
use tokio::time::timeout;

use crate::output::human_count;

/// What the answer may be held up by it.
const WITHIN: Duration = Duration::from_secs(2);
/// Topics that are told of.
const MAX_TOPICS: usize = 3;

/// Whether a row shows where it is and nothing else, as that of a dead letter does under `SELECT *`. Where the reason or the
/// value is shown, nobody needs to be told.
pub(super) fn has_bare_row(batch: &RecordBatch) -> bool {
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    if !names.starts_with(&[TIME, PARTITION, OFFSET]) || names.iter().any(|name| [DEAD, RAW].contains(name)) {
        return false;
    }
    let own = names.iter().zip(batch.columns()).filter(|(name, _)| !is_system(name));
    let own: Vec<_> = own.map(|(_, column)| column).collect();
    let may_be_bare = own.iter().all(|column| column.null_count() > 0);
    may_be_bare && (0..batch.num_rows()).any(|row| own.iter().all(|column| column.is_null(row)))
}

/// Says on standard error how many rows of these topics are dead letters, as far as nodes tell soon.
pub(super) async fn tell(client: &Client, topics: &[String]) {
    let told = topics.iter().take(MAX_TOPICS).map(|topic| async move {
        let described = timeout(WITHIN, client.describe_topic(topic)).await.ok()?.ok()?;
        note(topic, &described.rows?)
    });
    for note in join_all(told).await.into_iter().flatten() {
        // Whoever has closed it does not want to know.
        let _ = writeln!(std::io::stderr(), "{note}");
    }
}

/// `None` if there are no dead letters any more.
fn note(topic: &str, rows: &v1::TopicRows) -> Option<String> {
    let [dead, all] = [rows.dead_rows, rows.rows].map(human_count);
    let which = match rows.dead_rows {
        0 => return None,
        _ if rows.dead_rows == rows.rows => format!("all rows of {topic} are dead letters"),
        1 => format!("1 of the {all} rows of {topic} is a dead letter"),
        _ => format!("{dead} of the {all} rows of {topic} are dead letters"),
    };
    Some(format!("{which}: without columns, and not found by a search; see why: stratalog dead-letters list {topic}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn batch(columns: &[(&str, [Option<i64>; 2])]) -> RecordBatch {
        let column = |(name, values): &(&str, [Option<i64>; 2])| {
            (name.to_string(), Arc::new(Int64Array::from(values.to_vec())) as ArrayRef, true)
        };
        RecordBatch::try_from_iter_with_nullable(columns.iter().map(column)).unwrap()
    }

    #[test]
    fn a_row_of_nothing_but_its_place_is_bare() {
        let value = [Some(1), Some(2)];
        let place = [(TIME, value), (PARTITION, value), (OFFSET, value)];
        let with = |more: &[(&str, [Option<i64>; 2])]| has_bare_row(&batch(&[&place[..], more].concat()));
        assert!(with(&[]), "every record is a dead letter, so that there is no column");
        assert!(with(&[("_key", value), ("a", [None, Some(1)]), ("b", [None; 2])]));
        assert!(!with(&[("a", [None, Some(1)]), ("b", [Some(1), None])]));
        assert!(!with(&[("a", [None; 2]), (DEAD, value)]), "they are told as such");
        assert!(!has_bare_row(&batch(&[("count", [None; 2])])), "an answer of other rows");
        assert!(!has_bare_row(&batch(&place).slice(0, 0)));
    }

    #[test]
    fn what_is_told_is_how_many_there_are() {
        let rows = |dead_rows| v1::TopicRows { rows: 1_200, dead_rows, ..v1::TopicRows::default() };
        assert_eq!(note("t", &rows(0)), None);
        let told = |dead| note("t", &rows(dead)).unwrap();
        assert!(told(1).starts_with("1 of the 1,200 rows of t is a dead letter: "));
        assert!(told(1_100).starts_with("1,100 of the 1,200 rows of t are dead letters: "));
        assert!(told(1_200).starts_with("all rows of t are dead letters: "));
        assert!(told(1).ends_with("stratalog dead-letters list t"));
    }
}
