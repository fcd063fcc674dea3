//! Replaces `%{NAME}`, `%{NAME:column}` and `%{NAME:column:type}` by the patterns that they stand for.

use super::known::known;
use super::{Group, GroupType};
use crate::rows::parse::names::MAX_NAME_BYTES;

/// The longest expression that a pattern may become, in bytes.
const MAX_EXPANDED_BYTES: usize = 64 << 10;
/// How deep known patterns may refer to others. The table is free of circles, as a test shows; this bounds it anyway.
const MAX_DEPTH: usize = 12;
/// The most columns of a pattern.
const MAX_GROUPS: usize = 200;
/// What our own groups are called, with their number behind it. Two groups may be for one column, and a column may have
/// a name that a group cannot have.
const GROUP_PREFIX: &str = "__";

/// A pattern as an expression.
pub(super) struct Expanded {
    pub(super) text: String,
    groups: Vec<(String, GroupType)>,
}

impl Expanded {
    /// What the group of this number and name in the compiled expression is for.
    pub(super) fn group(&self, number: usize, name: &str) -> Group {
        let ours = name.strip_prefix(GROUP_PREFIX).and_then(|at| self.groups.get(at.parse::<usize>().ok()?));
        let (column, group_type) = match ours {
            Some((column, group_type)) => (column.clone(), *group_type),
            None => (name.to_owned(), GroupType::Text),
        };
        Group { number, column, group_type }
    }
}

/// Expands a pattern.
///
/// # Errors
/// Which reference is none, or that the expression gets too long.
pub(super) fn expand(pattern: &str) -> Result<Expanded, String> {
    let mut expanded = Expanded { text: String::with_capacity(4 * pattern.len()), groups: Vec::new() };
    push(pattern, 0, &mut expanded)?;
    Ok(expanded)
}

fn push(pattern: &str, depth: usize, expanded: &mut Expanded) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("its references go more than {MAX_DEPTH} deep"));
    }
    let mut rest = pattern;
    while let Some(start) = rest.find("%{") {
        expanded.text.push_str(&rest[..start]);
        let (inner, after) =
            rest[start + 2..].split_once('}').ok_or_else(|| format!("`{}` has no closing brace", &rest[start..]))?;
        push_reference(inner, depth, expanded)?;
        rest = after;
    }
    expanded.text.push_str(rest);
    if expanded.text.len() > MAX_EXPANDED_BYTES {
        return Err(format!("expanded, it has more than {MAX_EXPANDED_BYTES} bytes"));
    }
    Ok(())
}

fn push_reference(inner: &str, depth: usize, expanded: &mut Expanded) -> Result<(), String> {
    let mut parts = inner.splitn(3, ':');
    let name = parts.next().unwrap_or_default();
    let pattern = known(name).ok_or_else(|| unknown(name))?;
    match parts.next() {
        None => expanded.text.push_str("(?:"),
        Some(column) => {
            let group_type = group_type(inner, parts.next())?;
            open_group(inner, column, group_type, expanded)?;
        }
    }
    push(pattern, depth + 1, expanded)?;
    expanded.text.push(')');
    Ok(())
}

fn open_group(inner: &str, column: &str, group_type: GroupType, expanded: &mut Expanded) -> Result<(), String> {
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '@');
    if column.is_empty() || column.len() > MAX_NAME_BYTES || !column.chars().all(legal) {
        return Err(format!("`%{{{inner}}}` has no column name behind its colon: use letters, digits, _ . - @"));
    }
    if expanded.groups.len() >= MAX_GROUPS {
        return Err(format!("it has more than {MAX_GROUPS} columns"));
    }
    expanded.text.push_str(&format!("(?P<{GROUP_PREFIX}{}>", expanded.groups.len()));
    expanded.groups.push((column.to_owned(), group_type));
    Ok(())
}

fn group_type(inner: &str, name: Option<&str>) -> Result<GroupType, String> {
    match name {
        None | Some("text" | "string") => Ok(GroupType::Text),
        Some("int" | "long" | "bigint") => Ok(GroupType::Int),
        Some("float" | "double") => Ok(GroupType::Float),
        Some(other) => Err(format!("`%{{{inner}}}` has the type `{other}`; the types are int, float and text")),
    }
}

fn unknown(name: &str) -> String {
    let near = super::known::names().filter(|known| strsim::damerau_levenshtein(known, &name.to_uppercase()) <= 2);
    let hint = near.min_by_key(|known| strsim::damerau_levenshtein(known, &name.to_uppercase()));
    let hint = hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("there is no pattern called `{name}`{hint}")
}
