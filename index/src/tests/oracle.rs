//! The truth, written naively and apart from the code under test, and the texts and queries to try it on.

use proptest::prelude::*;

use crate::{CompareOp, Leaf, Query};

/// Texts by column; `None` is null.
pub(super) type Row = Vec<Option<String>>;

pub(super) const COLUMNS: [&str; 2] = ["message", "host"];

const IDEOGRAPHS: &str = "错误日エ";

pub(super) fn is_part(c: char) -> bool {
    c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c)
}

/// Lowercased words: cut the text wherever one cannot go on.
pub(super) fn parts(text: &str) -> Vec<String> {
    let mut spaced = String::new();
    for c in text.chars() {
        match c {
            _ if IDEOGRAPHS.contains(c) => spaced.extend([' ', c, ' ']),
            _ if is_part(c) => spaced.extend(c.to_lowercase()),
            _ => spaced.push(' '),
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn matches(leaf: &Leaf, text: &str) -> bool {
    let words = parts(text);
    let (wanted, open) = match leaf {
        Leaf::Term(text) | Leaf::Phrase(text) => (parts(text), false),
        Leaf::Prefix(text) => {
            let mut wanted = parts(text);
            if !text.ends_with(is_part) {
                wanted.push(String::new());
            }
            (wanted, true)
        }
    };
    if wanted.is_empty() {
        return false;
    }
    words.windows(wanted.len()).any(|window| {
        window.iter().zip(&wanted).enumerate().all(|(i, (word, wanted))| match open && i + 1 == window.len() {
            true => word.starts_with(wanted.as_str()),
            false => word == wanted,
        })
    })
}

/// What a query says of a row. The index cannot know comparisons: here they are true of some rows, by their length.
pub(super) fn holds(query: &Query, row: &Row) -> bool {
    match query {
        Query::All => true,
        Query::Leaf { field, leaf } => COLUMNS.iter().zip(row).any(|(name, text)| {
            let named = field.as_deref().is_none_or(|field| field == *name);
            named && text.as_deref().is_some_and(|text| matches(leaf, text))
        }),
        Query::Compare { .. } => row[0].as_ref().is_some_and(|text| text.len() % 2 == 0),
        Query::Exists { field } => COLUMNS.iter().zip(row).any(|(name, text)| field == name && text.is_some()),
        Query::And(members) => members.iter().all(|member| holds(member, row)),
        Query::Or(members) => members.iter().any(|member| holds(member, row)),
        Query::Not(inner) => !holds(inner, row),
    }
}

/// Texts from few words and all kinds of separators, so that leaves hit, nearly hit and miss.
pub(super) fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        12 => prop::sample::select(vec!["a", "A", "b", "ab", "abc", "10", "0", "1"]).prop_map(str::to_owned),
        2 => prop::sample::select(vec!["é", "É", "e\u{301}", "K", "k", "İ", "错", "误", "Σ", "ς"]).prop_map(str::to_owned),
        1 => (250usize..258, prop::sample::select(vec!["x", "é"])).prop_map(|(n, c)| c.repeat(n)),
    ];
    let gap = prop::sample::select(vec![
        "", "", " ", " ", ".", ".", "-", "_", ":", "/", "//", " - ", ",", "=", "#", "\u{a0}", "…",
    ]);
    prop::collection::vec((gap.clone(), word, gap), 0..6).prop_map(|words| {
        words.into_iter().flat_map(|(before, word, after)| [before.to_owned(), word, after.to_owned()]).collect()
    })
}

pub(super) fn leaf() -> impl Strategy<Value = Leaf> {
    prop_oneof![text().prop_map(Leaf::Term), text().prop_map(Leaf::Phrase), text().prop_map(Leaf::Prefix)]
}

pub(super) fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = prop::collection::vec(prop::option::weighted(0.8, text()), COLUMNS.len());
    prop::collection::vec(row, 0..24)
}

pub(super) fn query() -> impl Strategy<Value = Query> {
    let field = prop::option::of(prop::sample::select(COLUMNS.to_vec()).prop_map(str::to_owned));
    let leaf = prop_oneof![
        12 => (field, leaf()).prop_map(|(field, leaf)| Query::Leaf { field, leaf }),
        1 => Just(Query::All),
        1 => Just(Query::Exists { field: COLUMNS[0].to_owned() }),
        1 => Just(Query::Compare { field: "status".to_owned(), op: CompareOp::Less, value: "5".to_owned() }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Query::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Query::Or),
            inner.prop_map(|inner| Query::Not(Box::new(inner))),
        ]
    })
}
