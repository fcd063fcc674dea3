//! Values as `docs/DATA.md` describes them: what a cell is, which type a column gets, how a value reads in it.

use std::collections::BTreeMap;

/// What one field of one record says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// An integer beyond 64 bits, or a number beyond a double: its digits as they were written.
    Digits(String),
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Float,
    Text,
}

/// A value of a statement's answer, or within it. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl Cell {
    /// A JSON number by its text.
    pub(super) fn number(text: &str) -> Self {
        if let Ok(integer) = text.parse::<i64>()
            && text != "-0"
        {
            return Cell::Int(integer);
        }
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() && (text == "-0" || text.contains(['.', 'e', 'E'])) => Cell::Float(float),
            _ => Cell::Digits(text.to_owned()),
        }
    }

    fn natural(&self) -> Type {
        match self {
            Cell::Bool(_) => Type::Bool,
            Cell::Int(_) => Type::Int,
            Cell::Float(_) => Type::Float,
            Cell::Text(_) | Cell::Digits(_) => Type::Text,
        }
    }

    /// The value as it reads in a column of this type.
    pub(super) fn read_as(&self, column: Type) -> Value {
        match (self, column) {
            (Cell::Bool(value), Type::Bool) => Value::Bool(*value),
            (Cell::Int(value), Type::Int) => Value::Int(*value),
            (Cell::Int(value), Type::Float) => Value::Float(*value as f64),
            (Cell::Float(value), Type::Float) => Value::Float(*value),
            (Cell::Bool(value), Type::Text) => Value::Text(value.to_string()),
            (Cell::Int(value), Type::Text) => Value::Text(value.to_string()),
            (Cell::Float(value), Type::Text) => Value::Text(float_text(*value)),
            (Cell::Text(text) | Cell::Digits(text), Type::Text) => Value::Text(text.clone()),
            (cell, column) => panic!("{cell:?} does not fit a column of type {column:?}"),
        }
    }
}

impl Value {
    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Whole doubles without a fraction, others with the fewest digits that read back; very large and very small ones with
/// an exponent.
fn float_text(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && !(1e-7..1e21).contains(&size) {
        format!("{float:e}")
    } else if float.fract() == 0.0 {
        format!("{float:.0}")
    } else {
        format!("{float}")
    }
}

/// The column that each name gets, of all cells that it has in any row.
pub(super) fn types<'a>(rows: impl IntoIterator<Item = &'a BTreeMap<String, Cell>>) -> BTreeMap<String, Type> {
    let mut types: BTreeMap<String, Type> = BTreeMap::new();
    for (name, cell) in rows.into_iter().flatten() {
        let natural = cell.natural();
        types.entry(name.clone()).and_modify(|known| *known = wider(*known, natural)).or_insert(natural);
    }
    types
}

fn wider(a: Type, b: Type) -> Type {
    match (a, b) {
        _ if a == b => a,
        (Type::Int, Type::Float) | (Type::Float, Type::Int) => Type::Float,
        _ => Type::Text,
    }
}
