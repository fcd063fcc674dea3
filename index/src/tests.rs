//! The index and the matcher against an oracle that shares no code with them.

mod docs;
mod oracle;

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::{Hits, IndexError, Leaf, LeafMatcher, MIN_BUDGET_BYTES, Query, TextIndex, TextIndexWriter};
use oracle::Row;

pub(crate) fn build(columns: &[&str], rows: &[Row]) -> TextIndex {
    let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let mut writer = TextIndexWriter::new(&columns, MIN_BUDGET_BYTES).unwrap();
    for row in rows {
        let mut values = row.iter().enumerate().filter_map(|(i, text)| Some((i, text.as_deref()?)));
        writer.add_row(&mut values).unwrap();
    }
    TextIndex::open(Arc::new(Bytes::from(writer.finish().unwrap()))).unwrap()
}

fn one_column(texts: &[&str]) -> TextIndex {
    build(&["m"], &texts.iter().map(|text| vec![Some((*text).to_owned())]).collect::<Vec<_>>())
}

fn ids(hits: &roaring::RoaringBitmap) -> Vec<u32> {
    hits.iter().collect()
}

#[test]
fn one_word_is_answered_exactly() {
    let index = one_column(&["Disk full", "disk-full", "diskfull", ""]);
    let hits = index.leaf(Some("m"), &Leaf::Term("DISK".into())).unwrap();
    assert_eq!((ids(&hits.sure), hits.is_exact()), (vec![0, 1], true));
    let hits = index.leaf(Some("m"), &Leaf::Prefix("dis".into())).unwrap();
    assert_eq!((ids(&hits.sure), hits.is_exact()), (vec![0, 1, 2], true));
}

#[test]
fn a_joined_word_is_sure_where_it_stands_whole_and_possible_where_its_parts_are() {
    let index = one_column(&["at 10.0.0.1:80", "from 10.0.0.1", "10 0 0 1", "1.0.0.10", "10.0.0.2"]);
    let leaf = Leaf::Term("10.0.0.1".into());
    let hits = index.leaf(None, &leaf).unwrap();
    assert_eq!((ids(&hits.sure), ids(&hits.maybe)), (vec![1], vec![0, 1, 2, 3]));
    let matcher = LeafMatcher::new(&leaf);
    assert!(matcher.matches("at 10.0.0.1:80") && matcher.matches("10 0 0 1") && !matcher.matches("1.0.0.10"));
}

#[test]
fn an_open_joined_word_needs_one_more_part() {
    let matcher = LeafMatcher::new(&Leaf::Prefix("web-".into()));
    assert!(matcher.matches("host web-1") && !matcher.matches("the web"));
    let index = one_column(&["web-1", "the web", "web 2"]);
    let hits = index.leaf(None, &Leaf::Prefix("web-".into())).unwrap();
    assert_eq!((ids(&hits.sure), ids(&hits.maybe)), (vec![0], vec![0, 1, 2]));
}

#[test]
fn a_column_that_is_not_indexed_leaves_everything_possible() {
    let index = one_column(&["a", "b"]);
    assert_eq!(index.leaf(Some("status"), &Leaf::Term("a".into())).unwrap(), Hits::unknown(2));
}

#[test]
fn common_words_cross_block_and_container_borders() {
    let mut rows: Vec<Row> = vec![vec![None]; 70_000];
    for (id, row) in rows.iter_mut().enumerate() {
        row[0] = match id {
            _ if id % 9_000 == 0 => Some("all rare-word".to_owned()),
            _ if id % 2 == 0 => Some("all even".to_owned()),
            _ => Some("all".to_owned()),
        };
    }
    let index = build(&["m"], &rows);
    assert_eq!(index.leaf(None, &Leaf::Term("all".into())).unwrap(), Hits::all(70_000));
    assert_eq!(index.leaf(None, &Leaf::Term("even".into())).unwrap().sure.len(), 35_000 - 8);
    // Few candidates against a long list: the list is sought in, not read.
    let hits = index.leaf(None, &Leaf::Phrase("all rare".into())).unwrap();
    assert_eq!(ids(&hits.maybe), (0..8).map(|i| i * 9_000).collect::<Vec<_>>());
}

#[test]
fn hundreds_of_columns_are_searched_apart_and_together() {
    let columns: Vec<String> = (0..400).map(|i| format!("a.b{i}")).collect();
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let rows: Vec<Row> =
        (0..20).map(|row| (0..400).map(|c| (c % 20 == row).then(|| format!("w{c}"))).collect()).collect();
    let index = build(&names, &rows);
    assert_eq!(index.fields(), columns);
    assert_eq!(ids(&index.leaf(Some("a.b7"), &Leaf::Term("w7".into())).unwrap().sure), [7]);
    assert_eq!(ids(&index.leaf(Some("a.b8"), &Leaf::Term("w7".into())).unwrap().maybe), [0u32; 0]);
    assert_eq!(ids(&index.leaf(None, &Leaf::Term("w399".into())).unwrap().sure), [19]);
}

