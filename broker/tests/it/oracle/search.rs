//! Generated search queries: how each is written, and which rows it finds.

use stratalog_storage::simulation::Dice;

use super::generate::{pick, some_column, wanted};
use super::records::{Record, World};
use super::value::Value;
use super::words::Wanted;

/// A search query. It is true or false of a row, and never unknown.
#[derive(Clone, Debug)]
pub(super) enum Search {
    Everything,
    Text(Option<String>, Wanted),
    /// A column equals a number.
    Number(String, i64),
    /// A number within ends that are part of the range; `None` is open.
    Range(String, Option<i64>, Option<i64>),
    Exists(String),
    Not(Box<Search>),
    All(Vec<Search>),
    Any(Vec<Search>),
}

/// Columns that a query names, one that does not exist among them.
const TEXTS: [&str; 7] = ["message", "level", "host", "mixed", "http.path", "user-id", "nosuch"];
const NUMBERS: [&str; 6] = ["n", "x", "edge", "http.status", "_offset", "nosuch"];

impl Search {
    pub(super) fn generate(world: &World, dice: &mut Dice, depth: u64) -> Self {
        let several =
            |dice: &mut Dice| (0..2 + dice.below(2)).map(|_| Self::generate(world, dice, depth - 1)).collect();
        match dice.below(if depth == 0 { 7 } else { 11 }) {
            0..4 => Self::Text(dice.chance(1, 3).then(|| pick(dice, &TEXTS).to_owned()), wanted(dice)),
            4 if dice.chance(1, 8) => Self::Everything,
            4 => Self::Number(pick(dice, &NUMBERS).to_owned(), dice.below(40) as i64),
            5 => {
                let (low, high) = (dice.below(60) as i64 - 10, dice.below(500) as i64);
                let open = dice.below(4);
                Self::Range(pick(dice, &NUMBERS).to_owned(), (open != 0).then_some(low), (open != 1).then_some(high))
            }
            6 => Self::Exists(some_column(world, dice)).named(),
            7 | 8 => Self::Not(Box::new(Self::generate(world, dice, depth - 1))),
            9 => Self::All(several(dice)),
            _ => Self::Any(several(dice)),
        }
    }

    /// The hidden columns of ours are not asked for: `_dead` may be null or not, and nothing says what it is.
    fn named(self) -> Self {
        match self {
            Self::Exists(column) if column == "_dead" => Self::Exists("rare".to_owned()),
            other => other,
        }
    }

    /// How it is written.
    pub(super) fn written(&self) -> String {
        let field =
            |column: &Option<String>| column.as_deref().map_or(String::new(), |name| format!("{}:", escaped(name)));
        let bound = |bound: &Option<i64>| bound.map_or("*".to_owned(), |bound| bound.to_string());
        match self {
            Search::Everything => "*".to_owned(),
            Search::Text(column, Wanted::Open(start)) => format!("{}{}*", field(column), escaped(start)),
            Search::Text(column, Wanted::Parts(text)) => format!("{}\"{text}\"", field(column)),
            Search::Number(column, value) => format!("{}:{value}", escaped(column)),
            Search::Range(column, low, high) => format!("{}:[{} TO {}]", escaped(column), bound(low), bound(high)),
            Search::Exists(column) => format!("_exists_:{}", escaped(column)),
            Search::Not(inner) => format!("NOT ({})", inner.written()),
            Search::All(inner) => group(inner, " "),
            Search::Any(inner) => group(inner, " OR "),
        }
    }

    /// Whether a row is found. `default`: the column of words that name none; else every column of text.
    pub(super) fn is_in(&self, world: &World, row: &Record, default: Option<&str>) -> bool {
        let has = |column: &str, wanted: &Wanted| match known(world, row, column) {
            Some(Value::Text(text)) => wanted.is_in(&text),
            _ => false,
        };
        let number = |column: &str, holds: &dyn Fn(f64) -> bool| match known(world, row, column) {
            Some(Value::Int(value)) => holds(value as f64),
            Some(Value::Float(value)) => holds(value),
            _ => false,
        };
        match self {
            Search::Everything => true,
            Search::Text(None, wanted) => match default {
                Some(column) => has(column, wanted),
                None => world.text_columns().any(|column| has(column, wanted)),
            },
            Search::Text(Some(column), wanted) => has(column, wanted),
            Search::Number(column, wanted) => number(column, &|value| value == *wanted as f64),
            Search::Range(column, low, high) => number(column, &|value| {
                low.is_none_or(|low| value >= low as f64) && high.is_none_or(|high| value <= high as f64)
            }),
            Search::Exists(column) => known(world, row, column).is_some_and(|value| value != Value::Null),
            Search::Not(inner) => !inner.is_in(world, row, default),
            Search::All(inner) => inner.iter().all(|inner| inner.is_in(world, row, default)),
            Search::Any(inner) => inner.iter().any(|inner| inner.is_in(world, row, default)),
        }
    }

    /// The queries that it is made of.
    pub(super) fn parts(&self) -> Vec<&Search> {
        match self {
            Search::All(inner) | Search::Any(inner) => inner.iter().collect(),
            Search::Not(inner) => vec![inner],
            _ => Vec::new(),
        }
    }
}

fn known(world: &World, row: &Record, column: &str) -> Option<Value> {
    let exists = column.starts_with('_') || world.types.contains_key(column);
    exists.then(|| world.value(row, column))
}

fn group(inner: &[Search], operator: &str) -> String {
    let inner: Vec<_> = inner.iter().map(|inner| format!("({})", inner.written())).collect();
    inner.join(operator)
}

/// Each character that could mean something else with a backslash in front.
fn escaped(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '.' || ('\u{300}'..='\u{36f}').contains(&c);
    text.chars().flat_map(|c| (!plain(c)).then_some('\\').into_iter().chain([c])).collect()
}
