//! When a topic is sealed.

use stratalog_proto::TopicId;

use crate::rows::options::RowsOptions;
use crate::rows::tail::Fill;
use crate::rows::usage::Pressure;

/// The topics of a shard that are to be sealed now, those that free most first: which are large, long or old enough. If
/// there are none, and all tails of the node together are too large, the largest of the node, if it is in this shard.
pub(in crate::rows) fn due(fills: &[Fill], node: Pressure, options: &RowsOptions) -> Vec<TopicId> {
    let is_due = |fill: &&Fill| {
        fill.bytes >= options.seal_bytes || fill.rows >= options.seal_rows || fill.age >= options.seal_age
    };
    let mut due: Vec<&Fill> = fills.iter().filter(is_due).collect();
    if due.is_empty() && node.bytes >= options.rebuild_bytes {
        due.extend(fills.iter().filter(|fill| fill.untaken >= node.largest).max_by_key(|fill| fill.untaken));
    }
    due.sort_by_key(|fill| std::cmp::Reverse(fill.bytes));
    due.into_iter().map(|fill| fill.topic).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn fill(bytes: usize, rows: usize, age_s: u64) -> Fill {
        Fill { topic: TopicId::new(), bytes, untaken: bytes, rows, age: Duration::from_secs(age_s) }
    }

    fn node(bytes: usize, largest: usize) -> Pressure {
        Pressure { bytes, largest }
    }

    #[test]
    fn a_topic_is_due_by_bytes_rows_or_age() {
        let options = RowsOptions {
            seal_bytes: 100,
            seal_rows: 10,
            seal_age: Duration::from_secs(60),
            rebuild_bytes: 500,
            ..RowsOptions::default()
        };
        let cases = [
            (fill(99, 9, 59), 99, false),
            (fill(100, 1, 0), 100, true),
            (fill(1, 10, 0), 1, true),
            (fill(1, 1, 60), 1, true),
            (fill(1, 1, 0), 500, true),
        ];
        for (fill, bytes, expected) in cases {
            let due = due(&[fill], node(bytes, fill.bytes), &options);
            assert_eq!(!due.is_empty(), expected, "{fill:?} of {bytes}");
        }
    }

    #[test]
    fn what_frees_most_goes_first() {
        let options = RowsOptions { seal_age: Duration::from_secs(60), ..RowsOptions::default() };
        let fills = [fill(10, 1, 60), fill(30, 1, 60), fill(20, 1, 60), fill(40, 1, 0)];
        assert_eq!(due(&fills, node(100, 40), &options), [fills[1].topic, fills[2].topic, fills[0].topic]);
    }

    #[test]
    fn under_pressure_the_largest_topic_of_the_node_goes_first() {
        let options = RowsOptions { rebuild_bytes: 500, ..RowsOptions::default() };
        let fills = [fill(10, 1, 0), fill(30, 1, 0), fill(20, 1, 0)];
        assert_eq!(due(&fills, node(600, 30), &options), [fills[1].topic]);
        assert_eq!(due(&fills, node(600, 31), &options), [], "another shard has it");
        assert_eq!(due(&[], node(600, 30), &options), []);
    }

    #[test]
    fn what_is_being_sealed_is_not_taken_again_under_pressure() {
        let options = RowsOptions { rebuild_bytes: 500, ..RowsOptions::default() };
        let fills = [Fill { untaken: 5, ..fill(900, 1, 0) }, fill(30, 1, 0)];
        assert_eq!(due(&fills, node(500, 30), &options), [fills[1].topic]);
        assert_eq!(due(&fills, node(35, 30), &options), []);
    }
}