#[test]
fn empty_indexes_open_and_find_nothing() {
    for (columns, rows) in [(vec![], 0), (vec![], 3), (vec!["m"], 0), (vec!["m"], 3)] {
        let index = build(&columns, &vec![vec![None; columns.len()]; rows]);
        assert_eq!(index.rows(), rows as u32);
        assert_eq!(index.leaf(None, &Leaf::Term("a".into())).unwrap(), Hits::none());
        assert_eq!(index.search(&Query::All).unwrap(), Hits::all(rows as u32));
    }
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let bytes = || {
        let mut writer = TextIndexWriter::new(&["m".into()], 0).unwrap();
        for row in 0..500 {
            let text = format!("row {row} of many-{}", row % 10);
            writer.add_row(&mut [(0, text.as_str())].into_iter()).unwrap();
        }
        writer.finish().unwrap()
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn memory_over_the_budget_is_an_error_and_the_writer_gives_up() {
    let mut writer = TextIndexWriter::new(&["m".into()], 0).unwrap();
    let mut failed = None;
    for row in 0..200_000u64 {
        let text = format!("{:x} {:x}", row.wrapping_mul(0x9e37_79b9_7f4a_7c15), row);
        if let Err(error) = writer.add_row(&mut [(0, text.as_str())].into_iter()) {
            failed = Some(error);
            break;
        }
    }
    assert!(matches!(failed, Some(IndexError::Budget { .. })), "{failed:?}");
    assert!(writer.add_row(&mut std::iter::empty()).is_err());
    assert!(writer.finish().is_err());
}

#[test]
fn a_column_out_of_range_is_refused() {
    let mut writer = TextIndexWriter::new(&["m".into()], 0).unwrap();
    assert!(writer.add_row(&mut [(1, "x")].into_iter()).is_err());
}

fn assert_bounds(hits: &Hits, truth: &[bool]) -> Result<(), TestCaseError> {
    prop_assert!(hits.maybe.max().is_none_or(|row| (row as usize) < truth.len()));
    for (row, &matches) in truth.iter().enumerate() {
        let (sure, maybe) = (hits.sure.contains(row as u32), hits.maybe.contains(row as u32));
        prop_assert!(sure <= matches && matches <= maybe, "row {row}: {sure} <= {matches} <= {maybe}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_matcher_is_the_oracle(text in oracle::text(), leaf in oracle::leaf()) {
        prop_assert_eq!(LeafMatcher::new(&leaf).matches(&text), oracle::matches(&leaf, &text), "{:?} in {:?}", leaf, text);
    }

    #[test]
    fn every_ascii_text_that_matches_has_a_place(texts in prop::collection::vec(oracle::text(), 0..8), leaf in oracle::leaf()) {
        let matcher = LeafMatcher::new(&leaf);
        let joined = texts.concat();
        let mut places = Vec::new();
        if !matcher.places(joined.as_bytes(), |place| places.push(place)) {
            return Ok(());
        }
        prop_assert!(places.is_sorted());
        let mut end = 0;
        for text in &texts {
            let range = end..end + text.len();
            end = range.end;
            let found = places.iter().any(|place| range.contains(place));
            prop_assert!(found || !text.is_ascii() || !matcher.matches(text), "{leaf:?} in {text:?}");
        }
    }

    #[test]
    fn a_text_matches_itself_and_each_of_its_words(text in oracle::text()) {
        let has_parts = !oracle::parts(&text).is_empty();
        prop_assert_eq!(LeafMatcher::new(&Leaf::Phrase(text.clone())).matches(&text), has_parts);
        prop_assert_eq!(LeafMatcher::new(&Leaf::Prefix(text.clone())).matches(&text), has_parts && text.ends_with(oracle::is_part));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Q2: what the index says of sealed rows never contradicts what the matcher says of the same rows in the tail.
    #[test]
    fn the_truth_lies_between_the_bounds_of_every_leaf(rows in oracle::rows(), leaves in prop::collection::vec(oracle::leaf(), 1..12)) {
        let index = build(&oracle::COLUMNS, &rows);
        for leaf in &leaves {
            for field in [None, Some(oracle::COLUMNS[0]), Some(oracle::COLUMNS[1])] {
                let query = Query::Leaf { field: field.map(str::to_owned), leaf: leaf.clone() };
                let truth: Vec<bool> = rows.iter().map(|row| oracle::holds(&query, row)).collect();
                assert_bounds(&index.leaf(field, leaf).unwrap(), &truth)?;
            }
        }
    }

    #[test]
    fn the_truth_lies_between_the_bounds_of_every_query(rows in oracle::rows(), queries in prop::collection::vec(oracle::query(), 1..8)) {
        let index = build(&oracle::COLUMNS, &rows);
        for query in &queries {
            let truth: Vec<bool> = rows.iter().map(|row| oracle::holds(query, row)).collect();
            assert_bounds(&index.search(query).unwrap(), &truth)?;
        }
    }
}
