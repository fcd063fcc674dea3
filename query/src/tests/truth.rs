//! Q2: any combination of text leaves, comparisons, AND, OR and NOT is exact, over index, tail and scanned segments.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::fixture::{Fixture, Place};
use super::nodes::Spread;
use super::oracle::positions;
use super::rows::Row;

const WORDS: [&str; 4] = ["alpha", "beta", "gamma-delta", "delta gamma"];

/// A condition on rows.
#[derive(Clone, Debug)]
enum Condition {
    /// The words, in a column or in any.
    Match(Option<&'static str>, &'static str),
    Below(i64),
    IsNull(&'static str),
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

impl Condition {
    fn sql(&self) -> String {
        match self {
            Condition::Match(Some(column), words) => format!("MATCH({column}, '\"{words}\"')"),
            Condition::Match(None, words) => format!("MATCH('\"{words}\"')"),
            Condition::Below(bound) => format!("coalesce(n, 0) < {bound}"),
            Condition::IsNull(column) => format!("{column} IS NULL"),
            Condition::Not(inner) => format!("NOT ({})", inner.sql()),
            Condition::And(a, b) => format!("({}) AND ({})", a.sql(), b.sql()),
            Condition::Or(a, b) => format!("({}) OR ({})", a.sql(), b.sql()),
        }
    }

    fn holds(&self, row: &Row) -> bool {
        match self {
            Condition::Match(Some(column), words) => row.matches(column, words),
            Condition::Match(None, words) => row.any_matches(&["a", "b"], words),
            Condition::Below(bound) => row.number("n").unwrap_or(0.0) < *bound as f64,
            Condition::IsNull(column) => !row.values.contains_key(column),
            Condition::Not(inner) => !inner.holds(row),
            Condition::And(a, b) => a.holds(row) && b.holds(row),
            Condition::Or(a, b) => a.holds(row) || b.holds(row),
        }
    }
}

fn condition() -> impl Strategy<Value = Condition> {
    let column = prop_oneof![Just("a"), Just("b")];
    let words = (0..WORDS.len()).prop_map(|n| WORDS[n]);
    let leaf = prop_oneof![
        3 => (proptest::option::of(column.clone()), words).prop_map(|(column, words)| Condition::Match(column, words)),
        1 => (-10..400_i64).prop_map(Condition::Below),
        1 => column.prop_map(Condition::IsNull),
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
            pair.clone().prop_map(|(a, b)| Condition::And(Box::new(a), Box::new(b))),
            pair.prop_map(|(a, b)| Condition::Or(Box::new(a), Box::new(b))),
        ]
    })
}

/// Every combination of words and nulls in two columns.
static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let text = |bits: u64| -> String {
        let chosen = WORDS.iter().enumerate().filter(|(word, _)| bits & (1 << word) != 0);
        chosen.map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
    };
    (0..300_u64)
        .map(|n| {
            let mut row = Row::new(0, n, n as i64);
            row = if n % 17 == 0 { row } else { row.text("a", text(n)) };
            row = if n % 19 == 0 { row } else { row.text("b", text(n / 16)) };
            if n % 23 == 0 { row } else { row.int("n", n as i64) }
        })
        .collect()
});

#[test]
fn q2_every_combination_of_conditions_is_exact() {
    Spread::ALL.into_iter().for_each(every_combination_is_exact);
}

fn every_combination_is_exact(spread: Spread) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fixture = Fixture::spread(spread);
    fixture.topic("logs");
    fixture.add("logs", Place::Sealed, &ROWS[..150]);
    fixture.add("logs", Place::OldAnalyzer, &ROWS[150..200]);
    fixture.add("logs", Place::Tail, &ROWS[200..]);
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let property = |condition: Condition| {
        let (found, _) = runtime.block_on(fixture.positions("logs", &condition.sql()));
        prop_assert_eq!(found, positions(&ROWS, |row| condition.holds(row)), "{}", condition.sql());
        Ok(())
    };
    runner.run(&condition(), property).unwrap();
}
