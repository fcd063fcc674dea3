//! Generated conditions: how each is written in SQL, and what it says of a row, in three-valued logic of its own.

use std::cmp::Ordering;

use stratalog_storage::simulation::Dice;

use super::fields::{HOSTS, LEVELS, WORDS};
use super::records::{NOON_NS, Record, World};
use super::search::Search;
use super::value::{Type, Value};
use super::words::Wanted;

/// True, false, or unknown.
pub(super) type Truth = Option<bool>;

/// A condition on rows.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    Compare(Term, Operator, Value),
    Between(Term, Value, Value, bool),
    In(Term, Vec<Value>, bool),
    IsNull(String, bool),
    Like(Term, String, bool),
    /// `MATCH(column, …)`, or without a column.
    Match(Option<String>, Search),
    /// A column of booleans by itself.
    Column(String),
    IsTrue(Box<Condition>, bool),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

/// What is compared.
#[derive(Clone, Debug)]
pub(super) enum Term {
    Column(String),
    Lower(String),
    Length(String),
    Modulo(String, i64),
    Plus(String, i64),
    Or(String, Value),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Distinct,
    NotDistinct,
}

impl Condition {
    /// What it says of a row.
    pub(super) fn of(&self, world: &World, row: &Record) -> Truth {
        match self {
            Condition::Compare(term, operator, value) => operator.of(&term.of(world, row), value),
            Condition::Between(term, low, high, negated) => {
                let value = term.of(world, row);
                let within = and([Operator::GreaterOrEqual.of(&value, low), Operator::LessOrEqual.of(&value, high)]);
                within.map(|within| within != *negated)
            }
            Condition::In(term, values, negated) => {
                let value = term.of(world, row);
                let equal = values.iter().map(|one| Operator::Equal.of(&value, one));
                or(equal).map(|found| found != *negated)
            }
            Condition::IsNull(column, negated) => {
                // Why a row is dead is not foretold, only that it is.
                let null = if column == "_dead" { !row.is_dead } else { world.value(row, column) == Value::Null };
                Some(null != *negated)
            }
            Condition::Like(term, pattern, negated) => {
                term.of(world, row).text().map(|text| is_like(text, pattern) != *negated)
            }
            Condition::Match(column, search) => Some(search.is_in(world, row, column.as_deref())),
            Condition::Column(column) => truth(&world.value(row, column)),
            Condition::IsTrue(inner, wanted) => Some(inner.of(world, row) == Some(*wanted)),
            Condition::Not(inner) => inner.of(world, row).map(|truth| !truth),
            Condition::All(inner) => and(inner.iter().map(|inner| inner.of(world, row))),
            Condition::Any(inner) => or(inner.iter().map(|inner| inner.of(world, row))),
        }
    }

    /// How it is written.
    pub(super) fn sql(&self) -> String {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Condition::Compare(term, operator, value) => {
                format!("{} {} {}", term.sql(), operator.sql(), literal(term.column(), value))
            }
            Condition::Between(term, low, high, negated) => {
                let [low, high] = [low, high].map(|value| literal(term.column(), value));
                format!("{} {}BETWEEN {low} AND {high}", term.sql(), not(negated))
            }
            Condition::In(term, values, negated) => {
                let values: Vec<_> = values.iter().map(|value| literal(term.column(), value)).collect();
                format!("{} {}IN ({})", term.sql(), not(negated), values.join(", "))
            }
            Condition::IsNull(column, negated) => format!("{} IS {}NULL", quoted(column), not(negated)),
            Condition::Like(term, pattern, negated) => format!("{} {}LIKE {}", term.sql(), not(negated), text(pattern)),
            Condition::Match(None, search) => format!("MATCH({})", text(&search.written())),
            Condition::Match(Some(column), search) => {
                format!("MATCH({}, {})", quoted(column), text(&search.written()))
            }
            Condition::Column(column) => quoted(column),
            Condition::IsTrue(inner, wanted) => format!("({}) IS {wanted}", inner.sql()),
            Condition::Not(inner) => format!("NOT ({})", inner.sql()),
            Condition::All(inner) => joined(inner, " AND "),
            Condition::Any(inner) => joined(inner, " OR "),
        }
    }

    /// The conditions that it is made of.
    pub(super) fn parts(&self) -> Vec<&Condition> {
        match self {
            Condition::All(inner) | Condition::Any(inner) => inner.iter().collect(),
            Condition::Not(inner) | Condition::IsTrue(inner, _) => vec![inner],
            _ => Vec::new(),
        }
    }
}

impl Term {
    fn column(&self) -> &str {
        match self {
            Term::Column(column) | Term::Lower(column) | Term::Length(column) => column,
            Term::Modulo(column, _) | Term::Plus(column, _) | Term::Or(column, _) => column,
        }
    }

