//! Recursive descent over the query text. Depth, clauses and length are bounded before anything grows with them (X1).
//!
//! ```text
//! either  := both (("OR" | "||") both)*
//! both    := clause (("AND" | "&&")? clause)*
//! clause  := ("NOT" | "!" | "-" | "+") clause | [field ":"] value
//! value   := "(" either ")" | phrase | range | comparison | word | word "*" | "*"
//! ```

use super::ast::{CompareOp, Leaf, ParseError, Query};
use super::word::Word;
use crate::pattern::Pattern;

/// Longest query, in bytes.
pub const MAX_QUERY_BYTES: usize = 16 * 1024;
/// Deepest nesting of parentheses and negations.
pub const MAX_DEPTH: usize = 64;
/// Most words, phrases, ranges and comparisons in a query.
pub const MAX_CLAUSES: usize = 1024;

/// The column that is none: its value names one that must not be null.
const EXISTS: &str = "_exists_";

/// Parses a search query. An empty one matches everything.
///
/// # Errors
/// With the byte position and what to write instead, when the text is not a query, is over a limit, or uses a feature
/// of Lucene that there is not: fuzzy `~`, boosts `^`, regular expressions, and wildcards other than a `*` at the end.
///
/// ```
/// use stratalog_index::{Leaf, Query, parse};
/// let query = parse("level:error")?;
/// assert_eq!(query, Query::Leaf { field: Some("level".into()), leaf: Leaf::Term("error".into()) });
/// assert_eq!(parse("level:err*r").unwrap_err().position, 9);
/// # Ok::<(), stratalog_index::ParseError>(())
/// ```
pub fn parse(text: &str) -> Result<Query, ParseError> {
    let mut parser = Parser { text, at: 0, depth: 0, clauses: 0 };
    if text.len() > MAX_QUERY_BYTES {
        return Err(error(MAX_QUERY_BYTES, format!("a query has at most {MAX_QUERY_BYTES} bytes")));
    }
    parser.skip_space();
    if parser.rest().is_empty() {
        return Ok(Query::All);
    }
    let query = parser.either(None)?;
    match parser.rest().is_empty() {
        true => Ok(query),
        false => Err(error(parser.at, "this ')' closes nothing; write \\) to search for it")),
    }
}

pub(super) fn error(position: usize, message: impl Into<String>) -> ParseError {
    ParseError { position, message: message.into() }
}

pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    /// Byte position of what is read next.
    pub(super) at: usize,
    depth: usize,
    clauses: usize,
}

/// The column that an enclosing `field:(…)` names.
type Field<'a> = Option<&'a str>;

