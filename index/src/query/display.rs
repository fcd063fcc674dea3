//! A query as text again, with every group in parentheses. What is written here parses to the same query.

use std::fmt::{self, Display, Formatter, Write};

use super::ast::{Leaf, Query};
use super::word;

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Query::All => f.write_char('*'),
            Query::Leaf { field, leaf } => {
                if let Some(field) = field {
                    name(field, f)?;
                }
                leaf.fmt(f)
            }
            Query::Compare { field, op, value } => {
                name(field, f)?;
                write!(f, "{op}")?;
                quoted(value, f)
            }
            Query::Exists { field } => {
                f.write_str("_exists_:")?;
                escaped(field, f)
            }
            Query::And(members) => group(members, "AND", f),
            Query::Or(members) => group(members, "OR", f),
            Query::Not(inner) => write!(f, "NOT {inner}"),
        }
    }
}

impl Display for Leaf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Leaf::Term(text) => escaped(text, f),
            Leaf::Phrase(text) => quoted(text, f),
            Leaf::Prefix(text) => {
                escaped(text, f)?;
                f.write_char('*')
            }
        }
    }
}

fn group(members: &[Query], operator: &str, f: &mut Formatter<'_>) -> fmt::Result {
    for (i, member) in members.iter().enumerate() {
        match i {
            0 => f.write_char('(')?,
            _ => write!(f, " {operator} ")?,
        }
        member.fmt(f)?;
    }
    f.write_char(')')
}

/// A column and its colon, with the characters escaped that a name does not have by itself.
fn name(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    for (i, c) in text.chars().enumerate() {
        if !word::in_name(c, i == 0) {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char(':')
}

/// A word with the characters escaped that would mean something.
fn escaped(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    let keyword = matches!(text, "AND" | "OR" | "NOT" | "TO");
    for (i, c) in text.chars().enumerate() {
        let special = c.is_whitespace() || "()[]{}<>\"\\*?:~^!&|".contains(c);
        let first = i == 0 && (keyword || "+-/".contains(c));
        if special || first {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    Ok(())
}

fn quoted(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}
