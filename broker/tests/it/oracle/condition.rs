//! Conditions: how each is written in SQL, and what it says of a row, in three-valued logic of its own.

use std::cmp::Ordering;

use super::records::{Record, World};
use super::search::Search;
use super::value::Value;

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
    pub(super) const ALL: [(Self, &str); 8] = [
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