impl<'a> Parser<'a> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Takes `symbol` if it is next.
    pub(super) fn take(&mut self, symbol: &str) -> bool {
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn either(&mut self, field: Field<'_>) -> Result<Query, ParseError> {
        let mut any = vec![self.both(field)?];
        while self.take_operator("OR", "||") {
            any.push(self.both(field)?);
        }
        Ok(only_or(any, Query::Or))
    }

    fn both(&mut self, field: Field<'_>) -> Result<Query, ParseError> {
        let mut all = vec![self.clause(field)?];
        loop {
            self.skip_space();
            let joined = self.take_operator("AND", "&&");
            if !joined && (self.rest().is_empty() || self.rest().starts_with(')') || self.at_operator("OR", "||")) {
                return Ok(only_or(all, Query::And));
            }
            all.push(self.clause(field)?);
        }
    }

    fn clause(&mut self, field: Field<'_>) -> Result<Query, ParseError> {
        self.skip_space();
        if self.take_operator("NOT", "!") || self.take_sign("-") {
            return self.deeper(|parser| Ok(Query::Not(Box::new(parser.clause(field)?))));
        }
        if self.take_sign("+") {
            return self.deeper(|parser| parser.clause(field));
        }
        if self.at_operator("AND", "&&") || self.at_operator("OR", "||") {
            return Err(error(
                self.at,
                "an operator stands between two things to search for; quote it to search for it",
            ));
        }
        self.count_clause()?;
        match self.field_name()? {
            Some(name) => self.value(Some(&name)),
            None => self.value(field),
        }
    }

    /// What follows `field:`, or stands alone.
    fn value(&mut self, field: Field<'_>) -> Result<Query, ParseError> {
        match (self.rest().chars().next(), field) {
            (None | Some(')'), _) => Err(error(self.at, "something to search for is missing here")),
            (Some('('), _) => self.group(field),
            (Some('"'), _) => {
                let start = self.at;
                let text = self.quoted()?;
                self.no_modifier("a phrase")?;
                match field {
                    Some(EXISTS) if !text.is_empty() => Ok(Query::Exists { field: text }),
                    _ => leaf(field, Leaf::Phrase(text), start),
                }
            }
            (Some('[' | '{'), Some(name)) => self.range(name),
            (Some('<' | '>'), Some(name)) => self.comparison(name),
            (Some('[' | '{'), None) => Err(error(
                self.at,
                "a range needs a column, as in status:[400 TO 499]; quote the text to search for it",
            )),
            (Some(_), _) => self.word(field),
        }
    }

    fn group(&mut self, field: Field<'_>) -> Result<Query, ParseError> {
        let open = self.at;
        self.at += 1;
        let inner = self.deeper(|parser| parser.either(field))?;
        if !self.take(")") {
            return Err(error(open, "this '(' is not closed; write \\( to search for it"));
        }
        self.no_modifier("a group")?;
        Ok(inner)
    }

    fn comparison(&mut self, field: &str) -> Result<Query, ParseError> {
        let op = match () {
            () if self.take(">=") => CompareOp::GreaterOrEqual,
            () if self.take("<=") => CompareOp::LessOrEqual,
            () if self.take(">") => CompareOp::Greater,
            () => {
                self.at += 1;
                CompareOp::Less
            }
        };
        let value = match self.rest().starts_with('"') {
            true => self.quoted()?,
            false => Word::read(self, &[])?.text(),
        };
        match value.is_empty() {
            true => Err(error(self.at, format!("a value has to follow '{op}' directly, as in {field}:{op}500"))),
            false => Ok(Query::Compare { field: field.to_owned(), op, value }),
        }
    }

    fn word(&mut self, field: Field<'_>) -> Result<Query, ParseError> {
        let start = self.at;
        let word = Word::read(self, &[])?;
        match field {
            Some(EXISTS) => Ok(Query::Exists { field: word.literal()? }),
            Some(name) if word.is_star() => Ok(Query::Exists { field: name.to_owned() }),
            None if word.is_star() => Ok(Query::All),
            _ => leaf(field, word.leaf()?, start),
        }
    }

    /// Takes `name:` when the clause starts with one.
    fn field_name(&mut self) -> Result<Option<String>, ParseError> {
        if self.rest().starts_with("*:*") {
            self.at += 2;
            return Ok(None);
        }
        let Some((name, length)) = Word::field_name(self.rest()) else { return Ok(None) };
        let start = self.at;
        self.at += length;
        match self.rest().chars().next() {
            Some(c) if !c.is_whitespace() && c != ')' => Ok(Some(name)),
            _ => Err(error(
                self.at,
                format!(
                    "column '{name}' has no value here; quote \"{}\" to search for that text",
                    &self.text[start..self.at]
                ),
            )),
        }
    }

    /// Reads a quoted text. Inside, only `\"` and `\\` are escapes, so that Windows paths survive.
    pub(super) fn quoted(&mut self) -> Result<String, ParseError> {
        let open = self.at;
        let mut text = String::new();
        let mut chars = self.text[open + 1..].char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = open + 1 + i + 1;
                    return Ok(text);
                }
                '\\' if chars.as_str().starts_with(['"', '\\']) => {
                    text.extend(chars.next().map(|(_, escaped)| escaped));
                }
                _ => text.push(c),
            }
        }
        Err(error(open, "this quote is not closed; write \\\" to search for a quote"))
    }

    /// Refuses what Lucene allows after a phrase or a group, and we do not have.
    fn no_modifier(&self, what: &str) -> Result<(), ParseError> {
        let message = match self.rest().chars().next() {
            Some('~') => format!("'~' after {what} (distance) is not supported; remove it"),
            Some('^') => format!("'^' after {what} (boost) is not supported: answers are ordered by time; remove it"),
            Some('*') => format!("'*' after {what} is not supported; only a single word can be open, as in connect*"),
            _ => return Ok(()),
        };
        Err(error(self.at, message))
    }

    /// Whether an operator is next: its symbol, or its word with something that ends a word behind it.
    fn at_operator(&self, word: &str, symbol: &str) -> bool {
        let rest = self.rest();
        let ends = |rest: &str| rest.chars().next().is_none_or(|c| c.is_whitespace() || "()\"".contains(c));
        rest.starts_with(symbol) || rest.strip_prefix(word).is_some_and(ends)
    }

    fn take_operator(&mut self, word: &str, symbol: &str) -> bool {
        let found = self.at_operator(word, symbol);
        if found {
            self.at += if self.rest().starts_with(symbol) { symbol.len() } else { word.len() };
        }
        found
    }

    /// Takes a sign that stands directly before what it belongs to; a dash in running text is a word.
    fn take_sign(&mut self, sign: &str) -> bool {
        let bound = self.rest().strip_prefix(sign).and_then(|rest| rest.chars().next());
        bound.is_some_and(|c| !c.is_whitespace()) && self.take(sign)
    }

    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(error(self.at, format!("a query nests at most {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    fn count_clause(&mut self) -> Result<(), ParseError> {
        self.clauses += 1;
        match self.clauses > MAX_CLAUSES {
            true => Err(error(self.at, format!("a query has at most {MAX_CLAUSES} clauses"))),
            false => Ok(()),
        }
    }
}

/// A query for one leaf, which has to say something that a text can have.
fn leaf(field: Field<'_>, leaf: Leaf, start: usize) -> Result<Query, ParseError> {
    if Pattern::new(&leaf).is_blank() {
        return Err(error(start, "this has no letter or digit, and only those can be searched for; remove it"));
    }
    Ok(Query::Leaf { field: field.map(str::to_owned), leaf })
}

fn only_or(mut members: Vec<Query>, wrap: impl FnOnce(Vec<Query>) -> Query) -> Query {
    match members.len() {
        1 => members.remove(0),
        _ => wrap(members),
    }
}
