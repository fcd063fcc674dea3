//! What is asked, and whether it may be asked twice.

use std::time::{Duration, Instant};

use stratalog_proto::v1;
use tonic::{Response, Status, Streaming};

use crate::nodes::Node;

/// First words of statements that change nothing; a parenthesis begins a query, too.
const READS: [&str; 9] = ["select", "with", "values", "table", "from", "explain", "describe", "desc", "show"];

/// A statement or a search, as it is sent.
#[derive(Clone, Debug)]
pub(super) enum Question {
    Sql(v1::SqlRequest),
    Search(v1::SearchRequest),
}

impl Question {
    /// Asks a node.
    pub(super) async fn ask(&self, node: &Node) -> Result<Response<Streaming<v1::QueryChunk>>, Status> {
        match self.clone() {
            Self::Sql(request) => node.query().sql(request).await,
            Self::Search(request) => node.query().search(request).await,
        }
    }

    /// Whether asking it twice is as good as asking it once.
    pub(super) fn may_be_repeated(&self) -> bool {
        match self {
            Self::Sql(request) => only_reads(&request.sql),
            Self::Search(_) => true,
        }
    }

    /// The same with the time that is left of its own deadline, if it has one; `None` if none is left.
    pub(super) fn with_time_left(&self, asked_at: Instant) -> Option<Self> {
        let mut again = self.clone();
        let timeout_ms = match &mut again {
            Self::Sql(request) => &mut request.timeout_ms,
            Self::Search(request) => &mut request.timeout_ms,
        };
        if *timeout_ms > 0 {
            let left = Duration::from_millis((*timeout_ms).into()).checked_sub(asked_at.elapsed())?;
            *timeout_ms = (left.as_millis() as u32).max(1);
        }
        Some(again)
    }
}

/// By its first word; what is behind a comment counts as a change.
fn only_reads(sql: &str) -> bool {
    let sql = sql.trim_start();
    let word = sql.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    sql.starts_with('(') || READS.iter().any(|read| word.eq_ignore_ascii_case(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_change_something_are_told_by_their_first_word() {
        for sql in [
            "SELECT 1",
            " with a as (select 1) select * from a",
            "(select 1)",
            "EXPLAIN ANALYZE select 1",
            "show tables",
        ] {
            assert!(only_reads(sql), "{sql}");
        }
        for sql in ["DROP TABLE a", "DELETE FROM a", "CREATE TABLE a (b text)", "selected", "-- select", ""] {
            assert!(!only_reads(sql), "{sql}");
        }
    }

    #[test]
    fn a_repeated_question_has_the_time_that_is_left() {
        let asking = |timeout_ms| Question::Search(v1::SearchRequest { timeout_ms, ..v1::SearchRequest::default() });
        let a_minute_ago = Instant::now() - Duration::from_secs(60);
        assert!(asking(30_000).with_time_left(a_minute_ago).is_none());
        let Some(Question::Search(left)) = asking(90_000).with_time_left(a_minute_ago) else { panic!("time is left") };
        assert!((1..=30_000).contains(&left.timeout_ms), "{}", left.timeout_ms);
        let Some(Question::Search(left)) = asking(0).with_time_left(a_minute_ago) else { panic!("no deadline") };
        assert_eq!(left.timeout_ms, 0);
    }
}