    fn sql(&self) -> String {
        let column = quoted(self.column());
        match self {
            Term::Column(_) => column,
            Term::Lower(_) => format!("lower({column})"),
            Term::Length(_) => format!("length({column})"),
            Term::Modulo(_, by) => format!("{column} % {by}"),
            Term::Plus(_, more) => format!("{column} + {more}"),
            Term::Or(of, value) => format!("coalesce({column}, {})", literal(of, value)),
        }
    }

    fn of(&self, world: &World, row: &Record) -> Value {
        match (self, world.value(row, self.column())) {
            (Term::Column(_), value) => value,
            (Term::Or(_, other), Value::Null) => other.clone(),
            (Term::Or(..), value) => value,
            (_, Value::Null) => Value::Null,
            (Term::Lower(_), Value::Text(text)) => Value::Text(text.to_lowercase()),
            (Term::Length(_), Value::Text(text)) => Value::Int(text.chars().count() as i64),
            (Term::Modulo(_, by), Value::Int(value)) => Value::Int(value % by),
            (Term::Plus(_, more), Value::Int(value)) => Value::Int(value + more),
            (term, value) => panic!("{term:?} over {value:?} is not generated"),
        }
    }
}

impl Operator {
    const ALL: [(Self, &str); 8] = [
        (Self::Equal, "="),
        (Self::NotEqual, "<>"),
        (Self::Less, "<"),
        (Self::LessOrEqual, "<="),
        (Self::Greater, ">"),
        (Self::GreaterOrEqual, ">="),
        (Self::Distinct, "IS DISTINCT FROM"),
        (Self::NotDistinct, "IS NOT DISTINCT FROM"),
    ];

    fn sql(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    fn of(self, left: &Value, right: &Value) -> Truth {
        let order = order(left, right);
        match self {
            Self::Distinct => return Some(order != Some(Ordering::Equal)),
            Self::NotDistinct => return Some(order == Some(Ordering::Equal)),
            _ => {}
        }
        let order = order?;
        Some(match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            _ => order.is_ge(),
        })
    }
}

/// How two values compare; `None` if one is null. Integers are compared with doubles as doubles.
pub(super) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (left, right) => panic!("{left:?} and {right:?} are not compared"),
    }
}

fn truth(value: &Value) -> Truth {
    match value {
        Value::Bool(value) => Some(*value),
        _ => None,
    }
}

fn and(all: impl IntoIterator<Item = Truth>) -> Truth {
    let all: Vec<Truth> = all.into_iter().collect();
    if all.contains(&Some(false)) {
        return Some(false);
    }
    (!all.contains(&None)).then_some(true)
}

fn or(any: impl IntoIterator<Item = Truth>) -> Truth {
    and(any.into_iter().map(|one| one.map(|truth| !truth))).map(|truth| !truth)
}

/// `%` is any run of characters, `_` is any one.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    // What each start of the pattern matches of the text so far.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for c in pattern {
        reached = match c {
            '%' => {
                let first = reached.iter().position(|here| *here).unwrap_or(reached.len());
                (0..reached.len()).map(|at| at >= first).collect()
            }
            c => {
                let step = |(at, here): (usize, &bool)| *here && (c == '_' || text[at] == c);
                let next: Vec<bool> = reached[..text.len()].iter().enumerate().map(step).collect();
                std::iter::once(false).chain(next).collect()
            }
        };
    }
    reached[text.len()]
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn literal(column: &str, value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(ns) if column == "_time" || column == "_timestamp" => {
            let time = chrono::DateTime::from_timestamp_nanos(*ns);
            format!("TIMESTAMP '{}'", time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true))
        }
        Value::Int(i64::MIN) => "(-9223372036854775807 - 1)".to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format!("{value:e}"),
        Value::Text(value) => text(value),
    }
}

fn joined(inner: &[Condition], operator: &str) -> String {
    let inner: Vec<_> = inner.iter().map(|inner| format!("({})", inner.sql())).collect();
    inner.join(operator)
}

/// A condition of at most so many levels.
pub(super) fn condition(world: &World, dice: &mut Dice, depth: u64) -> Condition {
    let several = |dice: &mut Dice| (0..2 + dice.below(2)).map(|_| condition(world, dice, depth - 1)).collect();
    match dice.below(if depth == 0 { 6 } else { 12 }) {
        0..6 => leaf(world, dice),
        6 | 7 => Condition::Not(Box::new(condition(world, dice, depth - 1))),
        8 => Condition::IsTrue(Box::new(condition(world, dice, depth - 1)), dice.chance(1, 2)),
        9 | 10 => Condition::All(several(dice)),
        _ => Condition::Any(several(dice)),
    }
}

/// Columns of texts that are looked into.
const TEXTS: [&str; 10] =
    ["message", "level", "host", "mixed", "tags", "user-id", "http.path", "http.user.name", "_empty", "_key"];

