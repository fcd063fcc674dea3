//! The examples of `docs/SEARCH.md`.

use super::one_column;
use crate::{LeafMatcher, Query, parse};

const SEARCH_MD: &str = include_str!("../../../docs/SEARCH.md");

/// Rows of the tables with this header, as the contents of their cells; cells hold one or more `code` spans.
fn tables(header: &str) -> Vec<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    let mut lines = SEARCH_MD.lines();
    while let Some(line) = lines.next() {
        if line == header {
            rows.extend(lines.by_ref().skip(1).take_while(|line| line.starts_with('|')).map(cells));
        }
    }
    assert!(!rows.is_empty(), "docs/SEARCH.md has no table {header:?}");
    rows
}

/// A cell ends at a `|` outside of a code span.
fn cells(row: &str) -> Vec<Vec<String>> {
    let mut cells = vec![];
    let mut spans = vec![];
    for (i, piece) in row.split('`').enumerate() {
        match i % 2 {
            1 => spans.push(piece.to_owned()),
            _ => {
                for _ in 0..piece.matches('|').count() {
                    cells.push(std::mem::take(&mut spans));
                }
            }
        }
    }
    cells.split_off(1)
}

fn holds(query: &Query, text: &str) -> bool {
    match query {
        Query::All => true,
        Query::Leaf { leaf, .. } => LeafMatcher::new(leaf).matches(text),
        Query::And(members) => members.iter().all(|member| holds(member, text)),
        Query::Or(members) => members.iter().any(|member| holds(member, text)),
        Query::Not(inner) => !holds(inner, text),
        Query::Compare { .. } | Query::Exists { .. } => panic!("{query} is not about text"),
    }
}

#[test]
fn documented_queries_find_what_the_page_says() {
    for row in tables("| query | finds | does not find |") {
        let [queries, found, missed] = row.as_slice() else { panic!("{row:?} has not three cells") };
        for query in queries {
            let query = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
            for (text, expected) in found.iter().map(|text| (text, true)).chain(missed.iter().map(|text| (text, false)))
            {
                assert_eq!(holds(&query, text), expected, "{query} in {text:?}");
                let hits = one_column(&[text]).search(&query).unwrap();
                assert!(hits.sure.contains(0) <= expected && expected <= hits.maybe.contains(0), "{query} in {text:?}");
            }
        }
    }
}

#[test]
fn documented_queries_are_read_as_the_page_says() {
    for row in tables("| query | is read as |") {
        for query in &row[0] {
            assert_eq!(parse(query).map(|query| query.to_string()).as_ref(), Ok(&row[1][0]), "{query}");
        }
    }
}

#[test]
fn documented_mistakes_are_refused() {
    for row in tables("| query | why it is refused |") {
        for query in &row[0] {
            assert!(parse(query).is_err(), "{query} is accepted");
        }
    }
}

#[test]
fn documented_words_are_the_analyzers() {
    for row in tables("| text | words in the index |") {
        let pieces: Vec<String> = crate::analyzer::Pieces::new(&row[0][0])
            .map(|piece| match piece {
                crate::analyzer::Piece::Part(range) | crate::analyzer::Piece::Whole(range) => {
                    crate::analyzer::fold(&row[0][0][range])
                }
            })
            .collect();
        assert_eq!(pieces, row[1], "{}", row[0][0]);
    }
}
