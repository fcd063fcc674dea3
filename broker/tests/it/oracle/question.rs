//! Generated statements and searches, and the answer that each has to get.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use stratalog_storage::simulation::Dice;

use super::condition::{Condition, order, quoted};
use super::generate::{condition, pick, some_column};
use super::records::{NOON_NS, Record, World};
use super::search::Search;
use super::value::{Type, Value};

/// One row of an answer.
pub(super) type Row = Vec<Value>;

/// What is asked of a topic.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// Columns of the rows that fulfil a condition.
    Rows { columns: Vec<String>, condition: Option<Condition> },
    /// Aggregates over them, by the values of a column or over all.
    Groups { by: Option<String>, condition: Option<Condition> },
    /// The first of them in an order.
    First { by: String, descending: bool, nulls_first: bool, limit: usize, offset: usize, condition: Option<Condition> },
    /// Pairs of them with the same host.
    Pairs { left: Condition, right: Condition },
    /// A log search.
    Search { search: Search, from_ns: Option<i64>, to_ns: Option<i64>, limit: usize },
}

/// Columns over which rows are grouped.
const GROUPS: [&str; 8] = ["level", "flag", "n", "mixed", "host", "http.status", "_partition", "double"];

impl Question {
    pub(super) fn generate(world: &World, dice: &mut Dice) -> Self {
        let filter = |dice: &mut Dice| (!dice.chance(1, 6)).then(|| condition(world, dice, 3));
        match dice.below(12) {
            0..5 => Self::Rows { columns: columns(world, dice), condition: filter(dice) },
            5 | 6 => Self::Groups {
                by: (!dice.chance(1, 3)).then(|| pick(dice, &GROUPS).to_owned()),
                condition: filter(dice),
            },
            7 | 8 => Self::First {
                by: if dice.chance(1, 3) { "_time".to_owned() } else { sortable(world, dice) },
                descending: dice.chance(1, 2),
                nulls_first: dice.chance(1, 2),
                limit: 1 + dice.below(40) as usize,
                offset: dice.below(3) as usize * 7,
                condition: filter(dice),
            },
            9 => Self::Pairs { left: condition(world, dice, 1), right: condition(world, dice, 1) },
            _ => {
                let bound =
                    |dice: &mut Dice| dice.chance(1, 4).then(|| NOON_NS + (dice.below(20) as i64 - 10) * HALF_HOUR);
                let (from_ns, to_ns) = (bound(dice), bound(dice));
                let limit = 1 + dice.below(200) as usize;
                Self::Search { search: Search::generate(world, dice, 3), from_ns, to_ns, limit }
            }
        }
    }

    /// As SQL over a topic; a search as its text.
    pub(super) fn written(&self, topic: &str) -> String {
        match self {
            Self::Rows { columns, condition } => {
                let columns: Vec<_> = columns.iter().map(|name| quoted(name)).collect();
                format!("SELECT {} FROM {topic}{}", columns.join(", "), filter(condition))
            }
            Self::Groups { by, condition } => {
                let (key, group) = match by {
                    Some(by) => (format!("{}, ", quoted(by)), format!(" GROUP BY {}", quoted(by))),
                    None => (String::new(), String::new()),
                };
                let aggregates = AGGREGATES.join(", ");
                format!("SELECT {key}{aggregates} FROM {topic}{}{group}", filter(condition))
            }
            Self::First { by, descending, nulls_first, limit, offset, condition } => {
                let by = quoted(by);
                let (order, nulls) =
                    (if *descending { "DESC" } else { "ASC" }, if *nulls_first { "FIRST" } else { "LAST" });
                let rest =
                    format!("ORDER BY {by} {order} NULLS {nulls}, _partition, _offset LIMIT {limit} OFFSET {offset}");
                format!("SELECT {by}, _partition, _offset FROM {topic}{} {rest}", filter(condition))
            }
            Self::Pairs { left, right } => format!(
                "SELECT count(*), count(DISTINCT a.\"host\") FROM (SELECT \"host\" FROM {topic} WHERE {}) a \
                 JOIN (SELECT \"host\" FROM {topic} WHERE {}) b ON a.\"host\" = b.\"host\"",
                left.sql(),
                right.sql()
            ),
            Self::Search { search, .. } => search.written(),
        }
    }

