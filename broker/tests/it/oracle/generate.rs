//! Conditions by dice: over every kind of column, with values that rows have.

use stratalog_storage::simulation::Dice;

use super::condition::{Condition, Operator, Term};
use super::fields::{HOSTS, LEVELS, WORDS};
use super::records::{NOON_NS, World};
use super::search::Search;
use super::value::{Type, Value};
use super::words::Wanted;

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
