//! Which relations a SELECT can name, and what `a.b.c` means among them.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query, Select, SetExpr, TableFactor, TableWithJoins};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::{CATALOG, INFORMATION, PUBLIC, SYSTEM};

/// A relation in scope.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    /// What a user writes before a column, part by part.
    written: Vec<String>,
    /// What the planner knows it by.
    planned: Vec<String>,
    /// Whether it is a topic, with hidden columns that `*` must not show.
    pub(super) is_topic: bool,
}

/// The relations of one FROM clause.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) relations: Vec<Relation>,
    /// Whether `relations` are all there are: a table function, for one, may be missing.
    pub(super) complete: bool,
}

impl Scope {
    /// The relations of a SELECT's FROM clause; `is_cte` tells the names that are not tables.
    pub(super) fn of_select(select: &Select, is_cte: &dyn Fn(&str) -> bool) -> Self {
        let mut scope = Self { relations: Vec::new(), complete: true };
        select.from.iter().for_each(|from| scope.add_joins(from, is_cte));
        scope
    }

    /// The relations that ORDER BY of a query can name: those of all its SELECTs.
    pub(super) fn of_query(query: &Query, is_cte: &dyn Fn(&str) -> bool) -> Self {
        let mut scope = Self { relations: Vec::new(), complete: true };
        let mut pending = vec![&*query.body];
        while let Some(body) = pending.pop() {
            match body {
                SetExpr::Select(select) => scope.relations.extend(Self::of_select(select, is_cte).relations),
                SetExpr::SetOperation { left, right, .. } => pending.extend([&**left, &**right]),
                _ => {}
            }
        }
        scope
    }

    fn add_joins(&mut self, from: &TableWithJoins, is_cte: &dyn Fn(&str) -> bool) {
        self.add(&from.relation, is_cte);
        from.joins.iter().for_each(|join| self.add(&join.relation, is_cte));
    }

    fn add(&mut self, factor: &TableFactor, is_cte: &dyn Fn(&str) -> bool) {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let target = Target::of(name, is_cte);
                let is_topic = matches!(target, Target::Topic(_));
                match alias {
                    Some(alias) => self.push(vec![alias.name.value.clone()], vec![alias.name.value.clone()], is_topic),
                    None => self.add_table(name, target, is_topic),
                }
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.add_joins(table_with_joins, is_cte),
            TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. }
            | TableFactor::NestedJoin { alias: Some(alias), .. } => {
                self.push(vec![alias.name.value.clone()], vec![alias.name.value.clone()], false);
            }
            _ => self.complete = false,
        }
    }

    fn add_table(&mut self, name: &ObjectName, target: Target, is_topic: bool) {
        let written = parts(name);
        match target {
            Target::Own(schema, table) => {
                if written.len() > 2 {
                    self.push(written[1..].to_vec(), vec![schema.to_owned(), table.clone()], false);
                }
                self.push(written, vec![schema.to_owned(), table.clone()], false);
                self.push(vec![table.clone()], vec![schema.to_owned(), table], false);
            }
            Target::Topic(topic) | Target::Cte(topic) => {
                self.push(vec![topic.clone()], vec![topic.clone()], is_topic);
                if written.first().is_some_and(|first| first == CATALOG) && written.join(".") != topic {
                    self.push(written[1..].to_vec(), vec![topic.clone()], is_topic);
                }
                if written.len() > 1 {
                    self.push(written, vec![topic], is_topic);
                }
            }
        }
    }

    fn push(&mut self, written: Vec<String>, planned: Vec<String>, is_topic: bool) {
        self.relations.push(Relation { written, planned, is_topic });
    }

    /// The relation that `name` is, in full.
    pub(super) fn relation(&self, name: &ObjectName) -> Option<&Relation> {
        let name = parts(name);
        self.relations.iter().find(|relation| relation.written == name)
    }

    /// `relation.column` as the planner reads it, if `parts` begin with a relation of this scope.
    pub(super) fn qualify(&self, parts: &[Ident]) -> Option<Vec<Ident>> {
        let begins = |relation: &&Relation| {
            let written = &relation.written;
            written.len() < parts.len() && written.iter().zip(parts).all(|(name, part)| *name == part.value)
        };
        let relation = self.relations.iter().filter(begins).max_by_key(|relation| relation.written.len())?;
        let (qualifier, column) = parts.split_at(relation.written.len());
        let span = span_of(qualifier);
        let planned = relation.planned.iter().map(|part| ident(part.clone(), span));
        Some(planned.chain([dotted(column)]).collect())
    }
}

impl Relation {
    /// The name by which the planner knows the relation.
    pub(super) fn planned_name(&self) -> ObjectName {
        self.planned.iter().map(|part| ident(part.clone(), Span::empty())).collect::<Vec<_>>().into()
    }
}

/// What a name in FROM is.
#[derive(Debug)]
pub(super) enum Target {
    /// A table of our own: its schema, and its name.
    Own(&'static str, String),
    /// A topic; a dot in the name is part of it.
    Topic(String),
    /// A name that WITH defines.
    Cte(String),
}

impl Target {
    pub(super) fn of(name: &ObjectName, is_cte: &dyn Fn(&str) -> bool) -> Self {
        let parts = parts(name);
        match without_schema(&parts, |part| part) {
            [one] if parts.len() == 1 && is_cte(one) => Self::Cte(one.clone()),
            [schema, table] if schema == SYSTEM => Self::Own(SYSTEM, table.clone()),
            [schema, table] if schema == INFORMATION => Self::Own(INFORMATION, table.clone()),
            topic => Self::Topic(topic.join(".")),
        }
    }
}

/// A name without the catalog, and without the schema of topics. A topic whose own name begins like that is named in full, or
/// in quotes.
pub(super) fn without_schema<T>(parts: &[T], text: impl Fn(&T) -> &str) -> &[T] {
    let schemas = [PUBLIC, SYSTEM, INFORMATION];
    let rest = match parts {
        [catalog, rest @ ..] if text(catalog) == CATALOG => match rest {
            [schema, _, ..] if schemas.contains(&text(schema)) => rest,
            _ => parts,
        },
        _ => parts,
    };
    match rest {
        [schema, topic @ ..] if text(schema) == PUBLIC && !topic.is_empty() => topic,
        _ => rest,
    }
}

/// The parts of a name, without quotes.
pub(super) fn parts(name: &ObjectName) -> Vec<String> {
    idents(name).into_iter().map(|ident| ident.value).collect()
}

/// The identifiers of a name.
pub(super) fn idents(name: &ObjectName) -> Vec<Ident> {
    name.0.iter().filter_map(|part| part.as_ident()).cloned().collect()
}

/// One identifier out of several: the dotted column `a.b.c`.
pub(super) fn dotted(parts: &[Ident]) -> Ident {
    let value = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
    ident(value, span_of(parts))
}

fn span_of(parts: &[Ident]) -> Span {
    Span::union_iter(parts.iter().map(|part| part.span))
}

/// An identifier at a place of the text.
pub(super) fn ident(value: String, span: Span) -> Ident {
    Ident { value, quote_style: None, span }
}