    /// The answer over these rows; where no order was asked for, in the order of [`sorted`].
    pub(super) fn answer(&self, world: &World, rows: &[&Record]) -> Vec<Row> {
        match self {
            Self::Rows { columns, condition } => {
                let shown = |row: &&Record| columns.iter().map(|name| world.value(row, name)).collect();
                sorted(kept(world, rows, condition).iter().map(shown).collect())
            }
            Self::Groups { by, condition } => sorted(groups(world, &kept(world, rows, condition), by.as_deref())),
            Self::First { by, descending, nulls_first, limit, offset, condition } => {
                let mut kept = kept(world, rows, condition);
                let key = |row: &Record| world.value(row, by);
                kept.sort_by(|a, b| {
                    let order = with_nulls(&key(a), &key(b), *descending, *nulls_first);
                    order.then((a.partition, a.offset).cmp(&(b.partition, b.offset)))
                });
                let shown = |row: &&Record| [vec![key(row)], place(row)].concat();
                kept.iter().skip(*offset).take(*limit).map(shown).collect()
            }
            Self::Pairs { left, right } => vec![pairs(world, rows, left, right)],
            Self::Search { search, from_ns, to_ns, limit } => {
                let within = |row: &Record| {
                    from_ns.is_none_or(|from| row.time_ns >= from) && to_ns.is_none_or(|to| row.time_ns < to)
                };
                let found = rows.iter().filter(|row| within(row) && search.is_in(world, row, None));
                let mut found: Vec<&Record> = found.copied().collect();
                found.sort_by_key(|row| (std::cmp::Reverse(row.time_ns), row.partition, std::cmp::Reverse(row.offset)));
                found.truncate(*limit);
                found.iter().map(|row| [vec![Value::Int(row.time_ns)], place(row)].concat()).collect()
            }
        }
    }

    /// Whether its answer comes in an order.
    pub(super) fn is_ordered(&self) -> bool {
        matches!(self, Self::First { .. } | Self::Search { .. })
    }