fn leaf(world: &World, dice: &mut Dice) -> Condition {
    let negated = dice.chance(1, 3);
    match dice.below(12) {
        0 => Condition::IsNull(some_column(world, dice), negated),
        1 => Condition::Column("flag".to_owned()),
        2 | 3 => {
            let column = pick(dice, &TEXTS).to_owned();
            let known = column != "_key" && world.types.contains_key(&column);
            Condition::Match((known && !dice.chance(1, 3)).then_some(column), Search::generate(world, dice, 2))
        }
        4 | 5 => {
            let column = present(world, dice, &TEXTS);
            let term = if dice.chance(1, 4) { Term::Lower(column) } else { Term::Column(column) };
            let word = pick(dice, &WORDS);
            let start: String = word.chars().take(2).collect();
            let patterns = [format!("%{word}%"), format!("{start}%"), format!("%_{start}_%"), word.to_owned()];
            Condition::Like(term, dice.pick(&patterns).expect("there are some").clone(), negated)
        }
        6 => {
            let (term, value) = compared(world, dice);
            let values = (0..dice.below(4)).map(|_| other_value(world, dice, &term, &value)).chain([value.clone()]);
            Condition::In(term.clone(), values.collect(), negated)
        }
        7 => {
            let (term, low) = compared(world, dice);
            let high = other_value(world, dice, &term, &low);
            Condition::Between(term, low, high, negated)
        }
        _ => {
            let (term, value) = compared(world, dice);
            let operator = Operator::ALL[dice.below(8) as usize].0;
            Condition::Compare(term, operator, value)
        }
    }
}

/// Something to compare, and a value of its type.
fn compared(world: &World, dice: &mut Dice) -> (Term, Value) {
    let column = |name: &str| Term::Column(name.to_owned());
    match dice.below(16) {
        0 => (Term::Modulo("n".to_owned(), 3), Value::Int(dice.below(3) as i64)),
        1 => (Term::Plus("n".to_owned(), 7), Value::Int(dice.below(50) as i64)),
        2 => (Term::Or("n".to_owned(), Value::Int(0)), Value::Int(dice.below(20) as i64)),
        3 => (Term::Length("message".to_owned()), Value::Int(dice.below(40) as i64)),
        4 => (Term::Or("level".to_owned(), Value::Text("none".to_owned())), Value::Text("none".to_owned())),
        5 => (column("_time"), Value::Int(NOON_NS + (dice.below(20) as i64 - 10) * 1_800_000_000_000)),
        6 => (column("_offset"), Value::Int(dice.below(world.records.len() as u64 / 2 + 1) as i64)),
        7 => (column("_partition"), Value::Int(dice.below(4) as i64)),
        8 => (column("_timestamp"), Value::Int(NOON_NS + dice.below(3_600_000) as i64 * 1_000_000)),
        9 => (column("level"), Value::Text(pick(dice, &LEVELS).to_owned())),
        10 => (column("host"), Value::Text(pick(dice, &HOSTS).to_owned())),
        _ => {
            let column = some_column(world, dice);
            let column = if column == "_dead" { "n".to_owned() } else { column };
            let value = value_of(world, dice, &column);
            (Term::Column(column), value)
        }
    }
}

/// A value that some row has in the column.
fn value_of(world: &World, dice: &mut Dice, column: &str) -> Value {
    let start = dice.below(world.records.len() as u64) as usize;
    let mut rows = world.records[start..].iter().chain(&world.records[..start]);
    let value = rows.find_map(|row| Some(world.value(row, column)).filter(|value| *value != Value::Null));
    value.unwrap_or(Value::Int(0))
}

/// Another value of the same type.
fn other_value(world: &World, dice: &mut Dice, term: &Term, value: &Value) -> Value {
    match (term, value) {
        (Term::Column(column), _) => value_of(world, dice, column),
        (_, Value::Int(value)) => Value::Int(value + dice.below(9) as i64),
        (_, value) => value.clone(),
    }
}

/// A column of the users' or one of ours.
pub(super) fn some_column(world: &World, dice: &mut Dice) -> String {
    let ours = ["_key", "_headers", "_dead", "_time", "_timestamp", "_offset", "_partition"];
    if dice.chance(1, 6) {
        return pick(dice, &ours).to_owned();
    }
    let names: Vec<&String> = world.types.keys().collect();
    (*dice.pick(&names).expect("there are columns")).clone()
}

/// One of these columns that some row has.
fn present(world: &World, dice: &mut Dice, columns: &[&'static str]) -> String {
    let column = pick(dice, columns);
    let is_text = column == "_key" || world.types.get(column) == Some(&Type::Text);
    if is_text { column.to_owned() } else { "message".to_owned() }
}

pub(super) fn pick(dice: &mut Dice, from: &[&'static str]) -> &'static str {
    dice.pick(from).expect("there are some")
}

/// A word, a phrase or the start of a word, to search for.
pub(super) fn wanted(dice: &mut Dice) -> Wanted {
    let word = pick(dice, &WORDS);
    match dice.below(4) {
        0 if word.starts_with(char::is_alphanumeric) => {
            Wanted::Open(word.chars().take(1 + dice.below(4) as usize).collect())
        }
        1 => Wanted::Parts(format!("{word} {}", pick(dice, &WORDS))),
        _ => Wanted::Parts(word.to_owned()),
    }
}
