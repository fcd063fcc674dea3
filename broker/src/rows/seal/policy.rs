//! When a topic is sealed.

use stratalog_proto::TopicId;

use crate::rows::options::RowsOptions;
use crate::rows::tail::Fill;

/// The topics of a shard that are to be sealed now, given what all tails of the node take: those that are large,
/// long or old enough; else, from half of the node's budget on, the largest.
pub(in crate::rows) fn due(fills: &[Fill], node_bytes: usize, options: &RowsOptions) -> Vec<TopicId> {
    let is_due = |fill: &&Fill| {
        fill.bytes >= options.seal_bytes || fill.rows >= options.seal_rows || fill.age >= options.seal_age
    };
    let due: Vec<TopicId> = fills.iter().filter(is_due).map(|fill| fill.topic).collect();
    if due.is_empty() && node_bytes >= options.tail_budget_bytes / 2 {
        return fills.iter().max_by_key(|fill| fill.bytes).map(|fill| fill.topic).into_iter().collect();
    }
    due
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn fill(bytes: usize, rows: usize, age_s: u64) -> Fill {
        Fill { topic: TopicId::new(), bytes, rows, age: Duration::from_secs(age_s) }
    }

    #[test]
    fn a_topic_is_due_by_bytes_rows_or_age() {
        let options = RowsOptions {
            seal_bytes: 100,
            seal_rows: 10,
            seal_age: Duration::from_secs(60),
            tail_budget_bytes: 1_000,
            ..RowsOptions::default()
        };
        let cases = [
            (fill(99, 9, 59), 99, false),
            (fill(100, 1, 0), 100, true),
            (fill(1, 10, 0), 1, true),
            (fill(1, 1, 60), 1, true),
            (fill(1, 1, 0), 500, true),
        ];
        for (fill, node_bytes, expected) in cases {
            assert_eq!(!due(&[fill], node_bytes, &options).is_empty(), expected, "{fill:?} of {node_bytes}");
        }
    }

    #[test]
    fn under_pressure_the_largest_topic_goes_first() {
        let options = RowsOptions { tail_budget_bytes: 1_000, ..RowsOptions::default() };
        let fills = [fill(10, 1, 0), fill(30, 1, 0), fill(20, 1, 0)];
        assert_eq!(due(&fills, 600, &options), [fills[1].topic]);
        assert_eq!(due(&[], 600, &options), []);
    }
}
