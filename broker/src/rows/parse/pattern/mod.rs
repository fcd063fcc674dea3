//! Values of text taken apart by a regular expression with named groups. `%{NAME}` stands in it for a well-known
//! pattern, `%{NAME:column}` for one whose text becomes a column, and `%{NAME:column:int}` or `…:float}` for a number.
//!
//! The expressions are those of the `regex` crate: matching takes time in proportion to the value and, at worst, to the
//! compiled pattern. Both are bounded, and so is their product (X1).

mod expand;
mod known;

use regex::{CaptureLocations, Regex, RegexBuilder};
use stratalog_proto::{Code, Error};

use self::expand::expand;
use super::column::Value;
use super::escape::clip;
use super::fields::{Fields, ROOT};
use super::json_text;
use super::number::number;

/// The column of the whole value, unless a part of it is called so.
pub(super) const MESSAGE: &str = "message";
/// The most memory of a compiled pattern.
const MAX_COMPILED_BYTES: usize = 512 << 10;
/// The least that a compiled pattern is taken to have.
const LEAST_COMPILED_BYTES: usize = 512;
/// The most memory of what matching keeps for each thread.
const MAX_MATCHING_BYTES: usize = 2 << 20;
/// The most that the bytes of a value times those of the compiled pattern may be: for each byte of the value a match looks
/// at each state of the pattern at worst, which for this product takes about a second.
const MAX_WORK: usize = 8 << 30;
/// How deep groups may lie in groups.
const MAX_NESTING: u32 = 100;

/// What the text of a group becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GroupType {
    Text,
    Int,
    Float,
}

/// A group whose text is a column.
#[derive(Debug)]
struct Group {
    /// Its number in the expression.
    number: usize,
    column: String,
    group_type: GroupType,
}

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    groups: Vec<Group>,
    /// The most bytes of a value that it is looked for in.
    max_value_bytes: usize,
}

/// Checks the setting `pattern` of a topic.
///
/// # Errors
/// [`Code::InvalidConfig`], with what is wrong.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), Error> {
    Pattern::new(pattern).map(|_| ())
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`], with what is wrong and where: the expression, a `%{…}` in it, its size, or that nothing of
    /// it becomes a column.
    pub(super) fn new(pattern: &str) -> Result<Self, Error> {
        let invalid = |why: String| {
            let shown = clip(pattern, 200);
            Error::new(Code::InvalidConfig, format!("topic setting `pattern` cannot be `{shown}`: {why}"))
        };
        let expanded = expand(pattern).map_err(invalid)?;
        let (regex, bytes) = compile(&expanded.text).map_err(|error| invalid(why_not(pattern, error)))?;
        let named = regex.capture_names().enumerate().filter_map(|(number, name)| Some((number, name?)));
        let groups: Vec<Group> = named.map(|(number, name)| expanded.group(number, name)).collect();
        if groups.is_empty() {
            let why = "no part of it is a column; name one, as in `%{LOGLEVEL:level}` or `(?<level>[A-Z]+)`";
            return Err(invalid(why.to_owned()));
        }
        Ok(Self { regex, groups, max_value_bytes: MAX_WORK / bytes })
    }

    /// Room for what a match finds.
    pub(super) fn locations(&self) -> CaptureLocations {
        self.regex.capture_locations()
    }

    /// Puts the parts of a value into `fields`. A group that took no part in the match is no value; of two groups for one
    /// column the later one that did wins.
    ///
    /// # Errors
    /// That the value does not match or is too long for the pattern, or which part of it is no number. What was put until
    /// then has to be rolled back.
    pub(super) fn read(&self, text: &str, found: &mut CaptureLocations, fields: &mut Fields) -> Result<(), String> {
        if text.len() > self.max_value_bytes {
            let (len, most) = (text.len(), self.max_value_bytes);
            return Err(format!(
                "the value is too long for the topic's pattern: it has {len} bytes, of at most {most}"
            ));
        }
        if self.regex.captures_read(found, text).is_none() {
            return Err("the value does not match the topic's pattern".to_owned());
        }
        let mut expected = 0;
        for group in &self.groups {
            let Some((start, end)) = found.get(group.number) else { continue };
            let part = &text[start..end];
            match group.group_type {
                GroupType::Text => put(fields, group, Value::Text(part), &mut expected),
                _ => match group.group_type.read(part) {
                    Some(value) => put(fields, group, value, &mut expected),
                    None => return Err(format!("`{}` holds `{}`, which is no number", group.column, clip(part, 64))),
                },
            }
        }
        Ok(())
    }
}

fn put(fields: &mut Fields, group: &Group, value: Value<'_>, expected: &mut usize) {
    match fields.child(ROOT, &group.column, expected) {
        Some(node) => fields.put(node, value),
        None => json_text::push_value(fields.rest(ROOT, &group.column), value),
    }
}

impl GroupType {
    /// The number that a text is: digits may begin with zeros or a plus, as they do in logs.
    fn read(self, text: &str) -> Option<Value<'_>> {
        match self {
            GroupType::Text => Some(Value::Text(text)),
            GroupType::Int => match text.parse() {
                Ok(int) => Some(Value::Int(int)),
                Err(_) => number(text).filter(|value| matches!(value, Value::Digits(_))),
            },
            GroupType::Float => text.parse().ok().filter(|float: &f64| float.is_finite()).map(Value::Float),
        }
    }
}

/// Compiles an expression; with the power of two of bytes that it fits in.
fn compile(expression: &str) -> Result<(Regex, usize), regex::Error> {
    let mut bytes = LEAST_COMPILED_BYTES;
    loop {
        let mut builder = RegexBuilder::new(expression);
        builder.size_limit(bytes).dfa_size_limit(MAX_MATCHING_BYTES).nest_limit(MAX_NESTING);
        match builder.build() {
            Err(regex::Error::CompiledTooBig(_)) if bytes < MAX_COMPILED_BYTES => bytes *= 2,
            built => return built.map(|regex| (regex, bytes)),
        }
    }
}

/// Why an expression does not compile. Its own errors show the expression, which is ours where it was expanded.
fn why_not(pattern: &str, error: regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => format!(
            "compiled, it takes more than {MAX_COMPILED_BYTES} bytes; repeat less, or write `[0-9A-Za-z_]` for `\\w`, which is \
             every letter of Unicode"
        ),
        error => {
            let error = error.to_string();
            let last = error.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let what = last.trim().trim_start_matches("error: ");
            if pattern.contains("%{") { format!("{what} (in its expanded form)") } else { what.to_owned() }
        }
    }
}

#[cfg(test)]
mod tests;