    /// Smaller questions that may show the same fault.
    pub(super) fn smaller(&self) -> Vec<Question> {
        match self {
            Self::Rows { columns, condition: Some(condition) } => {
                let part =
                    |part: &&Condition| Self::Rows { columns: columns.clone(), condition: Some((*part).clone()) };
                condition.parts().iter().map(part).collect()
            }
            Self::Groups { by, condition: Some(condition) } => {
                let part = |part: Option<Condition>| Self::Groups { by: by.clone(), condition: part };
                std::iter::once(None).chain(condition.parts().into_iter().cloned().map(Some)).map(part).collect()
            }
            Self::First { condition: Some(condition), .. } => {
                vec![Self::Rows {
                    columns: vec!["_partition".to_owned(), "_offset".to_owned()],
                    condition: Some(condition.clone()),
                }]
            }
            Self::Search { search, from_ns, to_ns, limit } => {
                let (from_ns, to_ns, limit) = (*from_ns, *to_ns, *limit);
                search
                    .parts()
                    .into_iter()
                    .map(|part| Self::Search { search: part.clone(), from_ns, to_ns, limit })
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

const HALF_HOUR: i64 = 1_800_000_000_000;

/// In the order of [`groups`].
const AGGREGATES: [&str; 11] = [
    "count(*)",
    "count(\"message\")",
    "sum(\"n\")",
    "sum(\"x\")",
    "min(\"edge\")",
    "max(\"edge\")",
    "min(\"host\")",
    "max(\"mixed\")",
    "min(_time)",
    "max(_offset)",
    "count(DISTINCT \"level\")",
];

fn groups(world: &World, rows: &[&Record], by: Option<&str>) -> Vec<Row> {
    let mut groups: BTreeMap<String, (Row, Vec<&Record>)> = BTreeMap::new();
    if by.is_none() {
        groups.insert(String::new(), (Vec::new(), Vec::new()));
    }
    for row in rows {
        let key: Row = by.map(|by| one_zero(world.value(row, by))).into_iter().collect();
        let name = if by.is_some() { format!("{key:?}") } else { String::new() };
        groups.entry(name).or_insert_with(|| (key, Vec::new())).1.push(row);
    }
    groups.into_values().map(|(key, rows)| [key, aggregates(world, &rows)].concat()).collect()
}

/// The two zeroes of doubles are equal, and one group.
fn one_zero(value: Value) -> Value {
    let is_zero = matches!(value, Value::Float(float) if float == 0.0);
    if is_zero { Value::Float(0.0) } else { value }
}

fn aggregates(world: &World, rows: &[&Record]) -> Row {
    let values = |column: &str| -> Vec<Value> {
        rows.iter().map(|row| world.value(row, column)).filter(|value| *value != Value::Null).collect()
    };
    let extreme = |column: &str, wanted: Ordering| {
        let best = values(column).into_iter().reduce(|a, b| if order(&b, &a) == Some(wanted) { b } else { a });
        best.unwrap_or(Value::Null)
    };
    let distinct: BTreeSet<String> = values("level").iter().map(|value| format!("{value:?}")).collect();
    vec![
        Value::Int(rows.len() as i64),
        Value::Int(values("message").len() as i64),
        sum(&values("n")),
        sum(&values("x")),
        extreme("edge", Ordering::Less),
        extreme("edge", Ordering::Greater),
        extreme("host", Ordering::Less),
        extreme("mixed", Ordering::Greater),
        extreme("_time", Ordering::Less),
        extreme("_offset", Ordering::Greater),
        Value::Int(distinct.len() as i64),
    ]
}

/// The columns that are summed are integers, or multiples of an eighth: every order of adding gives the same.
fn sum(values: &[Value]) -> Value {
    let add = |sum: Value, value: &Value| match (sum, value) {
        (Value::Null, value) => value.clone(),
        (Value::Int(sum), Value::Int(value)) => Value::Int(sum + value),
        (Value::Float(sum), Value::Float(value)) => Value::Float(sum + value),
        (sum, value) => panic!("{sum:?} and {value:?} are not added"),
    };
    values.iter().fold(Value::Null, add)
}

fn pairs(world: &World, rows: &[&Record], left: &Condition, right: &Condition) -> Row {
    let hosts = |condition: &Condition| {
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for row in rows.iter().filter(|row| condition.of(world, row) == Some(true)) {
            if let Value::Text(host) = world.value(row, "host") {
                *counts.entry(host).or_default() += 1;
            }
        }
        counts
    };
    let (left, right) = (hosts(left), hosts(right));
    let both: Vec<i64> = left.iter().filter_map(|(host, count)| Some(count * right.get(host)?)).collect();
    vec![Value::Int(both.iter().sum()), Value::Int(both.len() as i64)]
}

fn kept<'a>(world: &World, rows: &[&'a Record], condition: &Option<Condition>) -> Vec<&'a Record> {
    let holds = |row: &&&Record| condition.as_ref().is_none_or(|condition| condition.of(world, row) == Some(true));
    rows.iter().filter(holds).copied().collect()
}

fn filter(condition: &Option<Condition>) -> String {
    condition.as_ref().map_or(String::new(), |condition| format!(" WHERE {}", condition.sql()))
}

fn place(row: &Record) -> Row {
    vec![Value::Int(i64::from(row.partition)), Value::Int(row.offset as i64)]
}

fn with_nulls(a: &Value, b: &Value, descending: bool, nulls_first: bool) -> Ordering {
    let is_null = |value: &Value| *value == Value::Null;
    if is_null(a) || is_null(b) {
        let order = is_null(b).cmp(&is_null(a));
        return if nulls_first { order } else { order.reverse() };
    }
    let order = match (a, b) {
        // Equal as they are, the two zeroes have an order.
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        _ => order(a, b).expect("both have a value"),
    };
    if descending { order.reverse() } else { order }
}

/// Rows in an order that depends on nothing but their values.
pub(super) fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_cached_key(|row| format!("{row:?}"));
    rows
}

/// The place of a row and some of its columns.
fn columns(world: &World, dice: &mut Dice) -> Vec<String> {
    let mut columns: Vec<String> = ["_partition", "_offset"].map(str::to_owned).to_vec();
    for _ in 0..dice.below(4) {
        let column = if dice.chance(1, 8) { "_raw".to_owned() } else { some_column(world, dice) };
        if column != "_dead" && !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

fn sortable(world: &World, dice: &mut Dice) -> String {
    let column = some_column(world, dice);
    let is_ours = column.starts_with('_') && !world.types.contains_key(&column);
    match world.types.get(&column) {
        Some(Type::Bool) => "n".to_owned(),
        _ if is_ours => "_timestamp".to_owned(),
        _ => column,
    }
}
